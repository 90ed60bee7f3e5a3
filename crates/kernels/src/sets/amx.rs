//! AMX: what `avx512` does, and for 16 and more tokens products of ternary, binary and int8 weights
//! with tiles of 16 x 64 bytes. One `tdpbssd` adds 16 x 16 x 64 products of signed bytes to 16 x 16
//! `i32` sums without rounding or saturation.
//!
//! The intrinsics and the detection of AMX are not in stable Rust yet: the instructions are inline
//! assembly, and [`detect`] asks CPUID.

use super::avx512;
use crate::body::Product;
use crate::body::int::{B1, I8, T2, T5, T5R5};
use crate::body::tiled::{self, pack::Weights};
use crate::input::I8Rows;
use crate::kernels::Kernels;
use crate::tiles::TileMut;

mod detect;
mod unit;

pub(crate) use detect::{missing, permission};
use unit::Amx;

/// The kernels of this set.
pub(crate) static TABLE: Kernels = Kernels {
    name: "amx",
    t2,
    t5,
    t5r5,
    b1,
    i8,
    ..avx512::TABLE
};

/// Defines an entry: tiles, or the entry of `avx512` where there is not a tile of tokens.
macro_rules! entry {
    ($name:ident, $layout:ty, $planes:literal) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
        unsafe fn $name(job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
            if worthwhile(job) {
                // SAFETY: whoever calls through the table got it from the registry, which offers it
                // only when the CPU has the features and the kernel lets this process use tiles.
                unsafe { sums::<$layout, $planes>(job, out) }
            } else {
                // SAFETY: the features of this set include those of `avx512`.
                unsafe { (avx512::TABLE.$name)(job, out) }
            }
        }
    };
}

entry!(t2, T2, 4);
entry!(t5, T5, 5);
entry!(t5r5, T5R5, 1);
entry!(b1, B1, 8);
entry!(i8, I8, 1);

/// Whether tiles can be filled.
fn worthwhile(job: &Product<'_, I8Rows<'_>>) -> bool {
    job.x.tokens() >= tiled::TILE && job.w.band_bytes() > 0
}

/// # Safety
/// The CPU must have the features of this set, and the process the kernel's permission.
#[inline(always)]
unsafe fn sums<L: Weights<P>, const P: usize>(
    job: &Product<'_, I8Rows<'_>>,
    out: &mut TileMut<'_, i32>,
) {
    // SAFETY: the caller vouches for features and permission.
    let unit = unsafe { Amx::configure() };
    tiled::sums::<_, L, P>(&unit, job, out);
}
