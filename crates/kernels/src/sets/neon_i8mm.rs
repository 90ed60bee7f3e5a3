//! NEON with 8-bit matrix products (Armv8.6 `i8mm`): `smmla` multiplies two rows of eight bytes by
//! two others and adds the four sums to the four `i32` lanes of a register.
//!
//! A single token has no second column to fill such a product, so it goes through `sdot`. With
//! several, pairs of rows and pairs of tokens make 2 x 2 tiles:
//!
//! ```text
//! a = row r,     bytes 0..8 | row r + 1,     bytes 0..8       zip1 of two rows' 16 bytes
//! b = token t,   bytes 0..8 | token t + 1,   bytes 0..8       zip1 of two tokens' 16 bytes
//! tile += a b'   lanes (r, t), (r, t + 1), (r + 1, t), (r + 1, t + 1)
//! ```
//!
//! and bytes 8..16 of all four, by zip2, go to a second tile. The weights are paired before they are
//! unpacked, so that pairing costs one instruction for all planes of 16 bytes.

use std::arch::aarch64::*;
use std::arch::asm;

use super::Set;
use super::neon::{quarter, quarter_i8};
use super::neon_dotprod::{group_dots, planes};
use crate::body::grouped::MAX_GROUPS;

crate::sets::kernel_set!(
    "neon-i8mm",
    NeonI8mm,
    target_feature(enable = "neon,dotprod,i8mm")
);

/// The features this CPU lacks.
pub(crate) fn missing() -> Vec<&'static str> {
    super::lacking(&[
        (
            "dotprod",
            std::arch::is_aarch64_feature_detected!("dotprod"),
        ),
        ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
    ])
}

/// Proof that the CPU has this set's features.
#[derive(Clone, Copy)]
pub(crate) struct NeonI8mm(());

impl NeonI8mm {
    /// # Safety
    /// The CPU must have NEON with dot products and matrix products.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

/// Adds the product of two rows and two columns of eight bytes.
///
/// # Safety
/// The CPU must have `i8mm`.
#[inline(always)]
unsafe fn smmla(mut tile: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the caller vouches for the instruction, which works on registers alone.
    unsafe {
        asm!(
            "smmla {tile:v}.4s, {a:v}.16b, {b:v}.16b",
            tile = inout(vreg) tile,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    tile
}

/// Bytes 0..8 of both, and bytes 8..16 of both.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
unsafe fn pair(a: uint8x16_t, b: uint8x16_t) -> [uint8x16_t; 2] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let (a, b) = (vreinterpretq_u64_u8(a), vreinterpretq_u64_u8(b));
        [
            vreinterpretq_u8_u64(vzip1q_u64(a, b)),
            vreinterpretq_u8_u64(vzip2q_u64(a, b)),
        ]
    }
}

/// Whether a block is made of 2 x 2 tiles.
const fn tiled(rows: usize, tokens: usize) -> bool {
    rows.is_multiple_of(2) && tokens.is_multiple_of(2)
}

/// Adds the products of atoms of `P` planes of codes of `BITS` bits. The tiles of rows r, r + 1 and
/// tokens t, t + 1 stand in `acc[r][t]` and `acc[r][t + 1]`.
///
/// # Safety
/// The CPU must have `i8mm`.
#[inline(always)]
unsafe fn tiles<const P: usize, const BITS: i32, const R: usize, const T: usize>(
    acc: &mut [[int32x4_t; T]; R],
    w: [&[u8; 64]; R],
    x: [&[[i8; 64]; P]; T],
) {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mask = vdupq_n_u8(0xff >> (8 - BITS));
        for q in 0..4 {
            let mut bytes = [vdupq_n_u8(0); R];
            for r in (0..R).step_by(2) {
                let [low, high] = pair(quarter(w[r], q), quarter(w[r + 1], q));
                (bytes[r], bytes[r + 1]) = (low, high);
            }
            for p in 0..P {
                let mut parts = [vdupq_n_u8(0); T];
                for t in (0..T).step_by(2) {
                    let a = vreinterpretq_u8_s8(quarter_i8(&x[t][p], q));
                    let b = vreinterpretq_u8_s8(quarter_i8(&x[t + 1][p], q));
                    let [low, high] = pair(a, b);
                    (parts[t], parts[t + 1]) = (low, high);
                }
                for r in 0..R {
                    let codes = vreinterpretq_s8_u8(vandq_u8(bytes[r], mask));
                    bytes[r] = vshrq_n_u8::<BITS>(bytes[r]);
                    let (row, half) = (r & !1, r & 1);
                    for t in (half..T).step_by(2) {
                        let x = vreinterpretq_s8_u8(parts[t]);
                        acc[row][t] = smmla(acc[row][t], codes, x);
                    }
                }
            }
        }
    }
}

impl NeonI8mm {
    #[inline(always)]
    fn products<const P: usize, const BITS: i32, const R: usize, const T: usize>(
        self,
        acc: &mut [[int32x4_t; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; P]; T],
    ) {
        // SAFETY: the token proves the features.
        unsafe {
            if tiled(R, T) {
                tiles::<P, BITS, R, T>(acc, w, x);
            } else {
                planes::<P, BITS, R, T>(acc, w, x);
            }
        }
    }
}

impl Set for NeonI8mm {
    const MANY_REGISTERS: bool = true;
    super::neon::shared!();
    super::neon_dotprod::in_lanes!();
    super::neon::differing!();

    #[inline(always)]
    fn t2<const R: usize, const T: usize>(
        self,
        acc: &mut [[int32x4_t; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 4]; T],
    ) {
        self.products::<4, 2, R, T>(acc, w, x);
    }

    #[inline(always)]
    fn b1<const R: usize, const T: usize>(
        self,
        acc: &mut [[int32x4_t; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 8]; T],
    ) {
        self.products::<8, 1, R, T>(acc, w, x);
    }

    #[inline(always)]
    fn i8<const R: usize, const T: usize>(
        self,
        acc: &mut [[int32x4_t; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 1]; T],
    ) {
        self.products::<1, 8, R, T>(acc, w, x);
    }

    #[inline(always)]
    fn group_dots<const BITS: usize, const R: usize, const T: usize>(
        self,
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]]; T],
    ) -> [[[i32; R]; MAX_GROUPS]; T] {
        // SAFETY: the token proves the features.
        unsafe { group_dots::<BITS, R, T>(w, x) }
    }

    #[inline(always)]
    fn block_sums<const R: usize, const T: usize>(self, acc: [[int32x4_t; T]; R]) -> [[i32; T]; R] {
        let mut sums = [[0; T]; R];
        for r in 0..R {
            for t in 0..T {
                sums[r][t] = if tiled(R, T) {
                    let (row, token) = (r & !1, t & !1);
                    let mut lanes = [0; 4];
                    // SAFETY: the token proves the features; four `i32` are written.
                    unsafe {
                        let tile = vaddq_s32(acc[row][token], acc[row][token | 1]);
                        vst1q_s32(lanes.as_mut_ptr(), tile);
                    }
                    lanes[2 * (r & 1) + (t & 1)]
                } else {
                    self.sum(acc[r][t])
                };
            }
        }
        sums
    }
}
