//! A vector of 16 floats: two registers.

use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Sub};

use crate::sets::Vector;

/// 16 floats: lanes 0..8 and 8..16.
#[derive(Clone, Copy)]
pub(crate) struct Lanes(pub(super) __m256, pub(super) __m256);

/// Vector operators from intrinsics of two vectors.
macro_rules! operators {
    ($($trait:ident $method:ident $intrinsic:ident;)*) => {$(
        impl $trait for Lanes {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                // SAFETY: a vector exists only where the features do.
                unsafe { Self($intrinsic(self.0, other.0), $intrinsic(self.1, other.1)) }
            }
        }
    )*};
}

operators! {
    Add add _mm256_add_ps;
    Sub sub _mm256_sub_ps;
    Mul mul _mm256_mul_ps;
    Div div _mm256_div_ps;
}

/// The tree sum from the level of eight lanes on.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(in crate::sets) unsafe fn tree_sum_8(eight: __m256) -> f32 {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let four = _mm_add_ps(
            _mm256_castps256_ps128(eight),
            _mm256_extractf128_ps::<1>(eight),
        );
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}

/// The tree maximum from the level of eight lanes on.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(in crate::sets) unsafe fn tree_max_8(eight: __m256) -> f32 {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let high = _mm256_extractf128_ps::<1>(eight);
        let four = _mm_max_ps(high, _mm256_castps256_ps128(eight));
        let two = _mm_max_ps(_mm_movehl_ps(four, four), four);
        _mm_cvtss_f32(_mm_max_ss(_mm_movehdup_ps(two), two))
    }
}

impl Vector for Lanes {
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        // SAFETY: a vector exists only where the features do.
        unsafe {
            Self(
                _mm256_max_ps(self.0, other.0),
                _mm256_max_ps(self.1, other.1),
            )
        }
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        // SAFETY: a vector exists only where the features do.
        unsafe {
            Self(
                _mm256_min_ps(self.0, other.0),
                _mm256_min_ps(self.1, other.1),
            )
        }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: a vector exists only where the features do.
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            Self(
                _mm256_andnot_ps(sign, self.0),
                _mm256_andnot_ps(sign, self.1),
            )
        }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: a vector exists only where the features do.
        unsafe {
            Self(
                _mm256_fmadd_ps(self.0, factor.0, addend.0),
                _mm256_fmadd_ps(self.1, factor.1, addend.1),
            )
        }
    }

    #[inline(always)]
    fn shl23(self) -> Self {
        // SAFETY: a vector exists only where the features do.
        unsafe {
            let low = _mm256_slli_epi32::<23>(_mm256_castps_si256(self.0));
            let high = _mm256_slli_epi32::<23>(_mm256_castps_si256(self.1));
            Self(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high))
        }
    }

    #[inline(always)]
    fn tree_sum(self) -> f32 {
        // SAFETY: a vector exists only where the features do.
        unsafe { tree_sum_8(_mm256_add_ps(self.0, self.1)) }
    }

    #[inline(always)]
    fn tree_max(self) -> f32 {
        // SAFETY: a vector exists only where the features do.
        unsafe { tree_max_8(_mm256_max_ps(self.1, self.0)) }
    }

    #[inline(always)]
    fn store(self, out: &mut [f32; 16]) {
        let [low, high] = split_mut(out);
        // SAFETY: a vector exists only where the features do; each half is 32 bytes.
        unsafe {
            _mm256_storeu_ps(low.as_mut_ptr(), self.0);
            _mm256_storeu_ps(high.as_mut_ptr(), self.1);
        }
    }

    #[inline(always)]
    fn round_i8(self, out: &mut [i8; 16]) {
        // SAFETY: a vector exists only where the features do; `out` is 16 bytes.
        unsafe {
            let pairs = _mm256_packs_epi32(_mm256_cvtps_epi32(self.0), _mm256_cvtps_epi32(self.1));
            let words = _mm256_permute4x64_epi64::<0b1101_1000>(pairs);
            let low = _mm256_castsi256_si128(words);
            let bytes = _mm_packs_epi16(low, _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
        }
    }

    #[inline(always)]
    fn store_f16(self, out: &mut [u8; 32]) {
        let [low, high] = split_mut(out);
        // SAFETY: a vector exists only where the features do; each half is 16 bytes.
        unsafe {
            let halves = _mm256_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(self.0);
            _mm_storeu_si128(low.as_mut_ptr().cast(), halves);
            let halves = _mm256_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT }>(self.1);
            _mm_storeu_si128(high.as_mut_ptr().cast(), halves);
        }
    }
}

/// The two halves of an array.
#[inline(always)]
fn split_mut<T, const N: usize>(x: &mut [T; N]) -> [&mut [T]; 2] {
    let (low, high) = x.split_at_mut(N / 2);
    [low, high]
}
