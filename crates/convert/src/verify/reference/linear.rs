//! Linears of the layers, and the one product of weights with a batch of tokens.

use onebit_format::ActivationMode;
use safetensors::Dtype;

use super::arithmetic::{Rows, dot};
use super::tensors::optional_vector;
use super::weights::{Matrix, Round};
use crate::blocks::{blocks, in_order};
use crate::config::few_bits::{Kind, OneBit};
use crate::config::quant::{BitNetQuant, Quant, ScaleMeaning};
use crate::error::Result;
use crate::source::Checkpoint;
use crate::verify::work::Work;

/// How a linear turns its input and its weights into its output.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Arithmetic {
    /// `nn.Linear`: `x W + bias`.
    Float,
    /// `BitLinear`: `q C / (s * scale) + bias`, where `q` are the int8 codes of `x`, `s` their scale and `C` codes.
    Divide { scale: f32 },
    /// `AutoBitLinear`, offline: `(q / s C + bias) * scale`.
    Multiply { scale: f32 },
    /// `AutoBitLinear`, online, and the layers of 1bitLLM: `q / s W + bias`, where `W` are ternary values times the
    /// mean magnitude of the masters.
    Online,
    /// The onebit convention: `q W * (unit * scale) + bias`, where `q` are the codes of `x` in a mode and `unit` is
    /// what they are multiplied by; sums of codes are exact.
    Codes { mode: ActivationMode, scale: f32 },
}

/// A linear of a layer with everything that belongs to it.
pub(super) struct Linear<'a> {
    module: String,
    weight: Matrix<'a>,
    arithmetic: Arithmetic,
    bias: Option<Vec<f32>>,
    /// Weight and epsilon of the norm on its input.
    input_norm: Option<(Vec<f32>, f32)>,
}

impl<'a> Linear<'a> {
    /// The linear `module`, whose input has `cols` numbers. Masters are read once for their mean.
    pub(super) fn new(
        checkpoint: &'a Checkpoint,
        quant: Option<&Quant>,
        module: String,
        cols: usize,
    ) -> Result<Self> {
        let (weight, arithmetic) = match quant {
            Some(Quant::BitNet(quant)) if quant.converts(&module) => {
                bitnet(checkpoint, quant, &module)?
            }
            Some(Quant::OneBit(quant)) => onebit(checkpoint, *quant, &module, cols)?,
            quant => (plain(checkpoint, quant, &module)?, Arithmetic::Float),
        };
        let norm = optional_vector(checkpoint, &format!("{module}.rms_norm.weight"))?;
        Ok(Self {
            weight,
            arithmetic,
            bias: optional_vector(checkpoint, &format!("{module}.bias"))?,
            input_norm: norm.zip(quant.and_then(Quant::input_norm_eps)),
            module,
        })
    }

    /// `[tokens, inputs]` to `[tokens, outputs]`.
    pub(super) fn forward(&self, x: &Rows, work: &mut Work<'_>) -> Result<Rows> {
        let mut x = x.clone();
        if let Some((weight, eps)) = &self.input_norm {
            x = x.norm(weight, *eps);
        }
        match self.arithmetic {
            Arithmetic::Float => Ok(self.biased(self.product(&x, work)?)),
            Arithmetic::Divide { scale } => {
                let scales = x.quantize();
                let y = self.product(&x, work)?;
                Ok(self.biased(y.each_row(&scales, |y, s| y / (scale * s))))
            }
            Arithmetic::Multiply { scale } => {
                let scales = x.quantize();
                let x = x.each_row(&scales, |q, s| q / s);
                let mut y = self.biased(self.product(&x, work)?);
                y.values.iter_mut().for_each(|y| *y *= scale);
                Ok(y)
            }
            Arithmetic::Online => {
                let scales = x.quantize();
                let x = x.each_row(&scales, |q, s| q / s);
                Ok(self.biased(self.product(&x, work)?))
            }
            Arithmetic::Codes { mode, scale } => {
                let units = x.encode(mode)?;
                let y = self.product(&x, work)?;
                Ok(self.biased(y.each_row(&units, |y, unit| y * (unit * scale))))
            }
        }
    }

    fn product(&self, x: &Rows, work: &mut Work<'_>) -> Result<Rows> {
        product(&self.weight, x, &self.module, work)
    }

