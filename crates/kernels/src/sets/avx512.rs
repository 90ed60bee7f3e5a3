//! AVX-512 with F, BW, VL and VNNI: one register is 16 floats or 64 bytes, and `vpdpbusd` adds four
//! products of an unsigned and a signed byte to each of 16 `i32` lanes without rounding or
//! saturation.
//!
//! Signed int8 weights become unsigned by flipping their top bit, which adds 128 to each.

use std::arch::x86_64::*;
use std::ops::Range;

use super::{Set, portable};
use crate::body::ahead::{Ahead, Lines};
use crate::body::attend::requests::Requests;
use crate::body::bands::BandSums;
use crate::body::columns::{Batch, STRIP, Strip};
use crate::body::int::{self, T5};
use crate::body::lookup::{BAND, STEP, Step, Table};
use crate::body::rows16::{self, LaneSums};
use crate::kv::KV_BLOCK;

mod attention;
mod bands;
mod dense;
mod few;
mod gemm;
mod lanes;
mod limits;
mod lookup;
mod popcount;
mod shuffles;
mod ternary;

pub(crate) use lanes::Lanes;
pub(super) use shuffles::in_order;
use shuffles::{four_sums, side_by_side};

crate::sets::kernel_set!(
    "avx512",
    Avx512,
    panels,
    target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,f16c")
);

