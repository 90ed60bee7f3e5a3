//! Ternary and binary codes from each way a checkpoint stores them with one scale.

use std::ops::Range;

use onebit_format::Layout;
use rayon::prelude::*;

use crate::blocks::blocks;
use crate::config::few_bits::Kind;
use crate::error::{ConvertError, Result};
use crate::floats::{self, check_finite, position};
use crate::linear::{Weights, float_layout};
use crate::signs::bit;
use crate::source::Checkpoint;
use crate::source::shard::TensorInfo;

/// The smallest mean magnitude that masters are scaled by.
const MIN_MEAN: f32 = 1e-5;

/// Produces the codes of any rows of one ternary or binary matrix.
#[derive(Clone, Copy)]
pub(crate) struct Ternary<'a> {
    checkpoint: &'a Checkpoint,
    weights: Weights<'a>,
    cols: usize,
    /// What a code is multiplied by to get the weight.
    pub(crate) multiplier: f32,
    /// What an online weight is multiplied by before it is rounded.
    scale: f32,
}

impl<'a> Ternary<'a> {
    /// Prepares a matrix of `rows` x `cols`; for online weights this reads all of it once.
    pub(crate) fn new(
        checkpoint: &'a Checkpoint,
        weights: Weights<'a>,
        rows: usize,
        cols: usize,
    ) -> Result<Self> {
        let mut ternary = Self {
            checkpoint,
            weights,
            cols,
            multiplier: 1.0,
            scale: 1.0,
        };
        match weights {
            Weights::Packed { multiplier, .. } | Weights::Unpacked { multiplier, .. } => {
                ternary.multiplier = multiplier;
            }
            Weights::Online { weight, kind } => {
                let mean = ternary.mean_magnitude(weight, rows)?.max(MIN_MEAN);
                ternary.scale = 1.0 / mean;
                ternary.multiplier = match kind {
                    Kind::Binary => mean,
                    Kind::Ternary => 1.0 / ternary.scale,
                };
            }
            Weights::Dense { .. } | Weights::Grouped { .. } => unreachable!("not of one scale"),
        }
        Ok(ternary)
    }

    /// Codes -1, 0 and 1 of `rows`, row after row.
    pub(crate) fn codes(&self, rows: Range<usize>) -> Result<Vec<i8>> {
        match self.weights {
            Weights::Packed {
                weight,
                kind: Kind::Ternary,
                ..
            } => self.unpack(weight, rows),
            Weights::Packed { weight, .. } => self.unpack_bits(weight, rows),
            Weights::Unpacked { weight, .. } => {
                let first = (rows.start * self.cols) as u64;
                let values = self.floats(weight, rows)?;
                values
                    .iter()
                    .enumerate()
                    .map(|(at, value)| self.exact(weight, first + at as u64, *value))
                    .collect()
            }
            Weights::Online { weight, kind } => {
                let values = self.floats(weight, rows)?;
                let code = |value: &f32| match kind {
                    Kind::Binary if *value >= 0.0 => 1,
                    Kind::Binary => -1,
                    Kind::Ternary => round(*value, self.scale),
                };
                Ok(values.iter().map(code).collect())
            }
            Weights::Dense { .. } | Weights::Grouped { .. } => unreachable!("not of one scale"),
        }
    }

    /// Row `r` is in bits `2q..2q+2` of the bytes of packed row `r % R`, where `R` is the number of
    /// packed rows and `q = r / R`.
    fn unpack(&self, weight: &TensorInfo, rows: Range<usize>) -> Result<Vec<i8>> {
        let packed_rows = weight.shape[0];
        let mut codes = Vec::with_capacity(rows.len() * self.cols);
        let mut row = rows.start;
        while row < rows.end {
            let quarter = row / packed_rows;
            let end = rows.end.min((quarter + 1) * packed_rows);
            let offset = quarter * packed_rows;
            let bytes = self
                .checkpoint
                .read_rows(weight, row - offset..end - offset)?;
            let codes_of_quarter = bytes
                .iter()
                .map(|byte| ((byte >> (2 * quarter)) & 3) as i8 - 1);
            codes.extend(codes_of_quarter);
            row = end;
        }
        match codes.iter().position(|code| *code == 2) {
            None => Ok(codes),
            Some(at) => Err(self.invalid(
                weight,
                (rows.start * self.cols + at) as u64,
                "code 3, expected 0, 1 or 2",
            )),
        }
    }

