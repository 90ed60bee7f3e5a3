//! The inputs of linears: normed, and quantized where the linear asks for it, once per token.

use onebit_format::SIGN_GROUP;
use onebit_kernels::{
    AlignedVec, BitRows, Claims, F32Rows, I8GroupRows, I8Rows, Input, Kernels, TileMut, Tiles,
    padded_stride,
};

use crate::context::{Context, MAX_TOKEN_BLOCKS, by_tokens, row_work};
use crate::forms::{Codes, Form, Forms, InputForms};

/// Room for one prepared input of up to `max_rows` tokens, in some forms.
pub(crate) struct InputSlot {
    floats: AlignedVec<f32>,
    codes: AlignedVec<i8>,
    bits: AlignedVec<u8>,
    /// Of groups of codes.
    multipliers: AlignedVec<f32>,
    group_sums: AlignedVec<i32>,
    scales: AlignedVec<f32>,
    sums: AlignedVec<i32>,
    claims: [Claims; 7],
    tokens: usize,
    width: usize,
}

/// Rows of `width` numbers, `stride` apart; `pick` says which of them are taken, all in order where absent.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) width: usize,
    pub(crate) stride: usize,
    pub(crate) tokens: usize,
    pub(crate) pick: Option<&'a [usize]>,
}

/// An RMS norm: weight and epsilon.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) eps: f32,
}

impl<'a> Source<'a> {
    pub(crate) fn dense(data: &'a [f32], width: usize, tokens: usize) -> Self {
        Self {
            data,
            width,
            stride: width,
            tokens,
            pick: None,
        }
    }

    /// The rows of dense `data` that `pick` names.
    pub(crate) fn picked(data: &'a [f32], width: usize, pick: &'a [usize]) -> Self {
        Self {
            data,
            width,
            stride: width,
            tokens: pick.len(),
            pick: Some(pick),
        }
    }

    fn row(&self, token: usize) -> &'a [f32] {
        let row = self.pick.map_or(token, |pick| pick[token]);
        &self.data[row * self.stride..][..self.width]
    }
}

/// Numbers of elements in the buffers of a slot.
struct Lengths {
    floats: usize,
    codes: usize,
    bits: usize,
    groups: usize,
    rows: usize,
}

impl Lengths {
    /// Floats take one row per block of tokens in flight where no linear reads them.
    fn new(max_rows: usize, width: usize, forms: InputForms) -> Self {
        let stride = padded_stride(width);
        let float_rows = if forms.floats {
            max_rows
        } else {
            max_rows.min(MAX_TOKEN_BLOCKS)
        };
        let rows = |asked| if asked { max_rows } else { 0 };
        Self {
            floats: float_rows * stride,
            codes: rows(forms.codes) * stride,
            bits: rows(forms.bits) * stride / 8,
            groups: rows(forms.groups) * width.div_ceil(SIGN_GROUP),
            rows: max_rows,
        }
    }

    fn bytes(&self) -> usize {
        4 * self.floats + 8 * self.groups + self.codes + self.bits + 8 * self.rows
    }
}

impl InputSlot {
    /// Bytes of a slot.
    pub(crate) fn bytes(max_rows: usize, width: usize, forms: InputForms) -> usize {
        Lengths::new(max_rows, width, forms).bytes()
    }

    /// `None` when memory does not suffice.
    pub(crate) fn new(max_rows: usize, width: usize, forms: InputForms) -> Option<Self> {
        let lengths = Lengths::new(max_rows, width, forms);
        Some(Self {
            floats: AlignedVec::try_zeroed(lengths.floats)?,
            codes: AlignedVec::try_zeroed(lengths.codes)?,
            bits: AlignedVec::try_zeroed(lengths.bits)?,
            multipliers: AlignedVec::try_zeroed(lengths.groups)?,
            group_sums: AlignedVec::try_zeroed(lengths.groups)?,
            scales: AlignedVec::try_zeroed(lengths.rows)?,
            sums: AlignedVec::try_zeroed(lengths.rows)?,
            claims: std::array::from_fn(|_| Claims::new(MAX_TOKEN_BLOCKS)),
            tokens: 0,
            width: 0,
        })
    }

