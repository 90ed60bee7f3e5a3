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

/// Tiles that this thread has configured, released when dropped. Compiled code neither uses nor
/// changes tiles or their configuration, so they outlast one block of assembly. Only the thread that
/// configured them has them: the pointer keeps the value there.
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
        let block = Block {
            left: [left.tiles[0].as_ptr(), left.tiles[N - 1].as_ptr()],
            stride: left.stride,
            right: lines.as_ptr().cast(),
            steps,
            sums: sums.as_mut_ptr().cast(),
            fresh,
        };
        // SAFETY: the value proves the instructions and 8 whole tiles. The tiles of activations, weights and sums lie within their
        // slices, as was just checked, for every step.
        unsafe {
            match (SIGNED, N) {
                (false, 1) => one_unsigned(block),
                (false, _) => two_unsigned(block),
                (true, 1) => one_signed(block),
                (true, _) => two_signed(block),
            }
        }
    }
}

/// Bytes from a line of weights to the next, and from the sums of a token to those of the next.
const LINE: usize = PAIR * size_of::<Unit>();

/// What a block of assembly works on.
struct Block {
    left: [*const i8; 2],
    /// Bytes from a token to the next.
    stride: usize,
    right: *const u8,
    steps: usize,
    sums: *mut u8,
    fresh: bool,
}

/// Defines what multiplies 16, and 32, tokens and 32 rows with an instruction for signed activations.
macro_rules! blocks {
    ($product:literal, $one:ident, $two:ident) => {
        /// Multiplies 16 tokens and 32 rows: sums in tiles 0 and 1, activations in 4, weights in 6 and 7.
        ///
        /// # Safety
        /// The CPU must have AMX-INT8, with 8 whole tiles configured. `left[0]` must be valid for reads of 16 rows, `stride` apart,
        /// of 64 bytes per step, of which there is at least one; `right` for reads of 16 lines per step, of 128 bytes; `sums`
        /// for reads and writes of 16 lines of 128 bytes.
        unsafe fn $one(block: Block) {
            // SAFETY: the caller vouches for the instructions and the memory.
            unsafe {
                asm!(
                    "test {fresh:e}, {fresh:e}",
                    "jz 2f",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "jmp 3f",
                    "2:",
                    "tileloadd tmm0, [{sums} + {line}]",
                    "tileloadd tmm1, [{sums} + {line} + 64]",
                    "3:",
                    "tileloaddt1 tmm4, [{left} + {stride}]",
                    "tileloadd tmm6, [{right} + {line}]",
                    concat!($product, " tmm0, tmm4, tmm6"),
                    "tileloadd tmm7, [{right} + {line} + 64]",
                    concat!($product, " tmm1, tmm4, tmm7"),
                    "add {left}, 64",
                    "add {right}, {lines}",
                    "dec {steps}",
                    "jnz 3b",
                    "tilestored [{sums} + {line}], tmm0",
                    "tilestored [{sums} + {line} + 64], tmm1",
                    fresh = in(reg) u32::from(block.fresh),
                    left = inout(reg) block.left[0] => _,
                    stride = in(reg) block.stride,
                    right = inout(reg) block.right => _,
                    line = in(reg) LINE,
                    lines = const TILE * LINE,
                    sums = in(reg) block.sums,
                    steps = inout(reg) block.steps => _,
                    out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }

        /// Multiplies 32 tokens and 32 rows: sums in tiles 0 to 3, activations in 4 and 5, weights in 6 and 7.
        ///
        /// # Safety
        /// As for 16 tokens, for both of `left` and 32 lines of `sums`.
        unsafe fn $two(block: Block) {
            // SAFETY: the caller vouches for the instructions and the memory.
            unsafe {
                asm!(
                    "test {fresh:e}, {fresh:e}",
                    "jz 2f",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "jmp 3f",
                    "2:",
                    "tileloadd tmm0, [{sums} + {line}]",
                    "tileloadd tmm1, [{sums} + {line} + 64]",
                    "tileloadd tmm2, [{sums2} + {line}]",
                    "tileloadd tmm3, [{sums2} + {line} + 64]",
                    "3:",
                    "tileloaddt1 tmm4, [{left} + {stride}]",
                    "tileloadd tmm6, [{right} + {line}]",
                    concat!($product, " tmm0, tmm4, tmm6"),
                    "tileloadd tmm7, [{right} + {line} + 64]",
                    concat!($product, " tmm1, tmm4, tmm7"),
                    "tileloaddt1 tmm5, [{left2} + {stride}]",
                    concat!($product, " tmm2, tmm5, tmm6"),
                    concat!($product, " tmm3, tmm5, tmm7"),
                    "add {left}, 64",
                    "add {left2}, 64",
                    "add {right}, {lines}",
                    "dec {steps}",
                    "jnz 3b",
                    "tilestored [{sums} + {line}], tmm0",
                    "tilestored [{sums} + {line} + 64], tmm1",
                    "tilestored [{sums2} + {line}], tmm2",
                    "tilestored [{sums2} + {line} + 64], tmm3",
                    fresh = in(reg) u32::from(block.fresh),
                    left = inout(reg) block.left[0] => _,
                    left2 = inout(reg) block.left[1] => _,
                    stride = in(reg) block.stride,
                    right = inout(reg) block.right => _,
                    line = in(reg) LINE,
                    lines = const TILE * LINE,
                    sums = in(reg) block.sums,
                    sums2 = in(reg) block.sums.wrapping_add(TILE * LINE),
                    steps = inout(reg) block.steps => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

blocks!("tdpbsud", one_unsigned, two_unsigned);
blocks!("tdpbssd", one_signed, two_signed);
