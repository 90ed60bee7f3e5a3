//! Linears of the layers, and the one product of weights with a batch of tokens.

use super::arithmetic::{Rows, dot};
use super::weights::{Arithmetic, Inputs, Matrix, optional_vector};
use crate::blocks::{blocks, in_order};
use crate::config::quant::BitNetQuant;
use crate::error::Result;
use crate::source::Checkpoint;
use crate::verify::work::Work;

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
    pub(super) fn new(
        checkpoint: &'a Checkpoint,
        quant: Option<&BitNetQuant>,
        module: String,
    ) -> Result<Self> {
        let (weight, arithmetic) = Matrix::linear(checkpoint, quant, &module)?;
        let norm = optional_vector(checkpoint, &format!("{module}.rms_norm.weight"))?;
        let eps = quant.and_then(|quant| quant.input_norm_eps);
        Ok(Self {
            weight,
            arithmetic,
            bias: optional_vector(checkpoint, &format!("{module}.bias"))?,
            input_norm: norm.zip(eps),
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
            Arithmetic::Plain(inputs) => Ok(self.biased(self.product(&rounded(x, inputs), work)?)),
            Arithmetic::Divide { scale } => {
                let scales = x.quantize();
                let mut y = self.product(&x, work)?;
                for (row, s) in y.values.chunks_mut(y.width).zip(scales) {
                    row.iter_mut().for_each(|y| *y /= scale * s);
                }
                Ok(self.biased(y))
            }
            Arithmetic::Multiply { scale } => {
                let mut y = self.biased(self.product(&rounded(x, Inputs::Int8), work)?);
                y.values.iter_mut().for_each(|y| *y *= scale);
                Ok(y)
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

/// What rounding per token leaves of rows.
fn rounded(mut x: Rows, inputs: Inputs) -> Rows {
    match inputs {
        Inputs::Float => {}
        Inputs::Int8 => {
            let scales = x.quantize();
            for (row, s) in x.values.chunks_mut(x.width).zip(scales) {
                row.iter_mut().for_each(|x| *x /= s);
            }
        }
    }
    x
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
