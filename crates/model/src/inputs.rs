//! The inputs of linears: normed, and quantized where the linear asks for it, once per token.

use onebit_format::ActivationMode;
use onebit_kernels::{AlignedVec, Claims, F32Rows, I8Rows, Input, Tiles, padded_stride};

use crate::context::{Context, MAX_TOKEN_BLOCKS, by_tokens, row_work};

/// Room for one prepared input of up to `max_rows` tokens.
pub(crate) struct InputSlot {
    floats: AlignedVec<f32>,
    codes: AlignedVec<i8>,
    scales: AlignedVec<f32>,
    sums: AlignedVec<i32>,
    claims: [Claims; 4],
    tokens: usize,
    stride: usize,
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

/// In which forms an input is needed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Forms {
    pub(crate) floats: bool,
    pub(crate) codes: bool,
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

impl Forms {
    pub(crate) fn of(modes: impl IntoIterator<Item = ActivationMode>) -> Self {
        modes
            .into_iter()
            .fold(Self::default(), |forms, mode| match mode {
                ActivationMode::F32 => Self {
                    floats: true,
                    ..forms
                },
                _ => Self {
                    codes: true,
                    ..forms
                },
            })
    }
}

impl InputSlot {
    /// Elements of `floats`: all rows where linears take floats, else one row per block of tokens in flight.
    pub(crate) fn float_len(max_rows: usize, width: usize, float_inputs: bool) -> usize {
        let rows = if float_inputs {
            max_rows
        } else {
            max_rows.min(MAX_TOKEN_BLOCKS)
        };
        rows * padded_stride(width)
    }

    /// Bytes of a slot.
    pub(crate) fn bytes(max_rows: usize, width: usize, float_inputs: bool) -> usize {
        4 * Self::float_len(max_rows, width, float_inputs) + max_rows * (padded_stride(width) + 8)
    }

    /// `None` when memory does not suffice.
    pub(crate) fn new(max_rows: usize, width: usize, float_inputs: bool) -> Option<Self> {
        Some(Self {
            floats: AlignedVec::try_zeroed(Self::float_len(max_rows, width, float_inputs))?,
            codes: AlignedVec::try_zeroed(max_rows * padded_stride(width))?,
            scales: AlignedVec::try_zeroed(max_rows)?,
            sums: AlignedVec::try_zeroed(max_rows)?,
            claims: std::array::from_fn(|_| Claims::new(MAX_TOKEN_BLOCKS)),
            tokens: 0,
            stride: 0,
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
        let stride = padded_stride(width);
        (self.tokens, self.stride) = (tokens, stride);
        let block = ctx.token_block(tokens, width);
        let [a, b, c, d] = &mut self.claims;
        let floats = if forms.floats {
            Tiles::new(&mut self.floats, by_tokens(tokens, stride, block), a)
        } else {
            Tiles::new(
                &mut self.floats,
                by_tokens(tokens.div_ceil(block), stride, 1),
                a,
            )
        };
        let codes = Tiles::new(&mut self.codes, by_tokens(tokens, stride, block), b);
        let scales = Tiles::new(&mut self.scales, by_tokens(tokens, 1, block), c);
        let sums = Tiles::new(&mut self.sums, by_tokens(tokens, 1, block), d);
        ctx.run(tokens.div_ceil(block), row_work(tokens, width), &|part| {
            let (mut floats, mut codes) = (floats.claim(part, 0), codes.claim(part, 0));
            let (mut scales, mut sums) = (scales.claim(part, 0), sums.claim(part, 0));
            for i in 0..codes.rows() {
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
                if forms.codes {
                    let quant = ctx.kernels.quantize_i8(x, codes.row(i));
                    (scales.row(i)[0], sums.row(i)[0]) = (quant.scale, quant.sum);
                }
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
            stride: self.stride,
            tokens: self.tokens,
            pick: None,
        }
    }

    /// The slot as input of a linear that takes `mode`.
    pub(crate) fn input(&self, mode: ActivationMode) -> Input<'_> {
        let (tokens, stride) = (self.tokens, self.stride);
        match mode {
            ActivationMode::F32 => Input::F32(F32Rows::new(&self.floats, stride, tokens)),
            _ => Input::I8(I8Rows::new(
                &self.codes,
                stride,
                &self.scales[..tokens],
                &self.sums[..tokens],
            )),
        }
    }
}