/// The features this CPU lacks.
pub(crate) fn missing() -> Vec<&'static str> {
    let features = [
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
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
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The CPU must have the features this set's kernels are compiled with.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

/// 16 partial sums.
#[derive(Clone, Copy)]
pub(crate) struct Sums(__m512i);

/// Loads 64 bytes from anywhere.
///
/// # Safety
/// The CPU must have AVX-512F.
#[inline(always)]
unsafe fn load<T>(bytes: &[T; 64]) -> __m512i {
    const { assert!(size_of::<T>() == 1) };
    // SAFETY: 64 bytes can be read, and the caller vouches for the instruction.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Adds the products of plane `P`, which starts at bit `SHIFT` of each byte, under `mask`.
///
/// # Safety
/// The CPU must have this set's features.
#[inline(always)]
unsafe fn plane<
    const SHIFT: u32,
    const P: usize,
    const R: usize,
    const T: usize,
    const N: usize,
>(
    acc: &mut [[Sums; T]; R],
    w: &[__m512i; R],
    mask: __m512i,
    x: &[&[[i8; 64]; N]; T],
) {
    // SAFETY: the caller vouches for the features.
    unsafe {
        let mut codes = *w;
        for code in &mut codes {
            *code = _mm512_and_si512(_mm512_srli_epi16::<SHIFT>(*code), mask);
        }
        for t in 0..T {
            let x = load(&x[t][P]);
            for r in 0..R {
                acc[r][t].0 = _mm512_dpbusd_epi32(acc[r][t].0, codes[r], x);
            }
        }
    }
}

impl Set for Avx512 {
    type F = Lanes;
    type I = Sums;
    const I8_BIAS: i32 = 128;
    const MANY_REGISTERS: bool = true;
    const LOOKUP_LEADS: [usize; 2] = lookup::LEADS;
    const LOOKED_UP: usize = lookup::MOST;

    #[inline(always)]
    fn splat(self, x: f32) -> Lanes {
        // SAFETY: the token proves the features.
        Lanes(unsafe { _mm512_set1_ps(x) })
    }

    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> Lanes {
        // SAFETY: the token proves the features; `x` is 64 bytes.
        Lanes(unsafe { _mm512_loadu_ps(x.as_ptr()) })
    }

    #[inline(always)]
    fn load_f32(self, bytes: &[u8; 64]) -> Lanes {
        // SAFETY: the token proves the features; the load takes any address.
        Lanes(unsafe { _mm512_loadu_ps(bytes.as_ptr().cast()) })
    }

    #[inline(always)]
    fn load_f16(self, bytes: &[u8; 32]) -> Lanes {
        // SAFETY: the token proves the features; the load takes any address.
        // The form without a rounding of its own takes its operand from memory, which is a port's work less.
        Lanes(unsafe {
            let halves = _mm256_loadu_si256(bytes.as_ptr().cast());
            _mm512_cvt_roundph_ps::<_MM_FROUND_CUR_DIRECTION>(halves)
        })
    }

    #[inline(always)]
    fn load_bf16(self, bytes: &[u8; 32]) -> Lanes {
        // SAFETY: the token proves the features; the load takes any address.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(bytes.as_ptr().cast()));
            Lanes(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
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
    fn multiply(self, products: u64, _ternary: bool) -> Option<i32> {
        // SAFETY: the token proves the features.
        Some(unsafe { limits::fours(products) })
    }

    #[inline(always)]
    fn zero_sums(self) -> Sums {
        // SAFETY: the token proves the features.
        Sums(unsafe { _mm512_setzero_si512() })
    }

    #[inline(always)]
    fn sum(self, lanes: Sums) -> i32 {
        // SAFETY: the token proves the features.
        unsafe { _mm512_reduce_add_epi32(lanes.0) }
    }

    #[inline(always)]
    fn block_sums<const R: usize, const T: usize>(self, acc: [[Sums; T]; R]) -> [[i32; T]; R] {
        let mut sums = [[0; T]; R];
        for t in 0..T {
            if R == 4 {
                // SAFETY: the token proves the features.
                let four =
                    unsafe { four_sums([acc[0][t].0, acc[1][t].0, acc[2][t].0, acc[3][t].0]) };
                for r in 0..R {
                    sums[r][t] = four[r];
                }
            } else {
                for r in 0..R {
                    sums[r][t] = self.sum(acc[r][t]);
                }
            }
        }
        sums
    }

    #[inline(always)]
    fn t2<const R: usize, const T: usize>(
        self,
        acc: &mut [[Sums; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 4]; T],
    ) {
        // SAFETY: the token proves the features.
        unsafe {
            let w = load_rows(w);
            let mask = _mm512_set1_epi8(3);
            plane::<0, 0, R, T, 4>(acc, &w, mask, &x);
            plane::<2, 1, R, T, 4>(acc, &w, mask, &x);
            plane::<4, 2, R, T, 4>(acc, &w, mask, &x);
            plane::<6, 3, R, T, 4>(acc, &w, mask, &x);
        }
    }

    #[inline(always)]
    fn t5<const R: usize, const T: usize>(
        self,
        acc: &mut [[Sums; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 5]; T],
    ) {
        // SAFETY: the token proves the features.
        unsafe { dense::atoms(acc, w, &x) }
    }

    #[inline(always)]
    fn t5_rows<A: Ahead, const R: usize, const T: usize>(
        self,
        w: [&[[u8; 64]]; R],
        ahead: A,
        x: [&[[[i8; 64]; 5]]; T],
    ) -> [[i32; T]; R] {
        let acc = if is_x86_feature_detected!("avx512vbmi") {
            // SAFETY: the token proves the set's features, the line above the one more.
            unsafe { dense::rows_by_table(self, w, ahead, x) }
        } else {
            int::accumulate::<Self, T5, A, 5, R, T>(self, w, ahead, x)
        };
        self.block_sums(acc)
    }

    #[inline(always)]
    fn band_sums<A: Ahead, const R: usize, const T: usize>(
        self,
        w: [&[[u8; 64]]; R],
        ahead: A,
        x: [&[[[i8; 64]; 1]]; T],
    ) -> BandSums<i32, R, T> {
        if is_x86_feature_detected!("avx512vbmi") {
            // SAFETY: the token proves the set's features, the line above the one more.
            unsafe { bands::by_table(self, w, ahead, x) }
        } else {
            // SAFETY: the token proves the features.
            unsafe { bands::by_steps(self, w, ahead, x) }
        }
    }

    #[inline(always)]
    fn subset_sums(self, x: &[i8; 64], tables: &mut [Table; 8]) {
        // SAFETY: the token proves the features.
        unsafe { lookup::subset_sums(x, tables) }
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
        // SAFETY: the token proves the features.
        unsafe { lookup::looked_up(steps, tables, (ahead, scale_lines), sums) }
    }

    #[inline(always)]
    fn lane_sums<const R: usize, const T: usize>(
        self,
        steps: [&rows16::Step; R],
        x: [&rows16::Fours; T],
        ahead: [Lines; R],
    ) -> LaneSums<R, T> {
        // SAFETY: the token proves the features.
        unsafe { ternary::lane_sums(steps, x, ahead) }
    }

    #[inline(always)]
    fn nonzero(self, codes: &[i8]) -> u64 {
        match codes.first_chunk::<64>() {
            // SAFETY: the token proves the features.
            Some(codes) => unsafe {
                let codes = load(codes);
                _mm512_test_epi8_mask(codes, codes)
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
            let mask = _mm512_set1_epi8(3);
            let mut acc = [_mm512_setzero_si512(); 16];
            for (inputs, codes) in batch.fours() {
                let x = _mm512_set1_epi32(i32::from_le_bytes(codes.map(|code| code as u8)));
                (0..4).for_each(|i| ahead.request(self, i, 0));
                let rows = side_by_side(load_rows([
                    strip.atom(inputs[0]),
                    strip.atom(inputs[1]),
                    strip.atom(inputs[2]),
                    strip.atom(inputs[3]),
                ]));
                for (q, row) in rows.into_iter().enumerate() {
                    acc[q] = _mm512_dpbusd_epi32(acc[q], _mm512_and_si512(row, mask), x);
                    let code = _mm512_and_si512(_mm512_srli_epi16::<2>(row), mask);
                    acc[4 + q] = _mm512_dpbusd_epi32(acc[4 + q], code, x);
                    let code = _mm512_and_si512(_mm512_srli_epi16::<4>(row), mask);
                    acc[8 + q] = _mm512_dpbusd_epi32(acc[8 + q], code, x);
                    let code = _mm512_and_si512(_mm512_srli_epi16::<6>(row), mask);
                    acc[12 + q] = _mm512_dpbusd_epi32(acc[12 + q], code, x);
                }
            }
            let planes = sums.as_chunks_mut::<64>().0;
            for (plane, acc) in planes.iter_mut().zip(acc.as_chunks::<4>().0) {
                for (sums, acc) in plane.as_chunks_mut::<16>().0.iter_mut().zip(in_order(*acc)) {
                    let old = _mm512_loadu_si512(sums.as_ptr().cast());
                    _mm512_storeu_si512(sums.as_mut_ptr().cast(), _mm512_add_epi32(old, acc));
                }
            }
        }
    }

    #[inline(always)]
    fn b1<const R: usize, const T: usize>(
        self,
        acc: &mut [[Sums; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 8]; T],
    ) {
        // SAFETY: the token proves the features.
        unsafe {
            let w = load_rows(w);
            let mask = _mm512_set1_epi8(1);
            plane::<0, 0, R, T, 8>(acc, &w, mask, &x);
            plane::<1, 1, R, T, 8>(acc, &w, mask, &x);
            plane::<2, 2, R, T, 8>(acc, &w, mask, &x);
            plane::<3, 3, R, T, 8>(acc, &w, mask, &x);
            plane::<4, 4, R, T, 8>(acc, &w, mask, &x);
            plane::<5, 5, R, T, 8>(acc, &w, mask, &x);
            plane::<6, 6, R, T, 8>(acc, &w, mask, &x);
            plane::<7, 7, R, T, 8>(acc, &w, mask, &x);
        }
    }

    #[inline(always)]
    fn i8<const R: usize, const T: usize>(
        self,
        acc: &mut [[Sums; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 1]; T],
    ) {
        // SAFETY: the token proves the features.
        unsafe {
            let mut codes = load_rows(w);
            for code in &mut codes {
                *code = _mm512_xor_si512(*code, _mm512_set1_epi8(-128));
            }
            for t in 0..T {
                let x = load(&x[t][0]);
                for r in 0..R {
                    acc[r][t].0 = _mm512_dpbusd_epi32(acc[r][t].0, codes[r], x);
                }
            }
        }
    }

    #[inline(always)]
    fn group_sum(self, x: &[[i8; 64]]) -> i32 {
        // SAFETY: the token proves the features.
        unsafe {
            let mut sum = _mm512_setzero_si512();
            for x in x {
                sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), load(x));
            }
            _mm512_reduce_add_epi32(sum)
        }
    }

    #[inline(always)]
    fn differing<A: Ahead, const R: usize, const T: usize>(
        self,
        w: [&[[u8; 64]]; R],
        ahead: A,
        x: [&[[u8; 64]]; T],
        mask: &[u8; 64],
    ) -> [[u32; T]; R] {
        if is_x86_feature_detected!("avx512vpopcntdq") {
            // SAFETY: the token proves the set's features, the line above the one more.
            unsafe { popcount::with_instruction(self, w, ahead, x, mask) }
        } else {
            // SAFETY: the token proves the features.
            unsafe { popcount::with_table(self, w, ahead, x, mask) }
        }
    }

    #[inline(always)]
    fn i8_i16<const R: usize, const T: usize>(
        self,
        acc: &mut [[Sums; T]; R],
        w: [&[u8; 32]; R],
        x: [&[i16; 32]; T],
    ) {
        // SAFETY: the token proves the features.
        unsafe { attention::i8_i16(acc, w, x) }
    }

    #[inline(always)]
    fn sums<const R: usize, const T: usize>(self, acc: [[Sums; T]; R]) -> [[i32; R]; T] {
        let mut sums = [[0; R]; T];
        if R == 4 && T == 4 {
            // SAFETY: the token proves the features; the sums are 64 bytes.
            unsafe {
                let mut v = [[_mm512_setzero_ps(); 4]; 4];
                for i in 0..16 {
                    v[i / 4][i % 4] = _mm512_castsi512_ps(acc[i / 4 % R][i % 4 % T].0);
                }
                let found = attention::four_by_four::<true>(v);
                _mm512_storeu_ps(sums.as_mut_ptr().cast(), found);
            }
        } else {
            sums = portable::sums(self, acc);
        }
        sums
    }

    #[inline(always)]
    fn tree_sums<const R: usize, const T: usize>(self, acc: [[Lanes; T]; R]) -> [[f32; R]; T] {
        let mut sums = [[0.0; R]; T];
        if R == 4 && T == 4 {
            // SAFETY: the token proves the features; the sums are 64 bytes.
            unsafe {
                let mut v = [[_mm512_setzero_ps(); 4]; 4];
                for i in 0..16 {
                    v[i / 4][i % 4] = acc[i / 4 % R][i % 4 % T].0;
                }
                let found = attention::four_by_four::<false>(v);
                _mm512_storeu_ps(sums.as_mut_ptr().cast(), found);
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
        // SAFETY: the token proves the features.
        unsafe { attention::weighted(self, rows, stride, pairs, weights, ahead) }
    }
}

/// Loads an atom of each row.
///
/// # Safety
/// The CPU must have AVX-512F.
#[inline(always)]
unsafe fn load_rows<const R: usize>(w: [&[u8; 64]; R]) -> [__m512i; R] {
    // SAFETY: the caller vouches for the instruction.
    unsafe {
        let mut rows = [_mm512_setzero_si512(); R];
        for r in 0..R {
            rows[r] = load(w[r]);
        }
        rows
    }
}

#[cfg(test)]
mod tests;
