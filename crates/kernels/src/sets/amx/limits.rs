//! What tiles can do at best: as many loads as products, from the second-level cache.

use super::unit::Amx;
use crate::AlignedVec;
use crate::body::gemm::panel::Unit;
use crate::body::gemm::tiled::{Left, MatrixUnit, PAIR, Right, STEP, TILE};
use crate::body::limits::MULTIPLIED;

/// Bytes of activations, and of weights: more than the first-level cache has, less than the second.
const BYTES: usize = 256 << 10;

/// Tokens of a block, 32, which is also its number of rows.
const SIDE: usize = 2 * TILE;

/// Columns that are multiplied before sums are stored.
const COLS: usize = BYTES / SIDE;

/// Bytes like those of models: tiles take longer for them than for bytes that are all the same.
struct Random(u32);

impl Random {
    /// A linear congruential generator (Numerical Recipes, 2nd edition, section 7.1).
    fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 24) as u8
    }
}

/// Does at least as many products as are counted for so many rounds, of blocks of 2 x 2 tiles. Returns a number that depends on all
/// of them.
///
/// # Safety
/// The CPU must have AVX-512F and AMX-INT8, and the process the permission to use tile data.
pub(super) unsafe fn multiply(rounds: usize, ternary: bool) -> i32 {
    let planes = if ternary { 4 } else { 1 };
    let products = rounds as u64 * planes * MULTIPLIED;
    // SAFETY: the caller vouches for the instructions.
    let unit = unsafe { Amx::configure() };
    // A token's codes are a line of memory more than a power of two apart, as in real shapes: else all would have the same place in
    // the cache.
    let stride = COLS + STEP;
    let mut random = Random(1);
    let mut x = AlignedVec::zeroed(SIDE * stride);
    x.fill_with(|| random.byte() as i8);
    let mut w: AlignedVec<Unit> = AlignedVec::zeroed(BYTES / size_of::<Unit>());
    w.as_flattened_mut().fill_with(|| match ternary {
        true => random.byte() % 3,
        false => random.byte(),
    });
    let mut sums = AlignedVec::zeroed(SIDE * PAIR);
    let left = Left {
        tiles: [&x[..TILE * stride], &x[TILE * stride..]],
        stride,
    };
    let right = Right {
        lines: &w,
        steps: COLS / STEP,
    };
    for _ in 0..products.div_ceil((SIDE * SIDE * COLS) as u64) {
        unit.multiply::<false, 2>(&left, &right, &mut sums, false, || {});
    }
    sums.as_flattened().iter().fold(0, |all, sum| all ^ sum)
}
