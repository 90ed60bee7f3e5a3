//! Codes and group scales of matrices with a scale per 128 columns, and finding out whether floats are such a matrix.

use std::ops::Range;

use half::f16;
use onebit_format::{ActivationMode, Layout, SIGN_GROUP};
use onebit_model::{binary_layout, ternary_layout};
use rayon::prelude::*;

use crate::blocks::blocks;
use crate::config::few_bits::Kind;
use crate::error::{ConvertError, Result};
use crate::floats;
use crate::linear::{Groups, Weights, float_layout};
use crate::source::Checkpoint;
use crate::source::shard::TensorInfo;
use crate::ternary::Ternary;

/// What the values of a float tensor are, group by group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// -d and d, and 0 where the kind says so; every d is an `f16` number.
    Signs(Kind),
    /// The same, but some d is no `f16` number.
    Wide(Kind),
}

/// Looks at the values of a float matrix: `None` as soon as a group of 128 columns has two magnitudes other than zero. A group
/// of zeros fits either kind.
pub(crate) fn find(checkpoint: &Checkpoint, weight: &TensorInfo) -> Result<Option<Found>> {
    let &[rows, cols] = &weight.shape[..] else {
        return Ok(None);
    };
    if float_layout(weight).is_err() || rows == 0 || cols == 0 {
        return Ok(None);
    }
    let mut all = Groupwise::default();
    // The first row alone: that is enough for an ordinary dense model.
    let mut ranges = blocks(rows, cols);
    ranges.insert(0, 0..1);
    let (first, rest) = ranges.split_at(1);
    let at_once = 2 * rayon::current_num_threads();
    for ranges in std::iter::once(first).chain(rest.chunks(at_once)) {
        let seen: Vec<Result<Option<Groupwise>>> = ranges
            .par_iter()
            .map(|rows| look(&read(checkpoint, weight, rows.clone())?, cols))
            .collect();
        for seen in seen {
            let Some(seen) = seen? else { return Ok(None) };
            all.zeros |= seen.zeros;
            all.wide |= seen.wide;
        }
    }
    let kind = if all.zeros {
        Kind::Ternary
    } else {
        Kind::Binary
    };
    Ok(Some(if all.wide {
        Found::Wide(kind)
    } else {
        Found::Signs(kind)
    }))
}

/// What some groups have.
#[derive(Clone, Copy, Default)]
struct Groupwise {
    /// A zero beside other values.
    zeros: bool,
    /// A magnitude that is no `f16` number.
    wide: bool,
}

fn look(values: &[f32], cols: usize) -> Result<Option<Groupwise>> {
    let mut all = Groupwise::default();
    for group in values.chunks(cols).flat_map(|row| row.chunks(SIGN_GROUP)) {
        let d = magnitude(group);
        if !group.iter().all(|x| x.abs() == d || *x == 0.0) {
            return Ok(None);
        }
        all.zeros |= d != 0.0 && group.contains(&0.0);
        all.wide |= exact_f16(d).is_none();
    }
    Ok(Some(all))
}

/// The largest magnitude.
fn magnitude(group: &[f32]) -> f32 {
    group.iter().fold(0.0, |max, x| max.max(x.abs()))
}

fn exact_f16(value: f32) -> Option<f16> {
    let half = f16::from_f32(value);
    (half.is_finite() && half.to_f32() == value).then_some(half)
}

fn read(checkpoint: &Checkpoint, tensor: &TensorInfo, rows: Range<usize>) -> Result<Vec<f32>> {
    let mut values = vec![0.0; rows.len() * tensor.shape[1]];
    let bytes = checkpoint.read_rows(tensor, rows)?;
    floats::decode(float_layout(tensor)?, &bytes, &mut values);
    Ok(values)
}

/// Produces codes and scales of any rows of one matrix.
#[derive(Clone, Copy)]
pub(crate) struct Grouped<'a> {
    checkpoint: &'a Checkpoint,
    weight: &'a TensorInfo,
    kind: Kind,
    groups: Groups<'a>,
    rows: usize,
    cols: usize,
}

impl<'a> Grouped<'a> {
    pub(crate) fn new(
        checkpoint: &'a Checkpoint,
        weight: &'a TensorInfo,
        kind: Kind,
        groups: Groups<'a>,
        [rows, cols]: [usize; 2],
    ) -> Self {
        Self {
            checkpoint,
            weight,
            kind,
            groups,
            rows,
            cols,
        }
    }

    /// Codes of `rows`, row after row, and their scales.
    pub(crate) fn codes(&self, rows: Range<usize>) -> Result<(Vec<i8>, Vec<f16>)> {
        match self.groups {
            Groups::Scales(scales) => Ok((self.packed(rows.clone())?, self.scales(scales, rows)?)),
            Groups::Signs => self.signs(rows),
            Groups::Affine { scales, biases } => self.affine(rows, scales, biases),
        }
    }

    fn packed(&self, rows: Range<usize>) -> Result<Vec<i8>> {
        let weights = Weights::Packed {
            weight: self.weight,
            kind: self.kind,
            multiplier: 1.0,
        };
        Ternary::new(self.checkpoint, weights, self.rows, self.cols)?.codes(rows)
    }

