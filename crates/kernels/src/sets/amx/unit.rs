//! The instructions.

use std::arch::asm;
use std::arch::x86_64::*;

use crate::body::tiled::pack::Right;
use crate::body::tiled::{ROWS, STEP, Sums, TILE, Unit};
use crate::sets::avx512::in_order;

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

/// Bytes from a line of a tile of weights to the next.
const RIGHT_STRIDE: usize = 64;

/// Bytes from a row of sums to the next.
const SUMS_STRIDE: usize = 4 * ROWS;

impl Unit for Amx {
    #[inline(always)]
    fn transpose(&self, rows: [&[u8; 64]; TILE]) -> [[u8; 64]; TILE] {
        // SAFETY: the value proves AVX-512F.
        unsafe { transpose(rows) }
    }

    #[inline(always)]
    fn multiply<const N: usize>(
        &self,
        left: [&[i8]; N],
        stride: usize,
        right: &[[Right; 2]],
        sums: &mut [Sums; N],
        fresh: bool,
    ) {
        const { assert!(N == 1 || N == 2) };
        assert!(!right.is_empty(), "no columns");
        for left in left {
            let needed = (TILE - 1) * stride + right.len() * STEP;
            assert!(needed <= left.len(), "a tile of {needed} in {}", left.len());
        }
        // SAFETY: the value proves the instructions and 8 whole tiles. The left tiles lie within
        // their slices, as was just checked, for every step; the right tiles and the sums are the
        // memory of their types.
        unsafe {
            match N {
                1 => one(left[0].as_ptr(), stride, right, sums.as_mut_ptr(), fresh),
                _ => two(
                    [left[0].as_ptr(), left[N - 1].as_ptr()],
                    stride,
                    right,
                    sums.as_mut_ptr(),
                    fresh,
                ),
            }
        }
    }

