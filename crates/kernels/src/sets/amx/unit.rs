//! The instructions.

use std::arch::asm;

use crate::body::gemm::panel::{UNIT, Unit};
use crate::body::gemm::rows::PLANE;
use crate::body::gemm::tiled::{Left, MatrixUnit, PAIR, Right, STEP, TILE};

/// The shape of the 8 tiles, as `ldtilecfg` reads it.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    /// Bytes of a row, for each tile.
    row_bytes: [u16; 16],
    /// Rows, for each tile.
    rows: [u8; 16],
}

/// Eight whole tiles.
static CONFIG: Config = {
    let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
    let mut tile = 0;
    while tile < 8 {
        row_bytes[tile] = STEP as u16;
        rows[tile] = TILE as u8;
        tile += 1;
    }
    Config {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes,
        rows,
    }
};

/// Tiles that this thread has configured, released when dropped. Compiled code neither uses nor changes tiles or their
/// configuration, so both outlast a block of assembly: sums are in tiles 0 to 3 from the block that loads them to the one that stores
/// them, activations in 4 and 5, weights in 6 and 7. Only the thread that configured them has them: the pointer keeps the value there.
pub(super) struct Amx(std::marker::PhantomData<*const ()>);

impl Amx {
    /// # Safety
    /// The CPU must have AVX-512F and AMX-INT8, and the process the permission to use tile data.
    pub(super) unsafe fn configure() -> Self {
        const { assert!(size_of::<Config>() == 64) };
        // SAFETY: the caller vouches for the instruction, which reads the 64 bytes of a valid
        // configuration.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const CONFIG, options(nostack, readonly, preserves_flags));
        }
        Self(std::marker::PhantomData)
    }
}

impl Drop for Amx {
    fn drop(&mut self) {
        // SAFETY: the value proves the instruction, which touches nothing but the tiles.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
    }
}

impl MatrixUnit for Amx {
    #[inline(always)]
    fn multiply<const SIGNED: bool, const N: usize>(
        &self,
        left: &Left<'_, N>,
        right: &Right<'_>,
        sums: &mut [[i32; UNIT]],
        fresh: bool,
        mut between: impl FnMut(),
    ) {
        const { assert!(N == 1 || N == 2) };
        let Right { lines, steps } = *right;
        assert!(steps > 0, "no columns");
        for tile in left.tiles {
            let needed = (TILE - 1) * left.stride + steps * STEP;
            assert!(needed <= tile.len(), "a tile of {needed} in {}", tile.len());
        }
        let needed = steps * PLANE * PAIR;
        assert!(needed <= lines.len(), "{needed} lines in {}", lines.len());
        let needed = N * TILE * PAIR;
        assert!(needed <= sums.len(), "{needed} sums in {}", sums.len());
        let left_tiles = left.tiles.map(<[i8]>::as_ptr);
        let sums = sums.as_mut_ptr().cast::<u8>();
        let right = lines.as_ptr().cast::<u8>();
        // SAFETY: the value proves the instructions and 8 whole tiles. The tiles of activations, weights and sums lie within their
        // slices, as was just checked, for every step.
        unsafe {
            match fresh {
                true => zero(),
                false => load::<N>(sums),
            }
            for step in 0..steps {
                between();
                let tiles = left_tiles.map(|tile| tile.wrapping_add(step * STEP));
                let right = right.wrapping_add(step * TILE * LINE);
                match SIGNED {
                    true => step_signed::<N>(tiles, left.stride, right),
                    false => step_unsigned::<N>(tiles, left.stride, right),
                }
            }
            store::<N>(sums);
        }
    }
}

/// Bytes from a line of weights to the next, and from the sums of a token to those of the next.
const LINE: usize = PAIR * size_of::<Unit>();

/// Makes the sums of 32 tokens zero.
///
/// # Safety
/// The CPU must have AMX-INT8, with 8 whole tiles configured.
#[inline(always)]
unsafe fn zero() {
    // SAFETY: the caller vouches for the instructions, which touch no memory.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            options(nostack, nomem, preserves_flags),
        );
    }
}

/// Loads the sums of 16 tokens, `N` times.
///
/// # Safety
/// As for [`zero`]; `sums` must be valid for reads of `N` times 16 lines of 128 bytes.
#[inline(always)]
unsafe fn load<const N: usize>(sums: *const u8) {
    // SAFETY: the caller vouches for the instructions and the memory.
    unsafe {
        asm!(
            "tileloadd tmm0, [{sums} + {line}]",
            "tileloadd tmm1, [{sums} + {line} + 64]",
            sums = in(reg) sums,
            line = in(reg) LINE,
            out("tmm0") _, out("tmm1") _,
            options(nostack, readonly, preserves_flags),
        );
        if N == 2 {
            asm!(
                "tileloadd tmm2, [{sums} + {line}]",
                "tileloadd tmm3, [{sums} + {line} + 64]",
                sums = in(reg) sums.wrapping_add(TILE * LINE),
                line = in(reg) LINE,
                out("tmm2") _, out("tmm3") _,
                options(nostack, readonly, preserves_flags),
            );
        }
    }
}

/// Stores the sums of 16 tokens, `N` times.
///
/// # Safety
/// As for [`zero`]; `sums` must be valid for writes of `N` times 16 lines of 128 bytes.
#[inline(always)]
unsafe fn store<const N: usize>(sums: *mut u8) {
    // SAFETY: the caller vouches for the instructions and the memory.
    unsafe {
        asm!(
            "tilestored [{sums} + {line}], tmm0",
            "tilestored [{sums} + {line} + 64], tmm1",
            sums = in(reg) sums,
            line = in(reg) LINE,
            options(nostack, preserves_flags),
        );
        if N == 2 {
            asm!(
                "tilestored [{sums} + {line}], tmm2",
                "tilestored [{sums} + {line} + 64], tmm3",
                sums = in(reg) sums.wrapping_add(TILE * LINE),
                line = in(reg) LINE,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// Defines a step with an instruction for signed activations.
macro_rules! step {
    ($product:literal, $step:ident) => {
        /// Multiplies 16 tokens, `N` times, 64 columns and 32 rows.
        ///
        /// # Safety
        /// As for [`zero`]. `left` must be valid for reads of 16 rows, `stride` apart, of 64 bytes; `right` for reads of 16 lines
        /// of 128 bytes.
        #[inline(always)]
        unsafe fn $step<const N: usize>(left: [*const i8; N], stride: usize, right: *const u8) {
            // SAFETY: the caller vouches for the instructions and the memory.
            unsafe {
                asm!(
                    "tileloaddt1 tmm4, [{left} + {stride}]",
                    "tileloadd tmm6, [{right} + {line}]",
                    concat!($product, " tmm0, tmm4, tmm6"),
                    "tileloadd tmm7, [{right} + {line} + 64]",
                    concat!($product, " tmm1, tmm4, tmm7"),
                    left = in(reg) left[0],
                    stride = in(reg) stride,
                    right = in(reg) right,
                    line = in(reg) LINE,
                    out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, readonly, preserves_flags),
                );
                if N == 2 {
                    asm!(
                        "tileloaddt1 tmm5, [{left} + {stride}]",
                        concat!($product, " tmm2, tmm5, tmm6"),
                        concat!($product, " tmm3, tmm5, tmm7"),
                        left = in(reg) left[1],
                        stride = in(reg) stride,
                        out("tmm2") _, out("tmm3") _, out("tmm5") _,
                        options(nostack, readonly, preserves_flags),
                    );
                }
            }
        }
    };
}

step!("tdpbsud", step_unsigned);
step!("tdpbssd", step_signed);
