//! Source tensors as the weights that the published forward pass multiplies with.

use std::ops::Range;

use rayon::prelude::*;
use safetensors::Dtype;

use super::tensors::{decode, vector};
use crate::blocks::blocks;
use crate::error::Result;
use crate::source::Checkpoint;
use crate::source::shard::TensorInfo;

/// Columns that share a scale, where not the whole matrix does.
const GROUP: usize = 128;

/// A matrix of the source, read by rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix<'a> {
    checkpoint: &'a Checkpoint,
    tensor: &'a TensorInfo,
    storage: Storage<'a>,
    /// A multiplier per row and group of columns.
    scales: Option<&'a TensorInfo>,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

/// What the elements of a matrix mean.
#[derive(Clone, Copy, Debug)]
enum Storage<'a> {
    /// Numbers in the tensor's float type.
    Floats,
    /// Byte row `r` of `R` holds the codes of rows `r`, `r + R`, `r + 2R` and `r + 3R`, lowest bits first.
    Ternary,
    /// Bit `k mod 8` of byte `k div 8` is column `k`: 1 is +1, 0 is -1.
    Binary,
    /// Words of codes, lowest bits first, each `code * scale + bias` with a scale and a bias per group.
    Words {
        bits: usize,
        scales: &'a TensorInfo,
        biases: &'a TensorInfo,
    },
    /// Float masters whose values are `round`ed when the network runs.
    Masters { round: Round },
}

/// What becomes of a master.
#[derive(Clone, Copy, Debug)]
pub(super) enum Round {
    /// `clamp(round(w s), -1, 1)`, halves to even, times `unit`.
    Ternary { scale: f32, unit: f32 },
    /// Its sign, +1 for zeros.
    Sign,
}

impl<'a> Matrix<'a> {
    /// A matrix of floats, such as the embeddings of most models.
    pub(super) fn floats(checkpoint: &'a Checkpoint, module: &str) -> Result<Self> {
        let tensor = checkpoint.tensor(&format!("{module}.weight"))?;
        Ok(Self {
            checkpoint,
            tensor,
            storage: Storage::Floats,
            scales: None,
            rows: tensor.shape[0],
            cols: tensor.shape[1],
        })
    }

    /// Packed codes -1, 0 and 1.
    pub(super) fn ternary(checkpoint: &'a Checkpoint, module: &str) -> Result<Self> {
        let matrix = Self::floats(checkpoint, module)?;
        Ok(Self {
            storage: Storage::Ternary,
            rows: 4 * matrix.rows,
            ..matrix
        })
    }

    /// Packed signs of `cols` columns.
    pub(super) fn binary(checkpoint: &'a Checkpoint, module: &str, cols: usize) -> Result<Self> {
        Ok(Self {
            storage: Storage::Binary,
            cols,
            ..Self::floats(checkpoint, module)?
        })
    }

    /// What MLX writes: words with `scales` and `biases` beside them, or floats without.
    pub(super) fn words(checkpoint: &'a Checkpoint, module: &str, bits: usize) -> Result<Self> {
        let matrix = Self::floats(checkpoint, module)?;
        if matrix.tensor.dtype != Dtype::U32 {
            return Ok(matrix);
        }
        Ok(Self {
            storage: Storage::Words {
                bits,
                scales: checkpoint.tensor(&format!("{module}.scales"))?,
                biases: checkpoint.tensor(&format!("{module}.biases"))?,
            },
            cols: matrix.cols * 32 / bits,
            ..matrix
        })
    }

    /// The same with a multiplier per row and 128 columns.
    pub(super) fn grouped(self, scales: &'a TensorInfo) -> Self {
        Self {
            scales: Some(scales),
            ..self
        }
    }

    /// Floats that are rounded when the network runs.
    pub(super) fn masters(self, round: Round) -> Self {
        Self {
            storage: Storage::Masters { round },
            ..self
        }
    }

    /// Bytes in the source.
    pub(super) fn bytes(&self) -> u64 {
        self.tensor.bytes
    }

    /// Type of the stored elements.
    pub(super) fn dtype(&self) -> Dtype {
        self.tensor.dtype
    }