    /// Bit `k % 8` of byte `k / 8` is column `k`; bits past the last column are 0.
    fn unpack_bits(&self, weight: &TensorInfo, rows: Range<usize>) -> Result<Vec<i8>> {
        let row_bytes = self.cols.div_ceil(8);
        let bytes = self.checkpoint.read_rows(weight, rows.clone())?;
        let mut codes = Vec::with_capacity(rows.len() * self.cols);
        for (r, row) in bytes.chunks(row_bytes).enumerate() {
            if let Some(k) = (self.cols..8 * row_bytes).find(|k| bit(row, *k) > 0) {
                let index = (rows.start + r) as u64 * self.cols as u64;
                let reason = format!("bit {k} is set past the last column");
                return Err(self.invalid(weight, index, &reason));
            }
            codes.extend((0..self.cols).map(|k| bit(row, k)));
        }
        Ok(codes)
    }

    fn floats(&self, weight: &TensorInfo, rows: Range<usize>) -> Result<Vec<f32>> {
        let first = (rows.start * self.cols) as u64;
        let mut values = vec![0.0; rows.len() * self.cols];
        floats::decode(
            float_layout(weight)?,
            &self.checkpoint.read_rows(weight, rows)?,
            &mut values,
        );
        check_finite(&weight.name, &values, first, self.cols)?;
        Ok(values)
    }

    fn exact(&self, weight: &TensorInfo, index: u64, value: f32) -> Result<i8> {
        match value {
            -1.0 => Ok(-1),
            0.0 => Ok(0),
            1.0 => Ok(1),
            other => {
                let reason =
                    format!("{other}, expected -1, 0 or 1 in an offline weight that is not packed");
                Err(self.invalid(weight, index, &reason))
            }
        }
    }

    fn invalid(&self, weight: &TensorInfo, index: u64, what: &str) -> ConvertError {
        let (row, col) = position(index, self.cols);
        ConvertError::malformed(
            format!("tensor `{}`", weight.name),
            format!("row {row}, column {col}: {what}"),
        )
    }

    /// Mean of the magnitudes of the whole matrix, summed in `f64` in an order that depends on the
    /// shape only.
    fn mean_magnitude(&self, weight: &TensorInfo, rows: usize) -> Result<f32> {
        let sums: Vec<Result<f64>> = blocks(rows, self.cols)
            .into_par_iter()
            .map(|rows| {
                let values = self.floats(weight, rows)?;
                Ok(values.chunks(4096).map(magnitudes).sum())
            })
            .collect();
        let total: f64 = sums.into_iter().sum::<Result<f64>>()?;
        Ok((total / (rows as f64 * self.cols as f64)) as f32)
    }
}

/// `round(value * scale)`, halves to even, clamped to -1..=1: the arithmetic, in `f32`, of the
/// trained forward pass.
fn round(value: f32, scale: f32) -> i8 {
    (value * scale).round_ties_even().clamp(-1.0, 1.0) as i8
}

/// Sum of magnitudes over eight lanes.
fn magnitudes(values: &[f32]) -> f64 {
    let (chunks, rest) = values.as_chunks::<8>();
    let mut lanes = [0.0f64; 8];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(value.abs());
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|value| f64::from(value.abs())).sum::<f64>()
}

/// Compares rows packed in `layout` with the codes they were packed from, through the scalar decoder.
/// Returns how many are -1, 0 and 1, or the first row and column that differ.
pub(crate) fn read_back(
    layout: Layout,
    codes: &[i8],
    packed: &[u8],
    [rows, cols]: [usize; 2],
) -> Result<[u64; 3], (usize, usize)> {
    let one = onebit_format::Scales::Tensor(1.0);
    let matrix = onebit_format::MatrixRef::new(layout, rows, cols, packed, one);
    let padding = if layout == Layout::B1 { -1 } else { 0 };
    let matrix = matrix.map_err(|_| (0, 0))?;
    let mut counts = [0; 3];
    for row in 0..rows {
        for (col, code) in codes[row * cols..][..cols].iter().enumerate() {
            if matrix.code(row, col) != i32::from(*code) {
                return Err((row, col));
            }
            counts[(*code + 1) as usize] += 1;
        }
        if let Some(col) =
            (cols..matrix.padded_cols()).find(|col| matrix.code(row, *col) != padding)
        {
            return Err((row, col));
        }
    }
    Ok(counts)
}
