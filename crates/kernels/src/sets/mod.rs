//! The instruction sets: what the generic bodies need from one, and the table each of them fills.
//!
//! A set is three things: a token type that implements [`Set`] (its value is proof that the
//! instructions may be executed), a vector of 16 floats that implements [`Vector`], and a static
//! [`Kernels`](crate::Kernels) made by [`kernel_set!`]. The bodies in [`crate::body`] are written
//! once over these traits and compiled once per set, inside functions that carry the set's
//! `#[target_feature]`; a set may replace any entry of its table with a body of its own.
//!
//! **Why every set gives the same bits.** Integer sums are exact, so their order is free. Float
//! operations are those of IEEE 754, one rounding each, and the bodies fix their order: 16 virtual
//! lanes whatever the register width, sums of products by `mul_add`, one reduction tree.

use std::ops::{Add, Div, Mul, Range, Sub};

use crate::body::ahead::{Ahead, Lines};
use crate::body::attend::requests::Requests;
use crate::body::bands::{self, BandSums};
use crate::body::columns::{Batch, STRIP, Strip};
use crate::body::grouped::{BATCH, MAX_GROUPS};
use crate::body::int::{self, Codes, T2, T5};
use crate::body::lookup::{self, Table};
use crate::body::rows16::{self, LaneSums};
use crate::kv::KV_BLOCK;

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon_dotprod;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon_i8mm;
pub(crate) mod portable;
pub(crate) mod registry;
pub(crate) mod scalar;
#[cfg(target_arch = "aarch64")]
pub(crate) mod sve2;

/// How far ahead of the weights in use their row stream is prefetched, in bytes.
pub(crate) const PREFETCH_BYTES: usize = 4096;

/// [`Kernels::batch`](crate::Kernels::batch) of sets that multiply with vectors.
pub(crate) const PROMPT_BATCH: usize = 128;

/// Planes of 64 activations that [`Set::group_sum`] takes: a lane of 16 bits adds eight of at most 128 for each.
pub(crate) const MAX_SUMMED: usize = 16;

