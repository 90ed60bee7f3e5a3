//! Blocks of rows of the source into blocks of packed rows.

use std::ops::Range;

use half::f16;
use onebit_format::{I4_GROUP, Layout, pack};

use crate::blocks::{blocks, in_order};
use crate::error::{ConvertError, Result};
use crate::floats;
use crate::linear::Weights;
use crate::plan::Matrix;
use crate::signs::Grouped;
use crate::source::Checkpoint;
use crate::source::shard::TensorInfo;
use crate::ternary::{Ternary, read_back};

/// Packed rows as they are stored, those with scales of groups with these, and the scales of rows.
#[derive(Default)]
pub(crate) struct Block {
    pub(crate) bytes: Vec<u8>,
    pub(crate) row_scales: Vec<f32>,
    /// How many weights are -1, 0 and 1.
    pub(crate) counts: [u64; 3],
    pub(crate) rows: usize,
}

/// Turns rows of one matrix into blocks.
pub(crate) enum Encoder<'a> {
    Ternary {
        matrix: &'a Matrix<'a>,
        codes: Ternary<'a>,
    },
    /// Stored with inputs as rows: all codes, outputs as rows.
    Transposed {
        matrix: &'a Matrix<'a>,
        codes: Vec<i8>,
        multiplier: f32,
    },
    Grouped {
        matrix: &'a Matrix<'a>,
        codes: Grouped<'a>,
    },
    Dense {
        matrix: &'a Matrix<'a>,
        checkpoint: &'a Checkpoint,
        weight: &'a TensorInfo,
        own: Layout,
    },
}

impl<'a> Encoder<'a> {
    /// Prepares a matrix; see [`Ternary::new`].
    pub(crate) fn new(checkpoint: &'a Checkpoint, matrix: &'a Matrix<'a>) -> Result<Self> {
        match matrix.weights {
            Weights::Dense { weight, layout } => Ok(Self::Dense {
                matrix,
                checkpoint,
                weight,
                own: layout,
            }),
            Weights::Grouped {
                weight,
                kind,
                groups,
            } => {
                let shape = [matrix.rows, matrix.cols];
                let codes = Grouped::new(checkpoint, weight, kind, groups, shape);
                Ok(Self::Grouped { matrix, codes })
            }
            weights => {
                let codes = Ternary::new(checkpoint, weights, matrix.rows, matrix.cols)?;
                if !matrix.transposed {
                    return Ok(Self::Ternary { matrix, codes });
                }
                Ok(Self::Transposed {
                    matrix,
                    multiplier: codes.multiplier,
                    codes: all_codes(matrix, &codes)?,
                })
            }
        }
    }

    /// The one scale of a ternary or binary matrix.
    pub(crate) fn multiplier(&self) -> Option<f32> {
        match self {
            Self::Ternary { codes, .. } => Some(codes.multiplier),
            Self::Transposed { multiplier, .. } => Some(*multiplier),
            Self::Grouped { .. } | Self::Dense { .. } => None,
        }
    }

    /// Whether weights are counted by value.
    pub(crate) fn counts(&self) -> bool {
        !matches!(self, Self::Dense { .. })
    }

    /// Packs `rows`, as stored: whole bands, but for the last rows of the matrix.
    pub(crate) fn block(&self, rows: Range<usize>) -> Result<Block> {
        match self {
            Self::Ternary { matrix, codes } => {
                let first = rows.start;
                code_block(matrix, &codes.codes(rows)?, first)
            }
            Self::Transposed { matrix, codes, .. } => {
                let first = rows.start;
                code_block(matrix, &transposed(codes, matrix.cols, rows), first)
            }
            Self::Grouped { matrix, codes } => {
                let first = rows.start;
                let (codes, scales) = codes.codes(rows)?;
                let mut block = code_block(matrix, &codes, first)?;
                block.bytes = pack::with_scales(matrix.layout, matrix.cols, &block.bytes, &scales);
                Ok(block)
            }
            Self::Dense {
                matrix,
                checkpoint,
                weight,
                own,
            } => dense_block(matrix, checkpoint, weight, *own, rows),
        }
    }
}

/// Bytes of one packed row. Planning has checked that the matrix fits the address space.
fn row_bytes(matrix: &Matrix<'_>) -> usize {
    let [_, cols] = matrix.stored();
    matrix
        .layout
        .row_bytes(cols)
        .expect("the plan checked the size")
}

