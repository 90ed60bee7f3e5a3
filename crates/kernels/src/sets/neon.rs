//! NEON, which every 64-bit Arm CPU has: 16 floats are four registers.
//!
//! Bytes are multiplied into 16 bits (`smull`, `smlal`) and pairs of those added to 32 bits
//! (`sadalp`). The largest sums in 16 bits are far from 32767: see [`products`].
//!
//! The other sets of this architecture take their floats from here.

use std::arch::aarch64::*;
use std::arch::asm;

use super::Set;
use crate::body::ahead::Lines;
use crate::body::grouped::MAX_GROUPS;
use crate::body::rows16::{self, LaneSums};

pub(super) mod attention;
pub(super) mod columns;
mod lanes;
pub(super) mod lookup;
pub(super) mod popcount;
pub(super) mod products;
pub(super) mod ternary;

pub(crate) use lanes::Lanes;

crate::sets::kernel_set!("neon", Neon, target_feature(enable = "neon"));

/// The features this CPU lacks.
pub(crate) fn missing() -> Vec<&'static str> {
    super::lacking(&[("neon", std::arch::is_aarch64_feature_detected!("neon"))])
}

/// Proof that the CPU has this set's features.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    /// # Safety
    /// The CPU must have NEON.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

/// Asks for the cache line at `line`.
#[inline(always)]
pub(super) fn prefetch(line: *const u8) {
    // SAFETY: a prefetch takes any address and changes nothing a program can see.
    unsafe {
        asm!("prfm pldl1keep, [{}]", in(reg) line, options(nomem, nostack, preserves_flags));
    }
}

/// Asks for the cache line at `line`.
#[inline(always)]
pub(super) fn prefetch_early(line: *const u8) {
    // SAFETY: a prefetch takes any address and changes nothing a program can see.
    unsafe {
        asm!("prfm pldl2keep, [{}]", in(reg) line, options(nomem, nostack, preserves_flags));
    }
}

/// 16 of 64 bytes.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
pub(super) unsafe fn quarter(bytes: &[u8; 64], q: usize) -> uint8x16_t {
    let part = &bytes.as_chunks::<16>().0[q];
    // SAFETY: 16 bytes can be read there; the caller vouches for the instructions.
    unsafe { vld1q_u8(part.as_ptr()) }
}

/// 16 of 64 signed bytes.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
pub(super) unsafe fn quarter_i8(bytes: &[i8; 64], q: usize) -> int8x16_t {
    let part = &bytes.as_chunks::<16>().0[q];
    // SAFETY: 16 bytes can be read there; the caller vouches for the instructions.
    unsafe { vld1q_s8(part.as_ptr()) }
}