    /// Fills the slot with the rows of `source`, normed where there is a norm, in the `forms` asked for.
    pub(crate) fn fill(
        &mut self,
        ctx: &Context<'_>,
        source: Source<'_>,
        norm: Option<Norm<'_>>,
        forms: Forms,
    ) {
        let (tokens, width) = (source.tokens, source.width);
        let (stride, groups) = (padded_stride(width), width.div_ceil(SIGN_GROUP));
        (self.tokens, self.width) = (tokens, width);
        let block = ctx.token_block(tokens, width);
        let [a, b, c, d, e, f, g] = &mut self.claims;
        let (float_rows, float_block) = if forms.floats {
            (tokens, block)
        } else {
            (tokens.div_ceil(block), 1)
        };
        let grid = |width| by_tokens(tokens, width, block);
        let floats = Tiles::new(
            &mut self.floats,
            by_tokens(float_rows, stride, float_block),
            a,
        );
        let (has_codes, has_groups) = (forms.codes.is_some(), forms.codes == Some(Codes::I8Groups));
        let codes = has_codes.then(|| Tiles::new(&mut self.codes, grid(stride), b));
        let bits = forms
            .bits
            .then(|| Tiles::new(&mut self.bits, grid(stride / 8), c));
        let multipliers = has_groups.then(|| Tiles::new(&mut self.multipliers, grid(groups), d));
        let group_sums = has_groups.then(|| Tiles::new(&mut self.group_sums, grid(groups), g));
        let scales = Tiles::new(&mut self.scales, grid(1), e);
        let sums = Tiles::new(&mut self.sums, grid(1), f);
        ctx.run(tokens.div_ceil(block), row_work(tokens, width), &|part| {
            let mut floats = floats.claim(part, 0);
            let mut out = Quantized {
                codes: codes.as_ref().map(|codes| codes.claim(part, 0)),
                bits: bits.as_ref().map(|bits| bits.claim(part, 0)),
                multipliers: multipliers.as_ref().map(|tiles| tiles.claim(part, 0)),
                group_sums: group_sums.as_ref().map(|tiles| tiles.claim(part, 0)),
                scales: scales.claim(part, 0),
                sums: sums.claim(part, 0),
            };
            for i in 0..out.scales.rows() {
                let x = source.row(part * block + i);
                let float_row = floats.row(if forms.floats { i } else { 0 });
                let x = match norm {
                    Some(norm) => {
                        ctx.kernels
                            .rms_norm(x, norm.weight, norm.eps, &mut float_row[..width]);
                        &float_row[..width]
                    }
                    None if forms.floats => {
                        float_row[..width].copy_from_slice(x);
                        &float_row[..width]
                    }
                    None => x,
                };
                out.quantize(ctx.kernels, forms.codes, i, x);
                if forms.floats {
                    float_row[width..].fill(0.0);
                }
            }
        });
    }

    /// The floats of the slot, `width` of them per token, as source of another.
    pub(crate) fn source(&self, width: usize) -> Source<'_> {
        Source {
            data: &self.floats,
            width,
            stride: padded_stride(self.width),
            tokens: self.tokens,
            pick: None,
        }
    }

    /// The slot as input of a linear that takes `form`.
    pub(crate) fn input(&self, form: Form) -> Input<'_> {
        let (tokens, stride) = (self.tokens, padded_stride(self.width));
        let scales = &self.scales[..tokens];
        match form {
            Form::Floats => Input::F32(F32Rows::new(&self.floats, stride, tokens)),
            Form::Bits => Input::Bits(BitRows::new(&self.bits, stride / 8, scales)),
            Form::Codes(Codes::I8Groups) => {
                let groups = self.width.div_ceil(SIGN_GROUP);
                let multipliers = &self.multipliers[..tokens * groups];
                let sums = &self.group_sums[..tokens * groups];
                let rows = I8GroupRows::new(&self.codes, stride, multipliers, sums, groups);
                Input::I8Groups(rows)
            }
            Form::Codes(_) => {
                let sums = &self.sums[..tokens];
                Input::I8(I8Rows::new(&self.codes, stride, scales, sums))
            }
        }
    }
}

/// Where the quantized forms of some rows go.
struct Quantized<'a> {
    codes: Option<TileMut<'a, i8>>,
    bits: Option<TileMut<'a, u8>>,
    multipliers: Option<TileMut<'a, f32>>,
    group_sums: Option<TileMut<'a, i32>>,
    scales: TileMut<'a, f32>,
    sums: TileMut<'a, i32>,
}

impl Quantized<'_> {
    /// Row `i` from its floats.
    fn quantize(&mut self, kernels: &Kernels, kind: Option<Codes>, i: usize, x: &[f32]) {
        if let (Some(codes), Some(kind)) = (&mut self.codes, kind) {
            let codes = codes.row(i);
            let groups = self.multipliers.as_mut().zip(self.group_sums.as_mut());
            let quant = match (kind, groups) {
                (Codes::I8Groups, Some((multipliers, sums))) => {
                    let (multipliers, sums) = (multipliers.row(i), sums.row(i));
                    return kernels.quantize_i8_groups(x, codes, multipliers, sums);
                }
                (Codes::Sign, _) => kernels.quantize_sign(x, codes),
                (Codes::Ternary, _) => kernels.quantize_ternary(x, codes),
                (Codes::I8Token | Codes::I8Groups, _) => kernels.quantize_i8(x, codes),
            };
            (self.scales.row(i)[0], self.sums.row(i)[0]) = (quant.scale, quant.sum);
        }
        if let Some(bits) = &mut self.bits {
            self.scales.row(i)[0] = kernels.quantize_bits(x, bits.row(i));
        }
    }
}
