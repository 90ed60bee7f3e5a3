//! AVX2 with FMA and F16C: 16 floats or 64 bytes are two registers.
//!
//! `vpmaddubsw` multiplies unsigned by signed bytes and adds pairs in 16 bits, which saturates when
//! the codes are large. The largest sums here, over what is added before `vpmaddwd` widens to 32 bits,
//! stay below 32767: ternary 5 atoms * 8 * 2 * 3 * 128 = 30720, binary 8 * 2 * 128 = 2048, 4 bits
//! 2 * 2 * 15 * 128 = 7680. Int8 weights are widened to 16 bits first.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{Set, portable};
use crate::body::ahead::{Ahead, Lines};
use crate::body::attend::requests::Requests;
use crate::body::bands::BandSums;
use crate::body::columns::{Batch, STRIP, Strip};
use crate::body::grouped::{BATCH, MAX_GROUPS};
use crate::body::lookup::{BAND, STEP, Step, Table};
use crate::body::rows16::{self, LaneSums};
use crate::kv::KV_BLOCK;

mod attention;
mod bands;
mod dense;
mod gemm;
mod groups;
pub(super) mod lanes;
mod limits;
mod lookup;
mod products;
mod ternary;

use lanes::Lanes;

crate::sets::kernel_set!(
    "avx2",
    Avx2,
    panels,
    target_feature(enable = "avx2,fma,f16c")
);

/// The features this CPU lacks.
pub(crate) fn missing() -> Vec<&'static str> {
    let features = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
    ];
    features
        .into_iter()
        .filter(|(_, found)| !found)
        .map(|(name, _)| name)
        .collect()
}

/// Proof that the CPU has this set's features.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The CPU must have AVX2, FMA and F16C.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

/// 16 partial sums.
#[derive(Clone, Copy)]
pub(crate) struct Sums([__m256i; 2]);

/// The two halves of an array.
#[inline(always)]
fn split<T, const N: usize, const H: usize>(x: &[T; N]) -> [&[T; H]; 2] {
    const { assert!(2 * H == N) };
    let (low, high) = x.split_at(H);
    [
        low.try_into().expect("half"),
        high.try_into().expect("half"),
    ]
}

/// Half `H` of 64 bytes.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn half<T, const H: usize>(bytes: &[T; 64]) -> __m256i {
    const { assert!(size_of::<T>() == 1 && H < 2) };
    // SAFETY: 32 bytes can be read there, and the caller vouches for the instruction.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast::<__m256i>().add(H)) }
}

impl Set for Avx2 {
    type F = Lanes;
    type I = Sums;
    const I8_BIAS: i32 = 0;
    const MANY_REGISTERS: bool = false;
    const HEAD_PAIRS: bool = true;

