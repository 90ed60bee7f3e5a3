//! The floats of the Arm sets: 16 of them in four registers.

use std::arch::aarch64::*;
use std::ops::{Add, Div, Mul, Sub};

use super::quarter;
use crate::sets::Vector;

/// 16 floats, lane `l` in element `l % 4` of register `l / 4`.
#[derive(Clone, Copy)]
pub(crate) struct Lanes(pub(in crate::sets) [float32x4_t; 4]);

impl Lanes {
    /// # Safety
    /// The CPU must have NEON.
    #[inline(always)]
    pub(in crate::sets) unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller vouches for the instructions.
        unsafe { Self([vdupq_n_f32(x); 4]) }
    }

    /// # Safety
    /// The CPU must have NEON.
    #[inline(always)]
    pub(in crate::sets) unsafe fn load(x: &[f32; 16]) -> Self {
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
    pub(in crate::sets) unsafe fn load_f32(bytes: &[u8; 64]) -> Self {
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
    pub(in crate::sets) unsafe fn load_f16(bytes: &[u8; 32]) -> Self {
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
    pub(in crate::sets) unsafe fn load_bf16(bytes: &[u8; 32]) -> Self {
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

/// Vector operators from intrinsics of two vectors.
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
    fn mul_add(mut self, factor: Self, addend: Self) -> Self {
        for q in 0..4 {
            // SAFETY: a vector exists only where the features do.
            self.0[q] = unsafe { vfmaq_f32(addend.0[q], self.0[q], factor.0[q]) };
        }
        self
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
