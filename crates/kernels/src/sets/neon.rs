//! NEON, which every 64-bit Arm CPU has: 16 floats are four registers.
//!
//! Bytes are multiplied into 16 bits (`smull`, `smlal`) and pairs of those added to 32 bits
//! (`sadalp`). The largest sums in 16 bits are far from 32767: see [`products`].
//!
//! The other sets of this architecture take their floats from here.

use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::{Add, Div, Mul, Sub};

use super::{Set, Vector};

pub(super) mod popcount;
pub(super) mod products;

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

/// 16 floats, lane `l` in element `l % 4` of register `l / 4`.
#[derive(Clone, Copy)]
pub(crate) struct Lanes(pub(super) [float32x4_t; 4]);

impl Lanes {
    /// # Safety
    /// The CPU must have NEON.
    #[inline(always)]
    pub(super) unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self([vdupq_n_f32(x); 4]) }
    }

    /// # Safety
    /// The CPU must have NEON.
    #[inline(always)]
    pub(super) unsafe fn load(x: &[f32; 16]) -> Self {
        let p = x.as_ptr();
        // SAFETY: the 16 floats are read four at a time; the caller vouches for the instructions.
        Self(unsafe {
            [
                vld1q_f32(p),
                vld1q_f32(p.add(4)),
                vld1q_f32(p.add(8)),
                vld1q_f32(p.add(12)),
            ]
        })
    }

    /// # Safety
    /// The CPU must have NEON.
    #[inline(always)]
    pub(super) unsafe fn load_f32(bytes: &[u8; 64]) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let mut lanes = [vdupq_n_f32(0.0); 4];
            for q in 0..4 {
                lanes[q] = vreinterpretq_f32_u8(quarter(bytes, q));
            }
            Self(lanes)
        }
    }

    /// # Safety
    /// The CPU must have NEON.
    #[inline(always)]
    pub(super) unsafe fn load_f16(bytes: &[u8; 32]) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let [low, high] = halves(bytes);
            Self([
                vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(low))),
                vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(low))),
                vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(high))),
                vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(high))),
            ])
        }
    }

    /// # Safety
    /// The CPU must have NEON.
    #[inline(always)]
    pub(super) unsafe fn load_bf16(bytes: &[u8; 32]) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let [low, high] = halves(bytes);
            Self([
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(low))),
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_high_u16(low))),
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(high))),
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_high_u16(high))),
            ])
        }
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

/// 16 half words.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
unsafe fn halves(bytes: &[u8; 32]) -> [uint16x8_t; 2] {
    let p = bytes.as_ptr();
    // SAFETY: the 32 bytes are read 16 at a time; the caller vouches for the instructions.
    unsafe {
        [
            vreinterpretq_u16_u8(vld1q_u8(p)),
            vreinterpretq_u16_u8(vld1q_u8(p.add(16))),
        ]
    }
}

/// Vector operators from intrinsics of two vectors. Multiply and add stay two instructions: nothing
/// here is contracted.
macro_rules! operators {
    ($($trait:ident $method:ident $intrinsic:ident;)*) => {$(
        impl $trait for Lanes {
            type Output = Self;
            #[inline(always)]
            fn $method(mut self, other: Self) -> Self {
                for q in 0..4 {
                    // SAFETY: a vector exists only where the features do.
                    self.0[q] = unsafe { $intrinsic(self.0[q], other.0[q]) };
                }
                self
            }
        }
    )*};
}

operators! {
    Add add vaddq_f32;
    Sub sub vsubq_f32;
    Mul mul vmulq_f32;
    Div div vdivq_f32;
}

impl Vector for Lanes {
    #[inline(always)]
    fn max(mut self, other: Self) -> Self {
        // SAFETY: a vector exists only where the features do.
        unsafe {
            // By comparison: `fmax` would keep a NaN on the left.
            for q in 0..4 {
                let (a, b) = (self.0[q], other.0[q]);
                self.0[q] = vbslq_f32(vcgtq_f32(a, b), a, b);
            }
            self
        }
    }

    #[inline(always)]
    fn min(mut self, other: Self) -> Self {
        // SAFETY: a vector exists only where the features do.
        unsafe {
            for q in 0..4 {
                let (a, b) = (self.0[q], other.0[q]);
                self.0[q] = vbslq_f32(vcltq_f32(a, b), a, b);
            }
            self
        }
    }