/// The names of the features that were not found.
#[cfg(target_arch = "aarch64")]
fn lacking(features: &[(&'static str, bool)]) -> Vec<&'static str> {
    let absent = features.iter().filter(|(_, found)| !found);
    absent.map(|(name, _)| *name).collect()
}

/// Something to be done with a set.
pub(crate) trait Work<S> {
    /// Always inlined, as every body is.
    fn run(self, s: S);
}

/// What [`kernel_set!`] makes of a set's token.
pub(crate) trait Apart: Copy {
    /// Does work in a function of its own that has the set's instructions: bodies that call one another many times, or are large, are
    /// compiled once and apart. What the compiler does to a function's loops takes it longer the more of them there are.
    fn apart<W: Work<Self>>(self, work: W);
}

/// An instruction set. A value is proof that this CPU has it.
///
/// The products take one atom (64 bytes) of each of `R` rows and the activations of the atom's
/// columns for `T` tokens, in planes of 64, and add the products to `acc[row][token]`.
pub(crate) trait Set: Apart {
    /// 16 lanes of `f32`.
    type F: Vector;
    /// Partial sums of one row and token, in however many `i32` lanes; they wrap.
    type I: Copy;
    /// Added to the codes by [`i8`](Set::i8); the caller subtracts `I8_BIAS * sum(x)`.
    const I8_BIAS: i32;
    /// Whether `R` = 4, `T` = 4 accumulators `I` stay in registers.
    const MANY_REGISTERS: bool;
    /// The same of `F`.
    const MANY_FLOATS: bool = Self::MANY_REGISTERS;
    /// Whether four int8 keys are multiplied with two heads at a time, rather than one with all, where there are no registers
    /// for more.
    const HEAD_PAIRS: bool = false;
    /// How far ahead of the weights in use [`looked_up`](Set::looked_up) asks for the next ones, in bytes, into the first level and into
    /// the second: whole steps. A set that asks for nothing in the second has the same twice.
    const LOOKUP_LEADS: [usize; 2] = [lookup::LEAD; 2];
    /// Most steps that [`looked_up`](Set::looked_up) takes.
    const LOOKED_UP: usize = 1;

    fn splat(self, x: f32) -> Self::F;
    fn load(self, x: &[f32; 16]) -> Self::F;
    fn load_f32(self, bytes: &[u8; 64]) -> Self::F;
    fn load_f16(self, bytes: &[u8; 32]) -> Self::F;
    fn load_bf16(self, bytes: &[u8; 32]) -> Self::F;
    /// Asks for the cache line at `line`, which may be any address.
    fn prefetch(self, line: *const u8);
    /// The same for a line that is needed so late that the first-level cache would not keep it.
    fn prefetch_early(self, line: *const u8);

    /// Does at least so many multiplications of bytes, of ternary weights or int8 ones, and nothing else but adding up what comes of
    /// them, wherever it wraps: what this CPU could do at best. `None` where the set has no such loop.
    #[inline(always)]
    fn multiply(self, _products: u64, _ternary: bool) -> Option<i32> {
        None
    }

    fn zero_sums(self) -> Self::I;
    fn sum(self, lanes: Self::I) -> i32;
    /// Adds `code * x` with `code = w + 1` in 0..=3.
    fn t2<const R: usize, const T: usize>(
        self,
        acc: &mut [[Self::I; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 4]; T],
    );
    /// Adds `code * x` of codes that stand five to a byte; see [`Layout::T5`](onebit_format::Layout::T5).
    #[inline(always)]
    fn t5<const R: usize, const T: usize>(
        self,
        acc: &mut [[Self::I; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 5]; T],
    ) {
        // `i8` adds no more than the product.
        const { assert!(Self::I8_BIAS == 0) };
        let mut codes = [[[0; 64]; 5]; R];
        for r in 0..R {
            codes[r] = portable::t5_planes(w[r]);
        }
        for p in 0..5 {
            let (mut w, mut plane) = ([&[0; 64]; R], [&[[0; 64]; 1]; T]);
            for r in 0..R {
                w[r] = &codes[r][p];
            }
            for t in 0..T {
                plane[t] = &x[t].as_chunks::<1>().0[p];
            }
            self.i8(acc, w, plane);
        }
    }

    /// Adds `bit * x`.
    fn b1<const R: usize, const T: usize>(
        self,
        acc: &mut [[Self::I; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 8]; T],
    );
    /// Adds `(w + I8_BIAS) * x`.
    fn i8<const R: usize, const T: usize>(
        self,
        acc: &mut [[Self::I; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 1]; T],
    );
    /// The exact sums of `code * x` of each group of an atom: `[token][group][row]`. Codes of 4 bits
    /// have groups of one plane, those of 1 or 2 bits of two planes. As many planes of activations as
    /// an atom has.
    #[inline(always)]
    fn group_dots<const BITS: usize, const R: usize, const T: usize>(
        self,
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]]; T],
    ) -> [[[i32; R]; MAX_GROUPS]; T] {
        let mut dots = [[[0; R]; MAX_GROUPS]; T];
        for t in 0..T {
            for r in 0..R {
                let groups = portable::group_dots::<BITS>(w[r], x[t]);
                for g in 0..MAX_GROUPS {
                    dots[t][g][r] = groups[g];
                }
            }
        }
        dots
    }

    /// The binary16 scales of some rows, those of a group side by side.
    #[inline(always)]
    fn scales_by_group<const R: usize>(self, rows: &[[u8; 2 * BATCH]; R]) -> [[f32; R]; BATCH] {
        let mut scales = [[0.0; R]; BATCH];
        for r in 0..R {
            let mut lanes = [0.0; BATCH];
            self.load_f16(&rows[r]).store(&mut lanes);
            for g in 0..BATCH {
                scales[g][r] = lanes[g];
            }
        }
        scales
    }

    /// The sum of the activations of a group, at most [`MAX_SUMMED`] planes.
    #[inline(always)]
    fn group_sum(self, x: &[[i8; 64]]) -> i32 {
        x.as_flattened().iter().map(|x| i32::from(*x)).sum()
    }

    /// The sums of the subsets of each four of 64 activations; see [`lookup`].
    #[inline(always)]
    fn subset_sums(self, x: &[i8; 64], tables: &mut [Table; 8]) {
        portable::subset_sums(x, tables);
    }

    /// Puts the sums of `bit * x` over some steps of each of `R` bands, each plus [`lookup::BIAS`], into `sums`, row after row. There
    /// is one step, or up to [`LOOKED_UP`](Set::LOOKED_UP). Asks for as many lines from each of `ahead` on, and for `scale_lines` before them,
    /// which may be any addresses; [`LOOKUP_LEADS`](Set::LOOKUP_LEADS) says how far ahead they are.
    #[inline(always)]
    fn looked_up<const R: usize>(
        self,
        steps: [&[lookup::Step]; R],
        tables: &[[Table; lookup::STEP]],
        ahead: [Lines; R],
        scale_lines: usize,
        sums: &mut [[i32; lookup::BAND]; R],
    ) {
        for r in 0..R {
            (1..=scale_lines).for_each(|a| self.prefetch(ahead[r][0].wrapping_sub(64 * a)));
            (0..lookup::STEP).for_each(|a| self.prefetch(ahead[r][0].wrapping_add(64 * a)));
            portable::looked_up(steps[r], tables, &mut sums[r]);
        }
    }

    /// The sums of `code * x` over 128 columns of 16 rows side by side, for each of `R` bands, with `code = w + 1` in 0..=3. Asks for as many
    /// lines from each of `ahead` on, which may be any addresses.
    #[inline(always)]
    fn lane_sums<const R: usize, const T: usize>(
        self,
        steps: [&rows16::Step; R],
        x: [&rows16::Fours; T],
        ahead: [Lines; R],
    ) -> LaneSums<R, T> {
        let mut sums = [[[0; rows16::BAND]; T]; R];
        for r in 0..R {
            (0..rows16::ATOMS).for_each(|a| self.prefetch(ahead[r][0].wrapping_add(64 * a)));
            sums[r] = portable::lane_sums(steps[r], x);
        }
        sums
    }

    /// How many bits of whole rows differ, the last atom under `mask`. Rows have the same number of
    /// atoms, at least one. A set that has prefetches asks for `ahead` meanwhile.
    #[inline(always)]
    fn differing<A: Ahead, const R: usize, const T: usize>(
        self,
        w: [&[[u8; 64]]; R],
        _ahead: A,
        x: [&[[u8; 64]]; T],
        mask: &[u8; 64],
    ) -> [[u32; T]; R] {
        let mut counts = [[0; T]; R];
        for r in 0..R {
            for t in 0..T {
                counts[r][t] = portable::differing(w[r], x[t], mask);
            }
        }
        counts
    }

    /// The sums that stand in the accumulators of a block. For sets whose [`t2`](Set::t2),
    /// [`b1`](Set::b1) and [`i8`](Set::i8) share accumulators between rows and tokens.
    #[inline(always)]
    fn block_sums<const R: usize, const T: usize>(self, acc: [[Self::I; T]; R]) -> [[i32; T]; R] {
        let mut sums = [[0; T]; R];
        for r in 0..R {
            for t in 0..T {
                sums[r][t] = self.sum(acc[r][t]);
            }
        }
        sums
    }

    /// [`row_sums`](Set::row_sums) of ternary codes, four to a byte.
    #[inline(always)]
    fn t2_rows<A: Ahead, const R: usize, const T: usize>(
        self,
        w: [&[[u8; 64]]; R],
        ahead: A,
        x: [&[[[i8; 64]; 4]]; T],
    ) -> [[i32; T]; R] {
        self.row_sums::<T2, A, 4, R, T>(w, ahead, x)
    }

    /// [`row_sums`](Set::row_sums) of codes that stand five to a byte.
    #[inline(always)]
    fn t5_rows<A: Ahead, const R: usize, const T: usize>(
        self,
        w: [&[[u8; 64]]; R],
        ahead: A,
        x: [&[[[i8; 64]; 5]]; T],
    ) -> [[i32; T]; R] {
        self.block_sums(int::accumulate::<Self, T5, A, 5, R, T>(self, w, ahead, x))
    }

    /// The sums of `code * x` of the five rows of each band; see [`bands`].
    #[inline(always)]
    fn band_sums<A: Ahead, const R: usize, const T: usize>(
        self,
        w: [&[[u8; 64]]; R],
        ahead: A,
        x: [&[[[i8; 64]; 1]]; T],
    ) -> BandSums<i32, R, T> {
        bands::by_bytes(self, w, ahead, x)
    }

    /// The sums of `code * x` over whole rows; what is needed later is asked for by `ahead`. For sets
    /// whose accumulators are no Rust values.
    #[inline(always)]
    fn row_sums<L: Codes<P>, A: Ahead, const P: usize, const R: usize, const T: usize>(
        self,
        w: [&[[u8; 64]]; R],
        ahead: A,
        x: [&[[[i8; 64]; P]]; T],
    ) -> [[i32; T]; R] {
        self.block_sums(int::accumulate::<Self, L, A, P, R, T>(self, w, ahead, x))
    }

    /// Bit `i` says whether code `i` of at most 64 is not 0.
    #[inline(always)]
    fn nonzero(self, codes: &[i8]) -> u64 {
        portable::nonzero(codes)
    }

    /// Adds `code * x` of the batch's inputs, with `code = w + 1` in 0..=3, to the sums of a strip, and
    /// asks for as many lines as it reads.
    #[inline(always)]
    fn t2_columns(
        self,
        strip: Strip<'_>,
        batch: &Batch,
        sums: &mut [i32; STRIP],
        ahead: &mut impl Ahead,
    ) {
        (0..batch.len).for_each(|i| ahead.request(self, i, 0));
        portable::t2_columns(strip, batch, sums);
    }

    /// Adds `w * x` of 32 columns, `w` being signed bytes.
    fn i8_i16<const R: usize, const T: usize>(
        self,
        acc: &mut [[Self::I; T]; R],
        w: [&[u8; 32]; R],
        x: [&[i16; 32]; T],
    );

    /// The sums of accumulators of [`i8_i16`](Set::i8_i16).
    #[inline(always)]
    fn sums<const R: usize, const T: usize>(self, acc: [[Self::I; T]; R]) -> [[i32; R]; T] {
        portable::sums(self, acc)
    }

    /// The tree sums of many vectors.
    #[inline(always)]
    fn tree_sums<const R: usize, const T: usize>(self, acc: [[Self::F; T]; R]) -> [[f32; R]; T] {
        portable::tree_sums(acc)
    }

    /// For each of `T` rows of weights the exact sums, over the rows `2 pairs.start..2 pairs.end` of
    /// signed bytes that lie `stride` apart, of weight times each of the row's first 32 bytes. Either end of `pairs`
    /// is even. A set that has prefetches asks for `ahead` meanwhile.
    #[inline(always)]
    fn weighted_sums<const T: usize>(
        self,
        rows: &[u8],
        stride: usize,
        pairs: Range<usize>,
        weights: &[[i16; KV_BLOCK]; T],
        _ahead: Requests,
    ) -> [[i32; 32]; T] {
        portable::weighted_sums(rows, stride, pairs, weights)
    }

    /// Loads fewer than 16 values and zeros after them.
    #[inline(always)]
    fn load_part(self, x: &[f32]) -> Self::F {
        let mut lanes = [0.0; 16];
        lanes[..x.len()].copy_from_slice(x);
        self.load(&lanes)
    }
}