    fn scales(&self, scales: &TensorInfo, rows: Range<usize>) -> Result<Vec<f16>> {
        let (first, per_row) = (rows.start, scales.shape[1]);
        let values = read(self.checkpoint, scales, rows)?;
        let scale = |(at, &value): (usize, &f32)| match exact_f16(value) {
            Some(half) if value >= 0.0 => Ok(half),
            _ if !value.is_finite() || value < 0.0 => Err(ConvertError::malformed(
                place(scales, first + at / per_row, at % per_row),
                format!("the scale is {value}, expected a finite number that is not negative"),
            )),
            _ => Err(ConvertError::unsupported(
                place(scales, first + at / per_row, at % per_row),
                format!("the scale {value} is not a number of 16 bits (F16)"),
            )),
        };
        values.iter().enumerate().map(scale).collect()
    }

    /// Floats, each group of which is -d, d and zeros.
    fn signs(&self, rows: Range<usize>) -> Result<(Vec<i8>, Vec<f16>)> {
        let first = rows.start;
        let values = read(self.checkpoint, self.weight, rows)?;
        let per_row = self.cols.div_ceil(SIGN_GROUP);
        let mut codes = Vec::with_capacity(values.len());
        let mut scales = Vec::with_capacity(values.len() / self.cols * per_row);
        let groups = values
            .chunks(self.cols)
            .flat_map(|row| row.chunks(SIGN_GROUP));
        for (at, group) in groups.enumerate() {
            let d = magnitude(group);
            let fits = |x: &f32| x.abs() == d || (*x == 0.0 && self.kind == Kind::Ternary);
            let (true, Some(scale)) = (group.iter().all(fits), exact_f16(d)) else {
                return Err(ConvertError::malformed(
                    place(self.weight, first + at / per_row, at % per_row),
                    "the values changed while they were read",
                ));
            };
            scales.push(scale);
            codes.extend(group.iter().map(|x| self.sign(*x)));
        }
        Ok((codes, scales))
    }

    /// Binary codes keep the signs of zeros, which ternary ones do not have.
    fn sign(&self, x: f32) -> i8 {
        match self.kind {
            Kind::Ternary if x == 0.0 => 0,
            _ if x.is_sign_negative() => -1,
            _ => 1,
        }
    }

    /// Words of codes, least significant bits first: `code * scale + bias`.
    fn affine(
        &self,
        rows: Range<usize>,
        scales: &TensorInfo,
        biases: &TensorInfo,
    ) -> Result<(Vec<i8>, Vec<f16>)> {
        let (first, per_row) = (rows.start, scales.shape[1]);
        let values = read(self.checkpoint, scales, rows.clone())?;
        let offsets = read(self.checkpoint, biases, rows.clone())?;
        let mut signed = Vec::with_capacity(values.len());
        for (at, (scale, bias)) in values.iter().zip(&offsets).enumerate() {
            let (row, group) = (first + at / per_row, at % per_row);
            for (tensor, value) in [(scales, scale), (biases, bias)] {
                if !value.is_finite() {
                    let reason = format!("{value}, expected a finite number");
                    return Err(ConvertError::malformed(place(tensor, row, group), reason));
                }
            }
            let step = self.step(*scale, *bias);
            signed.push(
                step.map_err(|reason| {
                    ConvertError::unsupported(place(biases, row, group), reason)
                })?,
            );
        }
        let bytes = self.checkpoint.read_rows(self.weight, rows.clone())?;
        let row_bytes = bytes.len() / rows.len().max(1);
        let mut codes = Vec::with_capacity(rows.len() * self.cols);
        for (r, row) in bytes.chunks(row_bytes).enumerate() {
            for k in 0..self.cols {
                let code = match self.kind {
                    Kind::Binary => bit(row, k),
                    Kind::Ternary => (row[k / 4] >> (2 * (k % 4)) & 3) as i8 - 1,
                };
                if code == 2 {
                    return Err(ConvertError::unsupported(
                        format!(
                            "tensor `{}`: row {}, column {k}: code 3",
                            self.weight.name,
                            first + r
                        ),
                        "ternary weights have the codes 0, 1 and 2",
                    ));
                }
                let negative = signed[r * per_row + k / SIGN_GROUP].is_sign_negative();
                codes.push(if negative { -code } else { code });
            }
        }
        let magnitude = |d: &f16| f16::from_bits(d.to_bits() & 0x7fff);
        Ok((codes, signed.iter().map(magnitude).collect()))
    }

    /// The weight of the code +1, which may be negative, from scale and bias.
    fn step(&self, scale: f32, bias: f32) -> Result<f16, String> {
        let (name, step) = match self.kind {
            Kind::Binary => ("-scale / 2", scale / 2.0),
            Kind::Ternary => ("-scale", scale),
        };
        if bias != -step {
            return Err(format!(
                "scale {scale} and bias {bias} of a {} group: the bias must be {name}",
                if self.kind == Kind::Binary {
                    "binary"
                } else {
                    "ternary"
                }
            ));
        }
        exact_f16(step).ok_or_else(|| format!("{step} is not a number of 16 bits (F16)"))
    }
}

/// Code -1 or 1 of bit `k`, the least significant first.
pub(crate) fn bit(row: &[u8], k: usize) -> i8 {
    (row[k / 8] >> (k % 8) & 1) as i8 * 2 - 1
}

/// The layout that weights have by themselves when they are stored as those of a kind, where inputs were `trained` so.
pub(crate) fn layout(kind: Kind, weights: &Weights<'_>, trained: ActivationMode) -> Layout {
    match kind {
        Kind::Binary => binary_layout(trained),
        Kind::Ternary => ternary_layout(trained, weights.is_grouped()),
    }
}

fn place(tensor: &TensorInfo, row: usize, group: usize) -> String {
    format!("tensor `{}`: row {row}, group {group}", tensor.name)
}
