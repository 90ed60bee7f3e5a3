//! A vector of 16 floats: one register.

use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Sub};

use crate::sets::{Vector, avx2::lanes};

/// 16 floats.
#[derive(Clone, Copy)]
pub(crate) struct Lanes(pub(super) __m512);

/// Vector operators from intrinsics of two vectors.
macro_rules! operators {
    ($($trait:ident $method:ident $intrinsic:ident;)*) => {$(
        impl $trait for Lanes {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: a vector exists only where the features do.
                Self(unsafe { $intrinsic(self.0, other.0) })
            }
        }
    )*};
}

operators! {
    Add add _mm512_add_ps;
    Sub sub _mm512_sub_ps;
    Mul mul _mm512_mul_ps;
    Div div _mm512_div_ps;
}

impl Vector for Lanes {
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: a vector exists only where the features do.
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: a vector exists only where the features do.
        Self(unsafe { _mm512_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: a vector exists only where the features do.
        Self(unsafe { _mm512_abs_ps(self.0) })
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: a vector exists only where the features do.
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    fn shl23(self) -> Self {
        // SAFETY: a vector exists only where the features do.
        Self(unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(self.0))) })
    }

    #[inline(always)]
    fn tree_sum(self) -> f32 {
        // SAFETY: a vector exists only where the features do.
        unsafe {
            let high = _mm512_castpd_ps(_mm512_shuffle_f64x2::<0b1110>(
                _mm512_castps_pd(self.0),
                _mm512_castps_pd(self.0),
            ));
            let eight = _mm256_add_ps(_mm512_castps512_ps256(self.0), _mm512_castps512_ps256(high));
            lanes::tree_sum_8(eight)
        }
    }

    #[inline(always)]
    fn tree_max(self) -> f32 {
        // SAFETY: a vector exists only where the features do.
        unsafe {
            let high = _mm512_castpd_ps(_mm512_shuffle_f64x2::<0b1110>(
                _mm512_castps_pd(self.0),
                _mm512_castps_pd(self.0),
            ));
            let (high, low) = (_mm512_castps512_ps256(high), _mm512_castps512_ps256(self.0));
            lanes::tree_max_8(_mm256_max_ps(high, low))
        }
    }

    #[inline(always)]
    fn store(self, out: &mut [f32; 16]) {
        // SAFETY: a vector exists only where the features do; `out` is 64 bytes.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn round_i8(self, out: &mut [i8; 16]) {
        // SAFETY: a vector exists only where the features do; `out` is 16 bytes.
        unsafe {
            let rounded = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(self.0));
            _mm_storeu_si128(out.as_mut_ptr().cast(), rounded);
        }
    }

    #[inline(always)]
    fn store_f16(self, out: &mut [u8; 32]) {
        // SAFETY: a vector exists only where the features do; `out` is 32 bytes.
        unsafe {
            let halves = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(self.0);
            _mm256_storeu_si256(out.as_mut_ptr().cast(), halves);
        }
    }
}