/// What every set of this architecture shares, to be written into its `impl Set`.
macro_rules! shared {
    () => {
        type F = $crate::sets::neon::Lanes;
        type I = std::arch::aarch64::int32x4_t;
        const I8_BIAS: i32 = 0;
        const MANY_FLOATS: bool = false;

        #[inline(always)]
        fn splat(self, x: f32) -> Self::F {
            // SAFETY: the token proves the features.
            unsafe { Self::F::splat(x) }
        }

        #[inline(always)]
        fn load(self, x: &[f32; 16]) -> Self::F {
            // SAFETY: the token proves the features.
            unsafe { Self::F::load(x) }
        }

        #[inline(always)]
        fn load_f32(self, bytes: &[u8; 64]) -> Self::F {
            // SAFETY: the token proves the features.
            unsafe { Self::F::load_f32(bytes) }
        }

        #[inline(always)]
        fn load_f16(self, bytes: &[u8; 32]) -> Self::F {
            // SAFETY: the token proves the features.
            unsafe { Self::F::load_f16(bytes) }
        }

        #[inline(always)]
        fn load_bf16(self, bytes: &[u8; 32]) -> Self::F {
            // SAFETY: the token proves the features.
            unsafe { Self::F::load_bf16(bytes) }
        }

        #[inline(always)]
        fn prefetch(self, line: *const u8) {
            $crate::sets::neon::prefetch(line);
        }

        #[inline(always)]
        fn prefetch_early(self, line: *const u8) {
            $crate::sets::neon::prefetch_early(line);
        }

        #[inline(always)]
        fn zero_sums(self) -> Self::I {
            // SAFETY: the token proves the features.
            unsafe { std::arch::aarch64::vdupq_n_s32(0) }
        }

        #[inline(always)]
        fn sum(self, lanes: Self::I) -> i32 {
            // SAFETY: the token proves the features.
            unsafe { std::arch::aarch64::vaddvq_s32(lanes) }
        }

        #[inline(always)]
        fn i8_i16<const R: usize, const T: usize>(
            self,
            acc: &mut [[Self::I; T]; R],
            w: [&[u8; 32]; R],
            x: [&[i16; 32]; T],
        ) {
            // SAFETY: the token proves the features.
            unsafe { $crate::sets::neon::attention::i8_i16(acc, w, x) }
        }

        #[inline(always)]
        fn weighted_sums<const T: usize>(
            self,
            rows: &[u8],
            stride: usize,
            pairs: std::ops::Range<usize>,
            weights: &[[i16; $crate::KV_BLOCK]; T],
            ahead: $crate::body::attend::requests::Requests,
        ) -> [[i32; 32]; T] {
            // SAFETY: the token proves the features.
            unsafe {
                $crate::sets::neon::attention::weighted(self, rows, stride, pairs, weights, ahead)
            }
        }

        #[inline(always)]
        fn looked_up<const R: usize>(
            self,
            steps: [&[$crate::body::lookup::Step]; R],
            tables: &[[$crate::body::lookup::Table; $crate::body::lookup::STEP]],
            ahead: [$crate::body::ahead::Lines; R],
            scale_lines: usize,
            sums: &mut [[i32; $crate::body::lookup::BAND]; R],
        ) {
            for r in 0..R {
                for line in 1..=scale_lines {
                    self.prefetch(ahead[r][0].wrapping_sub(64 * line));
                }
                let sums = &mut sums[r];
                // SAFETY: the token proves the features.
                unsafe {
                    $crate::sets::neon::lookup::looked_up(
                        &steps[r][0],
                        &tables[0],
                        ahead[r][0],
                        sums,
                    );
                }
            }
        }

        #[inline(always)]
        fn t2_columns(
            self,
            strip: $crate::body::columns::Strip<'_>,
            batch: &$crate::body::columns::Batch,
            sums: &mut [i32; $crate::body::columns::STRIP],
            ahead: &mut impl $crate::body::ahead::Ahead,
        ) {
            (0..batch.len).for_each(|i| ahead.request(self, i, 0));
            // SAFETY: the token proves the features.
            unsafe { $crate::sets::neon::columns::t2_columns(strip, batch, sums) }
        }
    };
}
pub(super) use shared;

/// The products of signs, of the sets whose registers have 16 bytes.
macro_rules! differing {
    () => {
        #[inline(always)]
        fn differing<A: $crate::body::ahead::Ahead, const R: usize, const T: usize>(
            self,
            w: [&[[u8; 64]]; R],
            ahead: A,
            x: [&[[u8; 64]]; T],
            mask: &[u8; 64],
        ) -> [[u32; T]; R] {
            // SAFETY: the token proves the features.
            unsafe { $crate::sets::neon::popcount::differing(self, w, ahead, x, mask) }
        }
    };
}
pub(super) use differing;

impl Set for Neon {
    const MANY_REGISTERS: bool = false;
    shared!();
    differing!();

    #[inline(always)]
    fn lane_sums<const R: usize, const T: usize>(
        self,
        steps: [&rows16::Step; R],
        x: [&rows16::Fours; T],
        ahead: [Lines; R],
    ) -> LaneSums<R, T> {
        let mut sums = [[[0; rows16::BAND]; T]; R];
        for r in 0..R {
            // SAFETY: the token proves the features.
            sums[r] = unsafe { ternary::lane_sums(steps[r], x, ahead[r][0]) };
        }
        sums
    }

    #[inline(always)]
    fn t2<const R: usize, const T: usize>(
        self,
        acc: &mut [[int32x4_t; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 4]; T],
    ) {
        for r in 0..R {
            // SAFETY: the token proves the features.
            unsafe { products::t2_atom(&mut acc[r], w[r], &x) }
        }
    }

    #[inline(always)]
    fn b1<const R: usize, const T: usize>(
        self,
        acc: &mut [[int32x4_t; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 8]; T],
    ) {
        for r in 0..R {
            // SAFETY: the token proves the features.
            unsafe { products::b1_atom(&mut acc[r], w[r], &x) }
        }
    }

    #[inline(always)]
    fn i8<const R: usize, const T: usize>(
        self,
        acc: &mut [[int32x4_t; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 1]; T],
    ) {
        for r in 0..R {
            // SAFETY: the token proves the features.
            unsafe { products::i8_atom(&mut acc[r], w[r], &x) }
        }
    }

    #[inline(always)]
    fn group_dots<const BITS: usize, const R: usize, const T: usize>(
        self,
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]]; T],
    ) -> [[[i32; R]; MAX_GROUPS]; T] {
        let mut dots = [[[0; R]; MAX_GROUPS]; T];
        for r in 0..R {
            // SAFETY: the token proves the features.
            unsafe { products::group_dots::<BITS, R, T>(&mut dots, r, w[r], &x) }
        }
        dots
    }
}