/// 16 lanes of `f32`. One can only be made from a [`Set`], so its existence is proof too.
pub(crate) trait Vector:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// `if self > other { self } else { other }`: a NaN on the left is dropped, on the right kept.
    fn max(self, other: Self) -> Self;
    /// `if self < other { self } else { other }`.
    fn min(self, other: Self) -> Self;
    fn abs(self) -> Self;
    /// `self * factor + addend`, rounded once.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// The bits of each lane shifted left by 23.
    fn shl23(self) -> Self;
    /// Lanes `(l, l + 8)`, then `(l, l + 4)`, `(l, l + 2)`, `(l, l + 1)` added.
    fn tree_sum(self) -> f32;
    fn store(self, out: &mut [f32; 16]);
    /// Rounds half to even; lanes must lie in -128.5..127.5.
    fn round_i8(self, out: &mut [i8; 16]);
    /// Rounds half to even; lanes must be finite in f16, or NaN.
    fn store_f16(self, out: &mut [u8; 32]);

    /// Lanes `(l, l + 8)`, then `(l, l + 4)`, `(l, l + 2)`, `(l, l + 1)`: the larger, where one is a
    /// NaN the first.
    #[inline(always)]
    fn tree_max(self) -> f32 {
        let mut lanes = [0.0; 16];
        self.store(&mut lanes);
        for half in [8, 4, 2, 1] {
            for l in 0..half {
                let other = lanes[l + half];
                lanes[l] = if other > lanes[l] { other } else { lanes[l] };
            }
        }
        lanes[0]
    }

    /// Stores the first lanes.
    #[inline(always)]
    fn store_part(self, out: &mut [f32]) {
        let mut lanes = [0.0; 16];
        self.store(&mut lanes);
        out.copy_from_slice(&lanes[..out.len()]);
    }
}