    fn biased(&self, mut y: Rows) -> Rows {
        if let Some(bias) = &self.bias {
            for row in y.values.chunks_mut(bias.len()) {
                row.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
            }
        }
        y
    }
}

/// A matrix that floats are multiplied with: floats, or words of MLX.
pub(super) fn plain<'a>(
    checkpoint: &'a Checkpoint,
    quant: Option<&Quant>,
    module: &str,
) -> Result<Matrix<'a>> {
    match quant {
        Some(Quant::Mlx(mlx)) => Matrix::words(checkpoint, module, mlx.bits),
        _ => Matrix::floats(checkpoint, module),
    }
}

fn is_packed(checkpoint: &Checkpoint, module: &str) -> Result<bool> {
    let weight = checkpoint.tensor(&format!("{module}.weight"))?;
    Ok(weight.dtype == Dtype::U8)
}

fn bitnet<'a>(
    checkpoint: &'a Checkpoint,
    quant: &BitNetQuant,
    module: &str,
) -> Result<(Matrix<'a>, Arithmetic)> {
    let stored = || match is_packed(checkpoint, module)? {
        true => Matrix::ternary(checkpoint, module),
        false => Matrix::floats(checkpoint, module),
    };
    let scale = || Matrix::stored_scale(checkpoint, module);
    match (quant.scale, quant.online) {
        (ScaleMeaning::Divisor, _) => Ok((stored()?, Arithmetic::Divide { scale: scale()? })),
        (ScaleMeaning::Multiplier, false) => {
            Ok((stored()?, Arithmetic::Multiply { scale: scale()? }))
        }
        (ScaleMeaning::Multiplier, true) => {
            let masters = Matrix::floats(checkpoint, module)?;
            let scale = 1.0 / masters.mean_magnitude()?;
            let unit = 1.0 / scale;
            Ok((
                masters.masters(Round::Ternary { scale, unit }),
                Arithmetic::Online,
            ))
        }
    }
}

fn onebit<'a>(
    checkpoint: &'a Checkpoint,
    quant: OneBit,
    module: &str,
    cols: usize,
) -> Result<(Matrix<'a>, Arithmetic)> {
    let mode = quant.activations;
    if !is_packed(checkpoint, module)? {
        let masters = Matrix::floats(checkpoint, module)?;
        let mean = masters.mean_magnitude()?;
        let inverse = 1.0 / mean;
        let (round, scale) = match quant.weights {
            Kind::Binary => (Round::Sign, mean),
            Kind::Ternary => (
                Round::Ternary {
                    scale: inverse,
                    unit: 1.0,
                },
                1.0 / inverse,
            ),
        };
        return Ok((masters.masters(round), Arithmetic::Codes { mode, scale }));
    }
    let codes = match quant.weights {
        Kind::Binary => Matrix::binary(checkpoint, module, cols)?,
        Kind::Ternary => Matrix::ternary(checkpoint, module)?,
    };
    if quant.grouped {
        let scales = checkpoint.tensor(&format!("{module}.weight_scale"))?;
        let scale = 1.0;
        return Ok((codes.grouped(scales), Arithmetic::Codes { mode, scale }));
    }
    let scale = Matrix::stored_scale(checkpoint, module)?;
    Ok((codes, Arithmetic::Codes { mode, scale }))
}

/// `x` times the transposed `matrix`. Blocks of its rows are read and multiplied on several threads, so that only those
/// are in memory.
pub(super) fn product(
    matrix: &Matrix<'_>,
    x: &Rows,
    name: &str,
    work: &mut Work<'_>,
) -> Result<Rows> {
    let (tokens, width) = (x.tokens(), matrix.rows);
    let mut out = Rows::zeros(tokens, width);
    let multiply = |rows: std::ops::Range<usize>| {
        let weights = matrix.weights(rows.clone())?;
        let weights = weights.chunks(matrix.cols);
        let products: Vec<f32> = weights
            .flat_map(|w| (0..tokens).map(move |token| dot(w, x.row(token))))
            .collect();
        Ok((rows, products))
    };
    in_order(blocks(width, matrix.cols), multiply, |(rows, products)| {
        work.advance(name, matrix.bytes() * rows.len() as u64 / width as u64)?;
        for (row, products) in rows.zip(products.chunks(tokens)) {
            for (token, product) in products.iter().enumerate() {
                out.values[token * width + row] = *product;
            }
        }
        Ok(())
    })?;
    Ok(out)
}