/// The codes of a whole matrix, a byte each.
fn all_codes(matrix: &Matrix<'_>, ternary: &Ternary<'_>) -> Result<Vec<i8>> {
    let mut all = Vec::with_capacity(matrix.rows * matrix.cols);
    in_order(
        blocks(matrix.rows, matrix.cols),
        |rows| ternary.codes(rows),
        |codes| {
            all.extend(codes);
            Ok(())
        },
    )?;
    Ok(all)
}

/// Columns of rows of `cols` codes, each as a row.
fn transposed(codes: &[i8], cols: usize, columns: Range<usize>) -> Vec<i8> {
    let rows = codes.len() / cols;
    let mut out = vec![0; rows * columns.len()];
    for (r, row) in codes.chunks(cols).enumerate() {
        for (i, code) in row[columns.clone()].iter().enumerate() {
            out[i * rows + r] = *code;
        }
    }
    out
}

/// Packs whole bands of codes, the first row of which is row `first` of the matrix.
fn code_block(matrix: &Matrix<'_>, codes: &[i8], first: usize) -> Result<Block> {
    let [_, cols] = matrix.stored();
    let count = codes.len() / cols;
    let len = matrix.layout.byte_len(count, cols);
    let mut bytes = vec![0; len.expect("the plan checked the size")];
    pack::code_rows(matrix.layout, codes, cols, &mut bytes);
    let counts = read_back(matrix.layout, codes, &bytes, [count, cols]).map_err(|(row, col)| {
        ConvertError::ReadBack {
            tensor: matrix.name.clone(),
            row: first + row,
            col,
        }
    })?;
    Ok(Block {
        bytes,
        counts,
        rows: count,
        ..Block::default()
    })
}

fn dense_block(
    matrix: &Matrix<'_>,
    checkpoint: &Checkpoint,
    weight: &TensorInfo,
    own: Layout,
    rows: Range<usize>,
) -> Result<Block> {
    let (first, cols, row_bytes) = (rows.start, matrix.cols, row_bytes(matrix));
    let mut block = Block {
        bytes: vec![0; row_bytes * rows.len()],
        rows: rows.len(),
        ..Block::default()
    };
    let raw = checkpoint.read_rows(weight, rows)?;
    let raw_row = raw.len() / block.rows.max(1);
    let mut values = vec![0.0; cols];
    let groups = cols.div_ceil(I4_GROUP);
    let mut group_scales = Vec::new();
    for (at, (raw, out)) in raw
        .chunks(raw_row)
        .zip(block.bytes.chunks_mut(row_bytes))
        .enumerate()
    {
        let row = first + at;
        floats::decode(own, raw, &mut values);
        floats::check_finite(&weight.name, &values, row as u64 * cols as u64, cols)?;
        match matrix.layout {
            layout if layout == own => pack::raw_row(layout, raw, out),
            Layout::F16 => {
                pack::f16_row(&values, out).map_err(|error| too_large(weight, row, error))?
            }
            Layout::I8 => block.row_scales.push(pack::quantize_i8_row(&values, out)),
            Layout::I4 => {
                let start = group_scales.len();
                group_scales.resize(start + groups, f16::ZERO);
                let scales = &mut group_scales[start..];
                pack::quantize_i4_row(&values, out, scales);
                if let Some(group) = scales.iter().position(|scale| !scale.is_finite()) {
                    return Err(unscalable(weight, row, group * I4_GROUP));
                }
            }
            layout => unreachable!("no option asks for {layout}"),
        }
    }
    if matrix.layout == Layout::I4 {
        block.bytes = pack::with_scales(Layout::I4, cols, &block.bytes, &group_scales);
    }
    Ok(block)
}

fn too_large(weight: &TensorInfo, row: usize, error: pack::NotFinite) -> ConvertError {
    ConvertError::Request(format!(
        "tensor `{}`, row {row}, {error}: keep its type",
        weight.name
    ))
}

fn unscalable(weight: &TensorInfo, row: usize, col: usize) -> ConvertError {
    let name = &weight.name;
    ConvertError::Request(format!(
        "tensor `{name}`, row {row}, from column {col}: too large for q4, keep its type"
    ))
}