/// Defines `TABLE`, the [`Kernels`](crate::Kernels) of a set: one wrapper per entry, compiled with
/// the set's features, around the generic body. A set that is listed with `panels` multiplies many
/// tokens by [`gemm`](crate::body::gemm).
macro_rules! kernel_set {
    ($name:literal, $token:ty, $features:meta) => {
        $crate::sets::kernel_set! { @bodies $name, $token, $features; int, columns, grouped }
    };
    ($name:literal, $token:ty, panels, $features:meta) => {
        $crate::sets::kernel_set! { @bodies $name, $token, $features; gemm, gemm_columns, gemm_grouped }
    };
    (@bodies $name:literal, $token:ty, $features:meta; $int:ident, $columns:ident, $grouped:ident) => {
        $crate::sets::kernel_set! { @table $name, $token, $features;
            fn t2(job: &$crate::body::Product<'_, $crate::I8Rows<'_>>, out: &mut $crate::TileMut<'_, i32>) => $int::t2;
            fn t5(job: &$crate::body::Product<'_, $crate::I8Rows<'_>>, out: &mut $crate::TileMut<'_, i32>) => $int::t5;
            fn t5r5(job: &$crate::body::Product<'_, $crate::I8Rows<'_>>, out: &mut $crate::TileMut<'_, i32>) => $int::t5r5;
            fn t2r16(job: &$crate::body::Product<'_, $crate::I8Rows<'_>>, out: &mut $crate::TileMut<'_, i32>) => $int::t2r16;
            fn b1r64(job: &$crate::body::Product<'_, $crate::I8Rows<'_>>, out: &mut $crate::TileMut<'_, i32>) => $int::b1r64;
            fn b1(job: &$crate::body::Product<'_, $crate::I8Rows<'_>>, out: &mut $crate::TileMut<'_, i32>) => $int::b1;
            fn i8(job: &$crate::body::Product<'_, $crate::I8Rows<'_>>, out: &mut $crate::TileMut<'_, i32>) => $int::i8;
            fn t2_columns(job: &$crate::body::columns::Columns<'_>, out: &mut $crate::TileMut<'_, i32>) => $columns::t2_columns;
            fn t2_listed(job: &$crate::body::Product<'_, $crate::I8Rows<'_>>, list: &[u32], out: &mut $crate::TileMut<'_, i32>) => int::t2_listed;
            fn t5_listed(job: &$crate::body::Product<'_, $crate::I8Rows<'_>>, list: &[u32], out: &mut $crate::TileMut<'_, i32>) => int::t5_listed;
            fn i4(job: &$crate::body::Product<'_, $crate::I8Rows<'_>>, out: &mut $crate::TileMut<'_, f32>) => $grouped::i4;
            fn grouped(job: &$crate::body::Product<'_, $crate::I8Rows<'_>>, out: &mut $crate::TileMut<'_, f32>) => $grouped::grouped;
            fn by_group(job: &$crate::body::Product<'_, $crate::I8GroupRows<'_>>, out: &mut $crate::TileMut<'_, f32>) => $grouped::by_group;
            fn bits(job: &$crate::body::Product<'_, $crate::BitRows<'_>>, out: &mut $crate::TileMut<'_, i32>) => bits::bits;
            fn bits_grouped(job: &$crate::body::Product<'_, $crate::BitRows<'_>>, out: &mut $crate::TileMut<'_, f32>) => bits::bits_grouped;
            fn f16(job: &$crate::body::Product<'_, $crate::F32Rows<'_>>, out: &mut $crate::TileMut<'_, f32>) => float::f16;
            fn bf16(job: &$crate::body::Product<'_, $crate::F32Rows<'_>>, out: &mut $crate::TileMut<'_, f32>) => float::bf16;
            fn f32(job: &$crate::body::Product<'_, $crate::F32Rows<'_>>, out: &mut $crate::TileMut<'_, f32>) => float::f32;
            fn decoded(job: &$crate::body::Product<'_, $crate::F32Rows<'_>>, out: &mut $crate::TileMut<'_, f32>) => decoded::decoded;
            fn quantize_i8(x: &[f32], q: &mut [i8]) -> $crate::RowQuant => quantize::quantize_i8;
            fn quantize_i8_groups(x: &[f32], q: &mut [i8], multipliers: &mut [f32], sums: &mut [i32]) => quantize::quantize_i8_groups;
            fn quantize_sign(x: &[f32], q: &mut [i8]) -> $crate::RowQuant => quantize::quantize_sign;
            fn quantize_ternary(x: &[f32], q: &mut [i8]) -> $crate::RowQuant => quantize::quantize_ternary;
            fn quantize_bits(x: &[f32], bits: &mut [u8]) -> f32 => quantize::quantize_bits;
            fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) => elementwise::rms_norm;
            fn add(x: &mut [f32], y: &[f32]) => elementwise::add;
            fn silu(gate: &mut [f32], up: &[f32]) => elementwise::silu;
            fn relu2(gate: &mut [f32], up: &[f32]) => elementwise::relu2;
            fn rope(head: &mut [f32], cos: &[f32], sin: &[f32]) => elementwise::rope;
            fn exp(x: &mut [f32]) => math::exp_slice;
            fn store_f16(x: &[f32], out: &mut [u8]) => quantize::store_f16;
            fn read(bytes: &[u8]) -> u64 => limits::read;
            fn multiply(rounds: usize, ternary: bool) -> i32 => limits::multiply;
            fn store_q8(x: &[f32], out: &mut [u8]) -> f32 => quantize::store_q8;
            fn store_packed(x: &[f32], bits: usize, out: &mut [u8]) -> u16 => packed::store;
            fn rotate(head: &mut [f32]) => rotate::rotate;
            fn attend_span(a: &$crate::Attend<'_>, span: usize, second: usize, tile: &mut $crate::TileMut<'_, f32>) => attend::attend_span;
            fn merge(head_dim: usize, into: &mut [f32], from: &[f32]) => attend::merge;
            fn finish(head_dim: usize, partial: &[f32], out: &mut [f32]) => attend::finish;
        }
    };
    (@table $name:literal, $token:ty, $features:meta;
     $(fn $entry:ident($($arg:ident: $kind:ty),*) $(-> $ret:ty)? => $module:ident::$body:ident;)*) => {
        /// The kernels of this set.
        pub(crate) const TABLE: $crate::Kernels = $crate::Kernels { name: $name, batch: $crate::sets::PROMPT_BATCH, scaled: None, $($entry,)* };
        $(
            #[$features]
            unsafe fn $entry($($arg: $kind),*) $(-> $ret)? {
                // SAFETY: whoever calls through the table got it from the registry, which offers
                // it only when the CPU has the features.
                let set = unsafe { <$token>::assume() };
                $crate::body::$module::$body(set, $($arg),*)
            }
        )*

        impl $crate::sets::Apart for $token {
            #[inline(always)]
            fn apart<W: $crate::sets::Work<Self>>(self, work: W) {
                #[inline(never)]
                #[$features]
                unsafe fn apart<W: $crate::sets::Work<$token>>(set: $token, work: W) {
                    work.run(set);
                }
                // SAFETY: the token proves the features.
                unsafe { apart(self, work) }
            }
        }
    };
}
pub(crate) use kernel_set;