    #[inline(always)]
    fn splat(self, x: f32) -> Lanes {
        // SAFETY: the token proves the features.
        unsafe { Lanes(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }

    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> Lanes {
        let [low, high]: [&[f32; 8]; 2] = split(x);
        // SAFETY: the token proves the features; each half is 32 bytes.
        unsafe {
            Lanes(
                _mm256_loadu_ps(low.as_ptr()),
                _mm256_loadu_ps(high.as_ptr()),
            )
        }
    }

    #[inline(always)]
    fn load_f32(self, bytes: &[u8; 64]) -> Lanes {
        let [low, high]: [&[u8; 32]; 2] = split(bytes);
        // SAFETY: the token proves the features; each half is 32 bytes, at any address.
        unsafe {
            Lanes(
                _mm256_loadu_ps(low.as_ptr().cast()),
                _mm256_loadu_ps(high.as_ptr().cast()),
            )
        }
    }

    #[inline(always)]
    fn load_f16(self, bytes: &[u8; 32]) -> Lanes {
        let [low, high]: [&[u8; 16]; 2] = split(bytes);
        // SAFETY: the token proves the features; each half is 16 bytes, at any address.
        unsafe {
            let low = _mm_loadu_si128(low.as_ptr().cast());
            let high = _mm_loadu_si128(high.as_ptr().cast());
            Lanes(_mm256_cvtph_ps(low), _mm256_cvtph_ps(high))
        }
    }

    #[inline(always)]
    fn load_bf16(self, bytes: &[u8; 32]) -> Lanes {
        let [low, high]: [&[u8; 16]; 2] = split(bytes);
        // SAFETY: the token proves the features; each half is 16 bytes, at any address.
        unsafe {
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(low.as_ptr().cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(high.as_ptr().cast()));
            let (low, high) = (_mm256_slli_epi32::<16>(low), _mm256_slli_epi32::<16>(high));
            Lanes(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high))
        }
    }

    #[inline(always)]
    fn prefetch(self, line: *const u8) {
        // SAFETY: a prefetch takes any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
    }

    #[inline(always)]
    fn prefetch_early(self, line: *const u8) {
        // SAFETY: a prefetch takes any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) }
    }

    #[inline(always)]
    fn multiply(self, products: u64, ternary: bool) -> Option<i32> {
        if !ternary {
            return None;
        }
        if is_x86_feature_detected!("avxvnni") {
            // SAFETY: the token proves the set's features, the line above the one more.
            return Some(unsafe { limits::fours(products) });
        }
        // SAFETY: the token proves the features.
        Some(unsafe { limits::pairs(products) })
    }

    #[inline(always)]
    fn zero_sums(self) -> Sums {
        // SAFETY: the token proves the features.
        Sums(unsafe { [_mm256_setzero_si256(); 2] })
    }

    #[inline(always)]
    fn sum(self, lanes: Sums) -> i32 {
        // SAFETY: the token proves the features.
        unsafe {
            let eight = _mm256_add_epi32(lanes.0[0], lanes.0[1]);
            let low = _mm256_castsi256_si128(eight);
            let four = _mm_add_epi32(low, _mm256_extracti128_si256::<1>(eight));
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
        }
    }

    #[inline(always)]
    fn t2<const R: usize, const T: usize>(
        self,
        acc: &mut [[Sums; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 4]; T],
    ) {
        for r in 0..R {
            // SAFETY: the token proves the features.
            unsafe {
                let mut pairs = [_mm256_setzero_si256(); T];
                products::t2_atom(&mut pairs, w[r], &x);
                for t in 0..T {
                    products::widen::<0>(&mut acc[r][t], pairs[t]);
                }
            }
        }
    }

    #[inline(always)]
    fn t2_rows<A: Ahead, const R: usize, const T: usize>(
        self,
        w: [&[[u8; 64]]; R],
        ahead: A,
        x: [&[[[i8; 64]; 4]]; T],
    ) -> [[i32; T]; R] {
        // SAFETY: the token proves the features.
        unsafe { products::t2_rows(self, w, ahead, x) }
    }

    #[inline(always)]
    fn t5<const R: usize, const T: usize>(
        self,
        acc: &mut [[Sums; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 5]; T],
    ) {
        for r in 0..R {
            // SAFETY: the token proves the features.
            unsafe {
                dense::add_half::<0, T>(&mut acc[r], w[r], &x);
                dense::add_half::<1, T>(&mut acc[r], w[r], &x);
            }
        }
    }

    #[inline(always)]
    fn band_sums<A: Ahead, const R: usize, const T: usize>(
        self,
        w: [&[[u8; 64]]; R],
        ahead: A,
        x: [&[[[i8; 64]; 1]]; T],
    ) -> BandSums<i32, R, T> {
        // SAFETY: the token proves the features.
        unsafe { bands::sums(self, w, ahead, x) }
    }

    #[inline(always)]
    fn looked_up<const R: usize>(
        self,
        steps: [&[Step]; R],
        tables: &[[Table; STEP]],
        ahead: [Lines; R],
        scale_lines: usize,
        sums: &mut [[i32; BAND]; R],
    ) {
        for r in 0..R {
            for line in 1..=scale_lines {
                self.prefetch(ahead[r][0].wrapping_sub(64 * line));
            }
            // SAFETY: the token proves the features.
            unsafe {
                lookup::looked_up::<0>(&steps[r][0], &tables[0], ahead[r][0], &mut sums[r]);
                lookup::looked_up::<1>(&steps[r][0], &tables[0], ahead[r][0], &mut sums[r]);
            }
        }
    }

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
            unsafe {
                ternary::lane_sums::<0, T>(steps[r], &x, ahead[r][0], &mut sums[r]);
                ternary::lane_sums::<1, T>(steps[r], &x, ahead[r][0], &mut sums[r]);
            }
        }
        sums
    }

    #[inline(always)]
    fn nonzero(self, codes: &[i8]) -> u64 {
        match codes.first_chunk::<64>() {
            // SAFETY: the token proves the features.
            Some(codes) => unsafe {
                let zero = _mm256_setzero_si256();
                let low = _mm256_movemask_epi8(_mm256_cmpeq_epi8(half::<i8, 0>(codes), zero));
                let high = _mm256_movemask_epi8(_mm256_cmpeq_epi8(half::<i8, 1>(codes), zero));
                !(u64::from(low as u32) | (u64::from(high as u32) << 32))
            },
            None => portable::nonzero(codes),
        }
    }

    #[inline(always)]
    fn t2_columns(
        self,
        strip: Strip<'_>,
        batch: &Batch,
        sums: &mut [i32; STRIP],
        ahead: &mut impl Ahead,
    ) {
        // SAFETY: the token proves the features.
        unsafe {
            products::t2_columns::<0, _>(self, strip, batch, sums, ahead);
            products::t2_columns::<1, _>(self, strip, batch, sums, ahead);
        }
    }

    #[inline(always)]
    fn b1<const R: usize, const T: usize>(
        self,
        acc: &mut [[Sums; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 8]; T],
    ) {
        for r in 0..R {
            // SAFETY: the token proves the features.
            unsafe {
                products::b1_half::<0, T>(&mut acc[r], w[r], &x);
                products::b1_half::<1, T>(&mut acc[r], w[r], &x);
            }
        }
    }

    #[inline(always)]
    fn i8<const R: usize, const T: usize>(
        self,
        acc: &mut [[Sums; T]; R],
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
        // SAFETY: the token proves the features.
        unsafe { groups::dots::<BITS, R, T>(w, x) }
    }

    #[inline(always)]
    fn scales_by_group<const R: usize>(self, rows: &[[u8; 2 * BATCH]; R]) -> [[f32; R]; BATCH] {
        // SAFETY: the token proves the features.
        unsafe { groups::scales_by_group(rows) }
    }

    #[inline(always)]
    fn group_sum(self, x: &[[i8; 64]]) -> i32 {
        // SAFETY: the token proves the features.
        unsafe { groups::sum(x) }
    }

    #[inline(always)]
    fn differing<A: Ahead, const R: usize, const T: usize>(
        self,
        w: [&[[u8; 64]]; R],
        ahead: A,
        x: [&[[u8; 64]]; T],
        mask: &[u8; 64],
    ) -> [[u32; T]; R] {
        // SAFETY: the token proves the features.
        unsafe { products::differing(self, w, ahead, x, mask) }
    }

    #[inline(always)]
    fn i8_i16<const R: usize, const T: usize>(
        self,
        acc: &mut [[Sums; T]; R],
        w: [&[u8; 32]; R],
        x: [&[i16; 32]; T],
    ) {
        // SAFETY: the token proves the features.
        unsafe { attention::i8_i16(acc, &w, &x) }
    }

    #[inline(always)]
    fn sums<const R: usize, const T: usize>(self, acc: [[Sums; T]; R]) -> [[i32; R]; T] {
        let mut sums = [[0; R]; T];
        if R == 4 {
            for t in 0..T {
                // SAFETY: the token proves the features; four sums are 16 bytes.
                unsafe {
                    let mut v = [_mm256_setzero_si256(); 4];
                    for r in 0..R {
                        let [low, high] = acc[r][t].0;
                        v[r] = _mm256_add_epi32(low, high);
                    }
                    let found = attention::four_sums(v);
                    _mm_storeu_si128(sums[t].as_mut_ptr().cast(), found);
                }
            }
        } else {
            sums = portable::sums(self, acc);
        }
        sums
    }

    #[inline(always)]
    fn tree_sums<const R: usize, const T: usize>(self, acc: [[Lanes; T]; R]) -> [[f32; R]; T] {
        let mut sums = [[0.0; R]; T];
        if R == 1 && T == 4 {
            // SAFETY: the token proves the features; the sums are 16 bytes.
            unsafe {
                let mut v = [[_mm256_setzero_ps(); 2]; 4];
                for t in 0..T {
                    v[t] = [acc[0][t].0, acc[0][t].1];
                }
                let found = attention::four_tree_sums(v);
                _mm_storeu_ps(sums.as_mut_ptr().cast(), found);
            }
        } else {
            sums = portable::tree_sums(acc);
        }
        sums
    }

    #[inline(always)]
    fn weighted_sums<const T: usize>(
        self,
        rows: &[u8],
        stride: usize,
        pairs: Range<usize>,
        weights: &[[i16; KV_BLOCK]; T],
        ahead: Requests,
    ) -> [[i32; 32]; T] {
        let mut sums = [[0; 32]; T];
        // SAFETY: the token proves the features.
        unsafe {
            let (first, none) = (pairs.clone(), Requests::NONE);
            attention::weighted::<_, 0, T>(self, rows, stride, first, weights, ahead, &mut sums);
            attention::weighted::<_, 16, T>(self, rows, stride, pairs, weights, none, &mut sums);
        }
        sums
    }
}
