//! Source tensors as the float weights that the published forward pass multiplies with.

use std::ops::Range;

use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

use crate::blocks::blocks;
use crate::config::quant::{BitNetQuant, ScaleMeaning};
use crate::error::{ConvertError, Result};
use crate::source::Checkpoint;
use crate::source::shard::TensorInfo;

/// How a linear turns its input and its weights into its output, by the class that computes it in `transformers`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Arithmetic {
    /// `x^ W + bias`, where `x^` is what is left of the input: `nn.Linear`; with int8, `AutoBitLinear` online and the
    /// layers of 1bitLLM, whose `W` are ternary values times the mean magnitude of the masters.
    Plain(Inputs),
    /// `BitLinear`: `q C / (s * scale) + bias`, where `q` are the int8 codes of `x` and `s` their scale.
    Divide { scale: f32 },
    /// `AutoBitLinear`, offline: `(q / s C + bias) * scale`.
    Multiply { scale: f32 },
}

/// What the inputs of a linear are rounded to, one scale per token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Inputs {
    /// Nothing.
    Float,
    /// `q / s` with the int8 codes `q`.
    Int8,
}

/// A matrix of the source, read by rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix<'a> {
    checkpoint: &'a Checkpoint,
    tensor: &'a TensorInfo,
    storage: Storage,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

/// What the bytes of a matrix mean.
#[derive(Clone, Copy, Debug)]
enum Storage {
    /// Numbers in the tensor's float type.
    Floats,
    /// Byte row `r` of `R` holds the codes of rows `r`, `r + R`, `r + 2R` and `r + 3R`, lowest bits first.
    Packed,
    /// Float masters that are rounded to ternary when the network runs, with `1 / mean magnitude`.
    Masters { scale: f32 },
}

impl<'a> Matrix<'a> {
    /// A matrix of floats, such as the embeddings.
    pub(super) fn floats(checkpoint: &'a Checkpoint, name: &str) -> Result<Self> {
        let tensor = checkpoint.tensor(name)?;
        Ok(Self {
            checkpoint,
            tensor,
            storage: Storage::Floats,
            rows: tensor.shape[0],
            cols: tensor.shape[1],
        })
    }

    /// The weight of the linear `module`, and how it is used. Online weights are read once for their mean.
    pub(super) fn linear(
        checkpoint: &'a Checkpoint,
        quant: Option<&BitNetQuant>,
        module: &str,
    ) -> Result<(Self, Arithmetic)> {
        let mut matrix = Self::floats(checkpoint, &format!("{module}.weight"))?;
        if matrix.tensor.dtype == Dtype::U8 {
            matrix.storage = Storage::Packed;
            matrix.rows *= 4;
        }
        let Some(quant) = quant.filter(|quant| quant.converts(module)) else {
            return Ok((matrix, Arithmetic::Plain(Inputs::Float)));
        };
        let stored_scale =
            || -> Result<f32> { Ok(vector(checkpoint, &format!("{module}.weight_scale"))?[0]) };
        let arithmetic = match (quant.scale, quant.online) {
            (ScaleMeaning::Divisor, _) => Arithmetic::Divide {
                scale: stored_scale()?,
            },
            (ScaleMeaning::Multiplier, false) => Arithmetic::Multiply {
                scale: stored_scale()?,
            },
            (ScaleMeaning::Multiplier, true) => {
                let scale = 1.0 / matrix.mean_magnitude()?.max(1e-5);
                matrix.storage = Storage::Masters { scale };
                Arithmetic::Plain(Inputs::Int8)
            }
        };
        Ok((matrix, arithmetic))
    }

    /// Bytes in the source.
    pub(super) fn bytes(&self) -> u64 {
        self.tensor.bytes
    }

    /// Type of the stored numbers.
    pub(super) fn dtype(&self) -> Dtype {
        self.tensor.dtype
    }

    /// The weights of `rows`, row after row, as the product uses them: codes for [`Arithmetic::Divide`] and
    /// [`Arithmetic::Multiply`], else whole numbers of their scale.
    pub(super) fn weights(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        match self.storage {
            Storage::Floats => self.values(rows),
            Storage::Packed => self.codes(rows),
            Storage::Masters { scale } => {
                let ternary = |w: f32| (w * scale).round_ties_even().clamp(-1.0, 1.0) / scale;
                Ok(self.values(rows)?.into_iter().map(ternary).collect())
            }
        }
    }

    fn values(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        decode(self.tensor, &self.checkpoint.read_rows(self.tensor, rows)?)
    }

    fn codes(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        let byte_rows = self.rows / 4;
        let mut codes = Vec::with_capacity(rows.len() * self.cols);
        for row in rows {
            let at = row % byte_rows;
            let bytes = self.checkpoint.read_rows(self.tensor, at..at + 1)?;
            let code = |byte: u8| f32::from(byte >> (2 * (row / byte_rows)) & 3) - 1.0;
            codes.extend(bytes.into_iter().map(code));
        }
        Ok(codes)
    }

    fn mean_magnitude(&self) -> Result<f32> {
        let sum = |rows| -> Result<f64> {
            Ok(self.values(rows)?.iter().map(|w| f64::from(w.abs())).sum())
        };
        let sums: Vec<f64> = blocks(self.rows, self.cols)
            .into_par_iter()
            .map(sum)
            .collect::<Result<_>>()?;
        Ok((sums.iter().sum::<f64>() / (self.rows * self.cols) as f64) as f32)
    }
}

/// A float tensor of any shape.
pub(super) fn vector(checkpoint: &Checkpoint, name: &str) -> Result<Vec<f32>> {
    let tensor = checkpoint.tensor(name)?;
    let mut bytes = vec![0; tensor.bytes as usize];
    checkpoint.read(tensor, 0, &mut bytes)?;
    decode(tensor, &bytes)
}

/// A float tensor, if the checkpoint has one of that name.
pub(super) fn optional_vector(checkpoint: &Checkpoint, name: &str) -> Result<Option<Vec<f32>>> {
    let present = checkpoint.tensors.contains_key(name);
    present.then(|| vector(checkpoint, name)).transpose()
}

fn decode(tensor: &TensorInfo, bytes: &[u8]) -> Result<Vec<f32>> {
    let pairs = || bytes.as_chunks::<2>().0.iter().copied();
    match tensor.dtype {
        Dtype::F32 => {
            let quads = bytes.as_chunks::<4>().0.iter().copied();
            Ok(quads.map(f32::from_le_bytes).collect())
        }
        Dtype::BF16 => Ok(pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect()),
        Dtype::F16 => Ok(pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect()),
        other => Err(ConvertError::unsupported(
            format!("tensor `{}` of type {other}", tensor.name),
            "verification reads F32, F16 and BF16",
        )),
    }
}
