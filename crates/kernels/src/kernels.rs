//! The table of kernels of one instruction set, and the checked methods that call through it.

use std::ops::Range;

use onebit_format::{Layout, MatrixRef, SIGN_GROUP, Scales};
use thiserror::Error;

use crate::activation::Activation;
use crate::body::Product;
use crate::body::columns::Columns;
use crate::input::{BitRows, F32Rows, I8GroupRows, I8Rows, Input, RowQuant};
use crate::kv::Attend;
use crate::tiles::TileMut;

mod attention;
mod limits;

/// Tokens from which sums are scaled some rows at a time.
const MANY: usize = 32;

/// Of these rows a multiple: they are unpacked at once, and whole bands.
const ROWS: usize = 128;

/// Sums that are computed before they are scaled: a second-level cache keeps them.
const SUMS: usize = 1 << 16;

/// A kernel set was asked for by a name that cannot be served.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KernelError {
    /// No set has this name.
    #[error("unknown kernel set {name:?}; known sets: {}", Kernels::all_names().join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// The set exists, but not on this machine.
    #[error("kernel set {name} is not available: {reason}")]
    Unavailable {
        /// The name asked for.
        name: String,
        /// What is missing.
        reason: String,
    },
}

/// Exact sums of an integer matrix and int8 activations.
type SumsFn = unsafe fn(&Product<'_, I8Rows<'_>>, &mut TileMut<'_, i32>);
/// The same, scaled: finished products. Whether it did anything.
type ScaledFn = unsafe fn(&Product<'_, I8Rows<'_>>, &mut TileMut<'_, f32>) -> bool;
/// Exact sums of listed rows of a ternary matrix and int8 activations.
type ListedFn = unsafe fn(&Product<'_, I8Rows<'_>>, &[u32], &mut TileMut<'_, i32>);
/// Exact sums of a ternary matrix stored transposed and int8 activations.
type ColumnsFn = unsafe fn(&Columns<'_>, &mut TileMut<'_, i32>);
/// Finished products of an integer matrix and int8 activations.
type GroupedFn = unsafe fn(&Product<'_, I8Rows<'_>>, &mut TileMut<'_, f32>);
/// Codes of a row by groups, with the multiplier and the sum of each.
type QuantizeGroupsFn = unsafe fn(&[f32], &mut [i8], &mut [f32], &mut [i32]);
/// Finished products of a ternary or binary matrix and int8 activations scaled by group.
type ByGroupFn = unsafe fn(&Product<'_, I8GroupRows<'_>>, &mut TileMut<'_, f32>);
/// Exact sums of a binary matrix and signs.
type BitsFn = unsafe fn(&Product<'_, BitRows<'_>>, &mut TileMut<'_, i32>);
/// Finished products of a binary matrix and signs.
type BitsGroupedFn = unsafe fn(&Product<'_, BitRows<'_>>, &mut TileMut<'_, f32>);
/// Finished products of a matrix and float activations.
type FloatFn = unsafe fn(&Product<'_, F32Rows<'_>>, &mut TileMut<'_, f32>);

/// One span of the attention of some queries: the first span of a query goes to the start of its row,
/// another to where the second number says.
type AttendFn = unsafe fn(&Attend<'_>, usize, usize, &mut TileMut<'_, f32>);

/// The kernels of one instruction set: a table of functions, and methods that check what they are
/// given and call through it.
///
/// Got from [`best`](Kernels::best), [`by_name`](Kernels::by_name) or
/// [`available`](Kernels::available) only, which offer a set when this CPU can run it; that is what
/// makes the methods safe. All sets give the same results, bit for bit, except for the sign and
/// payload of NaN.
pub struct Kernels {
    pub(crate) name: &'static str,
    pub(crate) batch: usize,
    pub(crate) t2: SumsFn,
    pub(crate) t5: SumsFn,
    pub(crate) t5r5: SumsFn,
    pub(crate) b1: SumsFn,
    pub(crate) t2r16: SumsFn,
    pub(crate) b1r64: SumsFn,
    pub(crate) i8: SumsFn,
    /// What scales sums as they arise, where there is something.
    pub(crate) scaled: Option<ScaledFn>,
    pub(crate) t2_columns: ColumnsFn,
    pub(crate) t2_listed: ListedFn,
    pub(crate) t5_listed: ListedFn,
    pub(crate) i4: GroupedFn,
    pub(crate) grouped: GroupedFn,
    pub(crate) by_group: ByGroupFn,
    pub(crate) bits: BitsFn,
    pub(crate) bits_grouped: BitsGroupedFn,
    pub(crate) f16: FloatFn,
    pub(crate) bf16: FloatFn,
    pub(crate) f32: FloatFn,
    pub(crate) decoded: FloatFn,
    pub(crate) quantize_i8: unsafe fn(&[f32], &mut [i8]) -> RowQuant,
    pub(crate) quantize_i8_groups: QuantizeGroupsFn,
    pub(crate) quantize_sign: unsafe fn(&[f32], &mut [i8]) -> RowQuant,
    pub(crate) quantize_ternary: unsafe fn(&[f32], &mut [i8]) -> RowQuant,
    pub(crate) quantize_bits: unsafe fn(&[f32], &mut [u8]) -> f32,
    pub(crate) rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    pub(crate) add: unsafe fn(&mut [f32], &[f32]),
    pub(crate) silu: unsafe fn(&mut [f32], &[f32]),
    pub(crate) relu2: unsafe fn(&mut [f32], &[f32]),
    pub(crate) rope: unsafe fn(&mut [f32], &[f32], &[f32]),
    pub(crate) exp: unsafe fn(&mut [f32]),
    pub(crate) store_f16: unsafe fn(&[f32], &mut [u8]),
    pub(crate) read: unsafe fn(&[u8]) -> u64,
    pub(crate) multiply: unsafe fn(usize, bool) -> i32,
    pub(crate) store_q8: unsafe fn(&[f32], &mut [u8]) -> f32,
    pub(crate) store_packed: unsafe fn(&[f32], usize, &mut [u8]) -> u16,
    pub(crate) rotate: unsafe fn(&mut [f32]),
    pub(crate) attend_span: AttendFn,
    pub(crate) merge: unsafe fn(usize, &mut [f32], &[f32]),
    pub(crate) finish: unsafe fn(usize, &[f32], &mut [f32]),
}

impl Kernels {
    /// The name of this set.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Tokens of a prompt to multiply at once: the fewest from which on more would gain little.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Quantizes one row of activations to int8: `scale = 127 / max(absmax, 1e-5)` and
    /// `q = clamp(round_half_even(x * scale), -128, 127)`. The tail of `q` past `x` is zeroed.
    ///
    /// A row that holds an infinity or NaN gives all-zero codes and a NaN scale, so that every
    /// product of it is NaN.
    ///
    /// # Panics
    /// When `q` is shorter than `x`.
    pub fn quantize_i8(&self, x: &[f32], q: &mut [i8]) -> RowQuant {
        check_room(x.len(), q.len());
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { (self.quantize_i8)(x, q) }
    }

    /// Quantizes each group of 128 columns of a row as [`quantize_i8`](Kernels::quantize_i8) does a
    /// whole row, and writes `1 / scale` of each, so that values are codes times these, and the sum of its codes.
    ///
    /// A group that holds an infinity or NaN gives all-zero codes and a NaN multiplier.
    ///
    /// # Panics
    /// When `q` is shorter than `x`, or there is not one multiplier and one sum per group.
    pub fn quantize_i8_groups(
        &self,
        x: &[f32],
        q: &mut [i8],
        multipliers: &mut [f32],
        sums: &mut [i32],
    ) {
        check_room(x.len(), q.len());
        let groups = x.len().div_ceil(SIGN_GROUP);
        assert_eq!(multipliers.len(), groups, "multipliers and groups");
        assert_eq!(sums.len(), groups, "sums and groups");
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { (self.quantize_i8_groups)(x, q, multipliers, sums) }
    }

    /// The signs of a row as codes -1 and 1, where zeros of either sign are 1. The scale is
    /// `1 / max(mean, 1e-5)` with the mean of the magnitudes. The tail of `q` past `x` is zeroed.
    ///
    /// A row whose mean is not finite gives all-zero codes and a NaN scale.
    ///
    /// # Panics
    /// When `q` is shorter than `x`.
    pub fn quantize_sign(&self, x: &[f32], q: &mut [i8]) -> RowQuant {
        check_room(x.len(), q.len());
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { (self.quantize_sign)(x, q) }
    }

    /// A row as -1, 0 and 1: `q = clamp(round_half_even(x * scale), -1, 1)` with the scale of
    /// [`quantize_sign`](Kernels::quantize_sign). The tail of `q` past `x` is zeroed.
    ///
    /// A row whose mean is not finite gives all-zero codes and a NaN scale.
    ///
    /// # Panics
    /// When `q` is shorter than `x`.
    pub fn quantize_ternary(&self, x: &[f32], q: &mut [i8]) -> RowQuant {
        check_room(x.len(), q.len());
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { (self.quantize_ternary)(x, q) }
    }

    /// The codes of [`quantize_sign`](Kernels::quantize_sign) as bits, in the order of
    /// [`BitRows`]; the bits past `x` are 0. Returns the scale.
    ///
    /// # Panics
    /// When `bits` is shorter than whole atoms of 64 bytes for `x`.
    pub fn quantize_bits(&self, x: &[f32], bits: &mut [u8]) -> f32 {
        check_room(x.len().next_multiple_of(512), 8 * bits.len());
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { (self.quantize_bits)(x, bits) }
    }

    /// The matrix product `out[t][i] = sum over k of w[rows.start + i][k] * x[t][k]`, written to a
    /// tile of one row per token and one column per weight row.
    ///
    /// | layout | activations | arithmetic |
    /// |---|---|---|
    /// | T2, T2R16, T5, T5R5, B1, B1R64 (one scale), I8 | int8 | exact sum, times `weight_scale / activation_scale` |
    /// | I4; T2, T2R16, B1 and B1R64 with group scales | int8 | exact within a group, `f32` in their order across |
    /// | T2, T2R16, B1, B1R64 | int8 by groups | the same |
    /// | B1 | signs | as the same signs in int8 |
    /// | F16, BF16, F32 | f32 | 16 lanes of `f32`, multiply then add |
    /// | T2, T2R16, T5, T5R5, B1, B1R64, I8, I4 | f32 | as the float layouts, with `code * scale` as the weight |
    ///
    /// # Panics
    /// When shapes do not fit, or the layout does not take these activations.
    pub fn matmul(
        &self,
        w: &MatrixRef<'_>,
        rows: Range<usize>,
        x: Input<'_>,
        out: &mut TileMut<'_, f32>,
    ) {
        match x {
            Input::I8(x) => self.matmul_i8(Product::new(w, rows, x, out), out),
            Input::I8Groups(x) => self.matmul_by_group(&Product::new(w, rows, x, out), out),
            Input::Bits(x) => self.matmul_bits(&Product::new(w, rows, x, out), out),
            Input::F32(x) => self.matmul_f32(&Product::new(w, rows, x, out), out),
        }
    }

    fn matmul_by_group(&self, job: &Product<'_, I8GroupRows<'_>>, out: &mut TileMut<'_, f32>) {
        let layout = job.w.layout();
        assert!(
            matches!(
                layout,
                Layout::T2 | Layout::T2R16 | Layout::B1 | Layout::B1R64
            ),
            "layout {layout} takes no int8 activations scaled by group"
        );
        let groups = job.w.cols().div_ceil(SIGN_GROUP);
        assert!(
            groups <= job.x.groups(),
            "{groups} groups of columns, {} of activations",
            job.x.groups()
        );
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { (self.by_group)(job, out) }
    }

    fn matmul_bits(&self, job: &Product<'_, BitRows<'_>>, out: &mut TileMut<'_, f32>) {
        let layout = job.w.layout();
        assert!(layout == Layout::B1, "layout {layout} takes no signs");
        if let Scales::Groups { .. } = job.w.scales() {
            // SAFETY: the registry offers this set only on a CPU that has its features.
            return unsafe { (self.bits_grouped)(job, out) };
        }
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { (self.bits)(job, &mut out.as_sums()) }
        scale_sums(job.w, job.rows.clone(), |t| job.x.scale(t), out);
    }

    /// The products of single rows: `out[t][i] = sum over k of w[list[i]][k] * x[t][k]`, the bits
    /// that [`matmul`](Kernels::matmul) gives. The other rows are not read, but for those that share
    /// their bytes with a listed one.
    ///
    /// # Panics
    /// When shapes do not fit, a row is out of range, or a float layout gets int8 activations.
    pub fn matmul_listed(
        &self,
        w: &MatrixRef<'_>,
        list: &[u32],
        x: Input<'_>,
        out: &mut TileMut<'_, f32>,
    ) {
        assert_eq!(out.rows(), x.tokens(), "output rows and tokens");
        assert_eq!(out.width(), list.len(), "output columns and listed rows");
        let listed = match w.layout() {
            Layout::T2 => Some(self.t2_listed),
            Layout::T5 => Some(self.t5_listed),
            _ => None,
        };
        match (listed, w.scales(), x) {
            (Some(listed), Scales::Tensor(scale), Input::I8(x)) => {
                let mut none = [0.0f32; 0];
                let empty = TileMut::strided(&mut none, x.tokens(), 0, 0);
                let job = Product::new(w, 0..0, x, &empty);
                // SAFETY: the registry offers this set only on a CPU that has its features.
                unsafe { listed(&job, list, &mut out.as_sums()) };
                scale_by(scale, x, out);
            }
            _ => {
                for (i, row) in list.iter().map(|row| *row as usize).enumerate() {
                    self.matmul(w, row..row + 1, x, &mut out.columns(i..i + 1));
                }
            }
        }
    }

    fn matmul_i8(&self, job: Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, f32>) {
        let grouped = match (job.w.layout(), job.w.scales()) {
            (Layout::I4, _) => self.i4,
            (_, Scales::Groups { .. }) => self.grouped,
            _ => return self.scaled_sums(&job, out),
        };
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { grouped(&job, out) }
    }

    /// Exact sums, scaled. Those of many tokens some rows at a time, while they are still in a cache.
    fn scaled_sums(&self, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, f32>) {
        if let Some(scaled) = self.scaled {
            // SAFETY: the registry offers this set only on a CPU that has its features.
            let done = unsafe { scaled(job, out) };
            if done {
                return;
            }
        }
        let Product { w, rows, x } = job;
        let step = match x.tokens() {
            ..MANY => rows.len().max(1),
            tokens => ROWS * (SUMS / (ROWS * tokens)).max(1),
        };
        for start in rows.clone().step_by(step) {
            let some = start..rows.end.min(start + step);
            let out = &mut out.columns(some.start - rows.start..some.end - rows.start);
            let job = Product {
                w,
                rows: some.clone(),
                x: *x,
            };
            self.exact_sums(&job, &mut out.as_sums());
            scale_sums(w, some, |t| x.scale(t), out);
        }
    }

    fn matmul_f32(&self, job: &Product<'_, F32Rows<'_>>, out: &mut TileMut<'_, f32>) {
        let kernel = match job.w.layout() {
            Layout::F16 => self.f16,
            Layout::BF16 => self.bf16,
            Layout::F32 => self.f32,
            _ => self.decoded,
        };
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { kernel(job, out) }
    }

    /// The exact integer sums `sum over k of code(rows.start + i, k) * x[t][k]` of a T2, T2R16, T5, T5R5, B1,
    /// B1R64 or I8 matrix: what [`matmul`](Kernels::matmul) scales. They wrap at 32 bits.
    ///
    /// # Panics
    /// When shapes do not fit, or for another layout.
    pub fn sums(
        &self,
        w: &MatrixRef<'_>,
        rows: Range<usize>,
        x: I8Rows<'_>,
        out: &mut TileMut<'_, i32>,
    ) {
        self.exact_sums(&Product::new(w, rows, x, out), out);
    }

    fn exact_sums(&self, job: &Product<'_, I8Rows<'_>>, out: &mut TileMut<'_, i32>) {
        let kernel = match job.w.layout() {
            Layout::T2 => self.t2,
            Layout::T5 => self.t5,
            Layout::T5R5 => self.t5r5,
            Layout::B1 => self.b1,
            Layout::T2R16 => self.t2r16,
            Layout::B1R64 => self.b1r64,
            Layout::I8 => self.i8,
            layout => panic!("layout {layout} has no integer sums with int8 activations"),
        };
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { kernel(job, out) }
    }

    /// `out = x / sqrt(mean(x^2) + eps) * weight`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        assert_eq!(x.len(), weight.len(), "norm input and weight");
        assert_eq!(x.len(), out.len(), "norm input and output");
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { (self.rms_norm)(x, weight, eps, out) }
    }

    /// `x += y`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        assert_eq!(x.len(), y.len(), "terms of a sum");
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { (self.add)(x, y) }
    }

    /// `gate = activation(gate) * up`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn gate(&self, activation: Activation, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "gate and up");
        let kernel = match activation {
            Activation::Silu => self.silu,
            Activation::Relu2 => self.relu2,
        };
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { kernel(gate, up) }
    }

    /// Rotates one head in place, the pairs being element `i` of its first and of its second half:
    /// `(a, b)` becomes `(a * cos - b * sin, b * cos + a * sin)`.
    ///
    /// # Panics
    /// When `cos` and `sin` are not half as long as `head`.
    pub fn rope(&self, head: &mut [f32], cos: &[f32], sin: &[f32]) {
        assert_eq!(head.len(), 2 * cos.len(), "head and cosines");
        assert_eq!(head.len(), 2 * sin.len(), "head and sines");
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { (self.rope)(head, cos, sin) }
    }

    /// `x = e^x`, within 1.5 ulp; below -104 it is 0, above 88.73 infinite, and NaN stays NaN.
    pub fn exp(&self, x: &mut [f32]) {
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { (self.exp)(x) }
    }
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernels")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Refuses to quantize into less room than there are values.
#[track_caller]
fn check_room(values: usize, codes: usize) {
    assert!(values <= codes, "{values} values into {codes} codes");
}

/// Turns the exact sums that stand in `out` into products: `sum as f32 * (weight scale / activation
/// scale)`.
fn scale_sums(
    w: &MatrixRef<'_>,
    rows: Range<usize>,
    x_scale: impl Fn(usize) -> f32,
    out: &mut TileMut<'_, f32>,
) {
    for t in 0..out.rows() {
        let x_scale = x_scale(t);
        let out = out.row(t);
        match w.scales() {
            Scales::Tensor(scale) => scale_row(scale / x_scale, out),
            Scales::Rows(scales) => {
                for (y, scale) in out.iter_mut().zip(&scales[rows.clone()]) {
                    *y = y.to_bits() as i32 as f32 * (scale / x_scale);
                }
            }
            Scales::None | Scales::Groups { .. } => unreachable!("integer sums of {w:?}"),
        }
    }
}

/// [`scale_sums`] for one weight scale.
pub(crate) fn scale_by(scale: f32, x: I8Rows<'_>, out: &mut TileMut<'_, f32>) {
    for t in 0..out.rows() {
        scale_row(scale / x.scale(t), out.row(t));
    }
}

fn scale_row(factor: f32, out: &mut [f32]) {
    for y in out {
        *y = y.to_bits() as i32 as f32 * factor;
    }
}