    #[inline(always)]
    fn prefetch(&self, line: *const u8) {
        // SAFETY: a prefetch takes any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }
}

/// Multiplies 16 tokens and 32 rows: sums in tiles 0 and 1, activations in 4, weights in 6 and 7.
///
/// # Safety
/// The CPU must have AMX-INT8, with 8 whole tiles configured. `left` must be valid for reads of 16
/// rows, `stride` apart, of 64 bytes per step, of which there is at least one; `sums` for reads and
/// writes of one element.
unsafe fn one(left: *const i8, stride: usize, right: &[[Right; 2]], sums: *mut Sums, fresh: bool) {
    // SAFETY: the caller vouches for the instructions and the memory.
    unsafe {
        asm!(
            "test {fresh:e}, {fresh:e}",
            "jz 2f",
            "tilezero tmm0",
            "tilezero tmm1",
            "jmp 3f",
            "2:",
            "tileloadd tmm0, [{sums} + {sums_stride}]",
            "tileloadd tmm1, [{sums} + {sums_stride} + 64]",
            "3:",
            "tileloadd tmm4, [{left} + {stride}]",
            "tileloadd tmm6, [{right} + {right_stride}]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{right} + {right_stride} + 1024]",
            "tdpbssd tmm1, tmm4, tmm7",
            "add {left}, 64",
            "add {right}, 2048",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{sums} + {sums_stride}], tmm0",
            "tilestored [{sums} + {sums_stride} + 64], tmm1",
            fresh = in(reg) u32::from(fresh),
            left = inout(reg) left => _,
            stride = in(reg) stride,
            right = inout(reg) right.as_ptr() => _,
            right_stride = in(reg) RIGHT_STRIDE,
            sums = in(reg) sums,
            sums_stride = in(reg) SUMS_STRIDE,
            steps = inout(reg) right.len() => _,
            out("tmm0") _, out("tmm1") _, out("tmm4") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Multiplies 32 tokens and 32 rows: sums in tiles 0 to 3, activations in 4 and 5, weights in 6 and
/// 7.
///
/// # Safety
/// As for [`one`], for both of `left` and two elements of `sums`.
unsafe fn two(
    left: [*const i8; 2],
    stride: usize,
    right: &[[Right; 2]],
    sums: *mut Sums,
    fresh: bool,
) {
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
            "tileloadd tmm0, [{sums} + {sums_stride}]",
            "tileloadd tmm1, [{sums} + {sums_stride} + 64]",
            "tileloadd tmm2, [{sums} + {sums_stride} + 2048]",
            "tileloadd tmm3, [{sums} + {sums_stride} + 2112]",
            "3:",
            "tileloadd tmm4, [{left} + {stride}]",
            "tileloadd tmm6, [{right} + {right_stride}]",
            "tdpbssd tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{right} + {right_stride} + 1024]",
            "tdpbssd tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{left2} + {stride}]",
            "tdpbssd tmm2, tmm5, tmm6",
            "tdpbssd tmm3, tmm5, tmm7",
            "add {left}, 64",
            "add {left2}, 64",
            "add {right}, 2048",
            "dec {steps}",
            "jnz 3b",
            "tilestored [{sums} + {sums_stride}], tmm0",
            "tilestored [{sums} + {sums_stride} + 64], tmm1",
            "tilestored [{sums} + {sums_stride} + 2048], tmm2",
            "tilestored [{sums} + {sums_stride} + 2112], tmm3",
            fresh = in(reg) u32::from(fresh),
            left = inout(reg) left[0] => _,
            left2 = inout(reg) left[1] => _,
            stride = in(reg) stride,
            right = inout(reg) right.as_ptr() => _,
            right_stride = in(reg) RIGHT_STRIDE,
            sums = in(reg) sums,
            sums_stride = in(reg) SUMS_STRIDE,
            steps = inout(reg) right.len() => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Transposes 16 x 16 words of 4 bytes.
///
/// # Safety
/// The CPU must have AVX-512F.
#[inline(always)]
unsafe fn transpose(rows: [&[u8; 64]; TILE]) -> [[u8; 64]; TILE] {
    let mut out = [[0; 64]; TILE];
    // SAFETY: the caller vouches for the instructions; what is loaded and stored is 64 bytes.
    unsafe {
        let mut pairs = [_mm512_setzero_si512(); TILE];
        for (r, pair) in pairs.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let a = _mm512_loadu_si512(rows[2 * r].as_ptr().cast());
            let b = _mm512_loadu_si512(rows[2 * r + 1].as_ptr().cast());
            *pair = [_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)];
        }
        // Vector `4 r + c` of `fours` has, in each 128-bit lane `l`, word `4 l + c` of rows
        // `4 r..4 r + 4`.
        let mut fours = [_mm512_setzero_si512(); TILE];
        for (pairs, fours) in pairs
            .as_chunks::<4>()
            .0
            .iter()
            .zip(fours.as_chunks_mut::<4>().0)
        {
            let [low, high, low2, high2] = *pairs;
            *fours = [
                _mm512_unpacklo_epi64(low, low2),
                _mm512_unpackhi_epi64(low, low2),
                _mm512_unpacklo_epi64(high, high2),
                _mm512_unpackhi_epi64(high, high2),
            ];
        }
        for c in 0..4 {
            let lines = in_order([fours[c], fours[4 + c], fours[8 + c], fours[12 + c]]);
            for (l, line) in lines.into_iter().enumerate() {
                _mm512_storeu_si512(out[4 * l + c].as_mut_ptr().cast(), line);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_transposed() {
        if !is_x86_feature_detected!("avx512f") {
            return;
        }
        let mut rows = [[0; 64]; TILE];
        for (j, row) in rows.iter_mut().enumerate() {
            for (i, byte) in row.iter_mut().enumerate() {
                *byte = (j * 16 + i / 4) as u8 ^ (i % 4 * 85) as u8;
            }
        }
        // SAFETY: the CPU has AVX-512F.
        let lines = unsafe { transpose(rows.each_ref()) };
        for (n, line) in lines.iter().enumerate() {
            for (j, word) in line.as_chunks::<4>().0.iter().enumerate() {
                assert_eq!(word[..], rows[j][4 * n..][..4], "word {n} of row {j}");
            }
        }
    }
}