    /// The weights of `rows`, row after row, without a scale of the whole matrix where codes are stored.
    pub(super) fn weights(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        let mut weights = match self.storage {
            Storage::Floats => self.values(rows.clone())?,
            Storage::Ternary => self.ternary_codes(rows.clone())?,
            Storage::Binary => self.signs(rows.clone())?,
            Storage::Words {
                bits,
                scales,
                biases,
            } => self.affine(rows.clone(), bits, [scales, biases])?,
            Storage::Masters { round } => {
                let values = self.values(rows.clone())?;
                values.into_iter().map(|w| round.of(w)).collect()
            }
        };
        if let Some(scales) = self.scales {
            let scales = self.groups(scales, rows)?;
            self.each_group(&mut weights, |at, w| *w *= scales[at]);
        }
        Ok(weights)
    }

    fn values(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        decode(self.tensor, &self.checkpoint.read_rows(self.tensor, rows)?)
    }

    fn ternary_codes(&self, rows: Range<usize>) -> Result<Vec<f32>> {
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

    fn signs(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        let bytes = self.checkpoint.read_rows(self.tensor, rows)?;
        let sign = |row: &[u8], k: usize| f32::from(row[k / 8] >> (k % 8) & 1) * 2.0 - 1.0;
        let rows = bytes.chunks(self.tensor.shape[1]);
        Ok(rows
            .flat_map(|row| (0..self.cols).map(move |k| sign(row, k)))
            .collect())
    }

    fn affine(
        &self,
        rows: Range<usize>,
        bits: usize,
        [scales, biases]: [&TensorInfo; 2],
    ) -> Result<Vec<f32>> {
        let bytes = self.checkpoint.read_rows(self.tensor, rows.clone())?;
        let words = bytes.as_chunks::<4>().0.iter();
        let per_word = 32 / bits;
        let code = |word: u32, k: usize| (word >> (bits * k) & ((1 << bits) - 1)) as f32;
        let mut weights: Vec<f32> = words
            .map(|word| u32::from_le_bytes(*word))
            .flat_map(|word| (0..per_word).map(move |k| code(word, k)))
            .collect();
        let scales = self.groups(scales, rows.clone())?;
        let biases = self.groups(biases, rows)?;
        self.each_group(&mut weights, |at, w| *w = *w * scales[at] + biases[at]);
        Ok(weights)
    }

    fn groups(&self, tensor: &TensorInfo, rows: Range<usize>) -> Result<Vec<f32>> {
        decode(tensor, &self.checkpoint.read_rows(tensor, rows)?)
    }

    /// Calls `change` with every weight of some rows and the number of its group.
    fn each_group(&self, weights: &mut [f32], change: impl Fn(usize, &mut f32)) {
        let groups = weights
            .chunks_mut(self.cols)
            .flat_map(|row| row.chunks_mut(GROUP));
        for (at, group) in groups.enumerate() {
            group.iter_mut().for_each(|w| change(at, w));
        }
    }

    /// Mean of the magnitudes of all stored floats, at least 1e-5.
    pub(super) fn mean_magnitude(&self) -> Result<f32> {
        let sum = |rows| -> Result<f64> {
            Ok(self.values(rows)?.iter().map(|w| f64::from(w.abs())).sum())
        };
        let sums: Vec<f64> = blocks(self.rows, self.cols)
            .into_par_iter()
            .map(sum)
            .collect::<Result<_>>()?;
        let mean = sums.iter().sum::<f64>() / (self.rows * self.cols) as f64;
        Ok((mean as f32).max(1e-5))
    }

    /// The scale of the linear `module`, one number.
    pub(super) fn stored_scale(checkpoint: &Checkpoint, module: &str) -> Result<f32> {
        Ok(vector(checkpoint, &format!("{module}.weight_scale"))?[0])
    }
}

impl Round {
    fn of(self, w: f32) -> f32 {
        match self {
            Self::Ternary { scale, unit } => (w * scale).round_ties_even().clamp(-1.0, 1.0) * unit,
            Self::Sign if w >= 0.0 => 1.0,
            Self::Sign => -1.0,
        }
    }
}
