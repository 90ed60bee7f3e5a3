//! AMX: what `avx512` does, and for 16 and more tokens its panels with tiles of 16 x 64 bytes. One `tdpbsud` adds 16 x
//! 16 x 64 products of signed by unsigned bytes to 16 x 16 `i32` sums without rounding or saturation.
//!
//! The intrinsics and the detection of AMX are not in stable Rust yet: the instructions are inline
//! assembly, and [`detect`] asks CPUID.

use onebit_format::{Layout, Scales};

use super::avx512::{self, Avx512};
use crate::body::columns::Columns;
use crate::body::gemm::panel::I4;
use crate::body::gemm::rows16::T2R16;
use crate::body::gemm::rows64::B1R64;
use crate::body::gemm::tiled::{STEP, TILE, Tiles};
use crate::body::gemm::{self, bands, columns, side};
use crate::body::grouped::Scaled;
use crate::body::{Product, Rows, int};
use crate::input::{I8GroupRows, I8Rows};
use crate::kernels::Kernels;
use crate::tiles::TileMut;

mod detect;
mod limits;
mod unit;

pub(crate) use detect::{missing, permission};
use unit::Amx;

/// The kernels of this set.
pub(crate) const TABLE: Kernels = Kernels {
    name: "amx",
    // Where products take this little time, reading and unpacking weights counts.
    batch: 512,
    t2,
    t5,
    t5r5,
    t2r16,
    b1r64,
    b1,
    i8,
    t2_columns,
    i4,
    grouped,
    by_group,
    scaled: Some(scaled),
    multiply: limits::multiply,
    ..avx512::TABLE
};

type Engine<'a> = Tiles<'a, Avx512, Amx>;

/// Defines an entry: tiles where these are `$worthwhile`, else the entry of `avx512`.
macro_rules! entry {
    ($name:ident, $job:ty => $out:ty, $worthwhile:ident, $tiles:expr) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,f16c")]
        unsafe fn $name(job: &$job, out: &mut TileMut<'_, $out>) {
            // SAFETY: whoever calls through the table got it from the registry, which offers it only when the CPU has the
            // features of this set, which include those of `avx512`, and the kernel lets this process use tiles.
            unsafe {
                if $worthwhile(job) {
                    let (set, unit) = (Avx512::assume(), &Amx::configure());
                    $tiles(Tiles { set, unit }, job, out)
                } else {
                    (avx512::TABLE.$name)(job, out)
                }
            }
        }
    };
}

/// Defines an entry of exact sums, and what leaves them scaled: bits of `f32` in their place.
macro_rules! exact {
    ($name:ident, $scaled:ident, $worthwhile:ident, $tiles:expr) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,f16c")]
        unsafe fn $name(job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
            // SAFETY: as for the other entries.
            unsafe {
                if $worthwhile(job) {
                    $scaled(job, Scales::None, out)
                } else {
                    (avx512::TABLE.$name)(job, out)
                }
            }
        }

        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,f16c")]
        unsafe fn $scaled(
            job: &Product<'_, I8Rows<'_>>,
            scales: Scales<'_>,
            out: &mut TileMut<'_, i32>,
        ) {
            // SAFETY: as for the other entries.
            unsafe {
                let (set, unit) = (Avx512::assume(), &Amx::configure());
                $tiles(Tiles { set, unit }, job, scales, out)
            }
        }
    };
}

exact!(t2, scaled_t2, by_rows, gemm::sums::<Engine<'_>, int::T2, 4>);
exact!(t5, scaled_t5, by_rows, gemm::sums::<Engine<'_>, int::T5, 5>);
exact!(t5r5, scaled_t5r5, by_rows, bands::sums);
exact!(
    t2r16,
    scaled_t2r16,
    by_bands,
    side::sums::<T2R16, Engine<'_>>
);
exact!(
    b1r64,
    scaled_b1r64,
    by_bands,
    side::sums::<B1R64, Engine<'_>>
);
exact!(b1, scaled_b1, by_rows, gemm::sums::<Engine<'_>, int::B1, 8>);
exact!(i8, scaled_i8, by_rows, gemm::sums::<Engine<'_>, int::I8, 1>);
entry!(t2_columns, Columns<'_> => i32, by_columns, columns::sums);
entry!(i4, Product<'_, I8Rows<'_>> => f32, by_rows, gemm::grouped::product::<Engine<'_>, _, I4, 4, 2>);
entry!(grouped, Product<'_, I8Rows<'_>> => f32, by_group_layout, of_groups);
entry!(by_group, Product<'_, I8GroupRows<'_>> => f32, by_group_layout, of_groups);

/// Exact sums that are scaled as they leave the tiles, where tiles are worthwhile; else it returns `false`.
unsafe fn scaled(job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, f32>) -> bool {
    let (tiles, worthwhile): (unsafe fn(&_, _, &mut _), _) = match job.w.layout() {
        Layout::T2 => (scaled_t2, by_rows(job)),
        Layout::T5 => (scaled_t5, by_rows(job)),
        Layout::T5R5 => (scaled_t5r5, by_rows(job)),
        Layout::T2R16 => (scaled_t2r16, by_bands(job)),
        Layout::B1R64 => (scaled_b1r64, by_bands(job)),
        Layout::B1 => (scaled_b1, by_rows(job)),
        Layout::I8 => (scaled_i8, by_rows(job)),
        _ => return false,
    };
    if worthwhile {
        // SAFETY: as for the other entries.
        unsafe { tiles(job, job.w.scales(), &mut out.as_sums()) };
    }
    worthwhile
}

/// Products with scales by group of columns.
#[inline(always)]
fn of_groups<X: Scaled>(e: Engine<'_>, job: &Product<'_, X>, out: &mut TileMut<'_, f32>) {
    match job.w.layout() {
        Layout::T2R16 => side::products::<T2R16, _, X>(e, job, out),
        Layout::B1R64 => side::products::<B1R64, _, X>(e, job, out),
        Layout::T2 => gemm::grouped::product::<_, X, int::T2, 2, 4>(e, job, out),
        _ => gemm::grouped::product::<_, X, int::B1, 1, 8>(e, job, out),
    }
}

/// Whether tiles can be filled by a matrix of rows, whose padded columns are whole steps.
fn by_rows<X: Rows>(job: &Product<'_, X>) -> bool {
    job.x.tokens() >= TILE && job.w.band_bytes() > 0
}

/// The same of a matrix of bands of rows side by side.
fn by_bands<X: Rows>(job: &Product<'_, X>) -> bool {
    let band = job.w.layout().atom_rows();
    by_rows(job) && job.w.padded_cols().is_multiple_of(STEP) && job.rows.start.is_multiple_of(band)
}

/// The same of either.
fn by_group_layout<X: Rows>(job: &Product<'_, X>) -> bool {
    match job.w.layout() {
        Layout::T2R16 | Layout::B1R64 => by_bands(job),
        _ => by_rows(job),
    }
}

/// The same of a matrix stored transposed.
fn by_columns(job: &Columns<'_>) -> bool {
    job.x.tokens() >= TILE && job.w.rows() > 0 && job.w.rows().is_multiple_of(STEP)
}