    #[inline(always)]
    fn abs(mut self) -> Self {
        // SAFETY: a vector exists only where the features do.
        unsafe {
            for q in 0..4 {
                self.0[q] = vabsq_f32(self.0[q]);
            }
            self
        }
    }

    #[inline(always)]
    fn shl23(mut self) -> Self {
        // SAFETY: a vector exists only where the features do.
        unsafe {
            for q in 0..4 {
                let bits = vshlq_n_u32::<23>(vreinterpretq_u32_f32(self.0[q]));
                self.0[q] = vreinterpretq_f32_u32(bits);
            }
            self
        }
    }

    #[inline(always)]
    fn tree_sum(self) -> f32 {
        // SAFETY: a vector exists only where the features do.
        unsafe {
            let [a, b, c, d] = self.0;
            let four = vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d));
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }

    #[inline(always)]
    fn store(self, out: &mut [f32; 16]) {
        // SAFETY: a vector exists only where the features do; the 16 floats are written four at a time.
        unsafe {
            let p = out.as_mut_ptr();
            for q in 0..4 {
                vst1q_f32(p.add(4 * q), self.0[q]);
            }
        }
    }

    #[inline(always)]
    fn round_i8(self, out: &mut [i8; 16]) {
        // SAFETY: a vector exists only where the features do; `out` is 16 bytes.
        unsafe {
            let mut words = [vdupq_n_s32(0); 4];
            for q in 0..4 {
                words[q] = vcvtnq_s32_f32(self.0[q]);
            }
            let low = vcombine_s16(vmovn_s32(words[0]), vmovn_s32(words[1]));
            let high = vcombine_s16(vmovn_s32(words[2]), vmovn_s32(words[3]));
            let bytes = vcombine_s8(vmovn_s16(low), vmovn_s16(high));
            vst1q_s8(out.as_mut_ptr(), bytes);
        }
    }

    #[inline(always)]
    fn store_f16(self, out: &mut [u8; 32]) {
        // SAFETY: a vector exists only where the features do; each part of `out` is 8 bytes.
        unsafe {
            let (out, _) = out.as_chunks_mut::<8>();
            for q in 0..4 {
                let half = vreinterpret_u8_f16(vcvt_f16_f32(self.0[q]));
                vst1_u8(out[q].as_mut_ptr(), half);
            }
        }
    }
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
        fn xnor_lanes(self, w: &[u8; 64], x: &[u8; 64], mask: &[u8; 64], shift: usize) -> Self::F {
            // SAFETY: the token proves the features.
            unsafe { $crate::sets::neon::popcount::xnor_lanes(w, x, mask, shift) }
        }
    };
}
pub(super) use shared;

/// The products of signs, of the sets whose registers have 16 bytes.
macro_rules! differing {
    () => {
        #[inline(always)]
        fn differing<const R: usize, const T: usize>(
            self,
            w: [&[[u8; 64]]; R],
            x: [&[[u8; 64]]; T],
            mask: &[u8; 64],
        ) -> [[u32; T]; R] {
            // SAFETY: the token proves the features.
            unsafe { $crate::sets::neon::popcount::differing(w, x, mask) }
        }
    };
}
pub(super) use differing;

impl Set for Neon {
    const MANY_REGISTERS: bool = false;
    shared!();
    differing!();

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
    fn i4<const R: usize, const T: usize>(
        self,
        acc: &mut [[Lanes; T]; R],
        w: [&[u8; 64]; R],
        scales: [[f32; 2]; R],
        x: [&[[i8; 64]; 2]; T],
    ) {
        for r in 0..R {
            // SAFETY: the token proves the features.
            unsafe { products::i4_atom(&mut acc[r], w[r], scales[r], &x) }
        }
    }

    #[inline(always)]
    fn signs<const BITS: usize, const R: usize, const T: usize>(
        self,
        acc: &mut [[Lanes; T]; R],
        w: [&[u8; 64]; R],
        shift: usize,
        factors: [[f32; T]; R],
        x: [&[[i8; 64]; 2]; T],
    ) {
        for r in 0..R {
            // SAFETY: the token proves the features.
            unsafe { products::sign_group::<BITS, T>(&mut acc[r], w[r], shift, factors[r], &x) }
        }
    }
}
