//! Random rows in every layout, scaled so that activations keep their size from layer to layer.

use super::random::Random;
use half::f16;
use onebit::exit::{self, Code};
use onebit_format::{Layout, Scales, Writer, pack};
use onebit_runtime::Stored;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a matrix does.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Fill {
    /// Embedding or head.
    Table,
    /// Random.
    Random,
    /// Random, with the sign of each row's product decided by the ballast.
    Gate,
    /// Writes into the residual stream: leaves the ballast alone.
    Output,
}

impl Fill {
    /// That of the matrix `name`.
    pub(super) fn of(name: &str) -> Self {
        match name.rsplit('.').next() {
            Some("embed" | "head") => Self::Table,
            Some("gate") => Self::Gate,
            Some("o" | "down") => Self::Output,
            _ => Self::Random,
        }
    }
}

/// Channels of the residual stream that hold the same number in every layer for every token. The gate's rows have one
/// sign there, large enough to decide the sign of the product, so that a chosen share of its outputs is negative and
/// becomes zero in a squared ReLU.
pub(super) struct Ballast {
    zeros: u8,
}

impl Ballast {
    /// What `ffn_norm` multiplies these channels by.
    pub(super) const WEIGHT: f32 = 8.0;
    const CHANNELS: usize = 64;

    /// For `zeros` percent of zeros.
    pub(super) fn new(zeros: u8) -> Self {
        Self { zeros }
    }

    /// The channels.
    pub(super) fn channels(&self) -> Range<usize> {
        0..Self::CHANNELS
    }

    /// The sign of a row of the gate.
    fn sign(&self, random: &mut Random) -> i8 {
        if random.below(100) < usize::from(self.zeros) {
            -1
        } else {
            1
        }
    }
}

/// Layout and size of a matrix as it is stored.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    pub(super) stored: Stored,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl Matrix {
    /// Of a linear map from `inputs` to `outputs`.
    pub(super) fn new(stored: Stored, outputs: usize, inputs: usize) -> Self {
        let [rows, cols] = match stored.transposed {
            true => [inputs, outputs],
            false => [outputs, inputs],
        };
        Self { stored, rows, cols }
    }
}

/// Writes a matrix row by row.
pub(super) fn write_matrix(
    writer: &mut Writer,
    name: &str,
    matrix: Matrix,
    fill: Fill,
    ballast: Option<&Ballast>,
    random: &mut Random,
    interrupt: &AtomicBool,
) -> anyhow::Result<()> {
    let Matrix { stored, rows, cols } = matrix;
    let layout = stored.layout;
    let mut source = Rows {
        matrix,
        fill,
        ballast,
        codes: vec![0; cols],
        values: vec![0.0; cols],
    };
    let mut packed = vec![0; layout.band_bytes(cols).unwrap_or_default()];
    let mut band = Vec::new();
    let mut row_scales = Vec::new();
    let group = layout
        .group()
        .filter(|_| layout == Layout::I4 || stored.grouped);
    let per_row = group.map_or(0, |size| cols.div_ceil(size));
    // The scales of a band, all alike but for rows of 4 bits, which bring their own.
    let mut scales = vec![f16::from_f32(source.scale()); layout.atom_rows() * per_row];
    let mut out = writer.write_matrix(name)?;
    let pool = match (layout, ballast) {
        (Layout::I4, None) => Some(Pool::new(
            &mut source,
            random,
            rows.min(POOL),
            packed.len(),
            per_row,
        )),
        _ => None,
    };
    for row in 0..rows {
        if interrupt.load(Ordering::Relaxed) {
            return Err(exit::Failure::new(Code::Interrupted, "interrupted").into());
        }
        if let Some(pool) = &pool {
            out.rows(pool.draw(random))?;
            continue;
        }
        match layout {
            _ if layout.is_ternary() || layout.is_binary() => {
                band.extend_from_slice(source.codes(row, random));
                if (row + 1) % layout.atom_rows() > 0 && row + 1 < rows {
                    continue;
                }
                pack::code_rows(layout, &band, cols, &mut packed);
                band.clear();
            }
            Layout::I8 => row_scales.push(pack::quantize_i8_row(
                source.values(row, random),
                &mut packed,
            )),
            Layout::I4 => {
                pack::quantize_i4_row(source.values(row, random), &mut packed, &mut scales);
            }
            Layout::F16 => pack::f16_row(source.values(row, random), &mut packed)?,
            Layout::BF16 => pack::bf16_row(source.values(row, random), &mut packed)?,
            _ => pack::f32_row(source.values(row, random), &mut packed)?,
        }
        match group {
            None => out.rows(&packed)?,
            Some(_) => {
                let there = row % layout.atom_rows() + 1;
                let scales = &scales[..there * per_row];
                out.rows(&pack::with_scales(layout, cols, &packed, scales))?;
            }
        }
    }
    out.finish(match layout {
        _ if let Some(size) = group => Scales::Groups { size },
        _ if layout.is_ternary() || layout.is_binary() => Scales::Tensor(source.scale()),
        Layout::I8 => Scales::Rows(&row_scales),
        _ => Scales::None,
    })?;
    Ok(())
}

/// Rows that are made once and drawn from, since quantizing to 4 bits takes long.
const POOL: usize = 256;

/// Rows of 4 bits to draw from.
struct Pool(Vec<Vec<u8>>);

impl Pool {
    fn new(
        source: &mut Rows<'_>,
        random: &mut Random,
        rows: usize,
        row_bytes: usize,
        groups: usize,
    ) -> Self {
        let mut bytes = vec![];
        for row in 0..rows {
            let (mut packed, mut groups) = (vec![0; row_bytes], vec![f16::ZERO; groups]);
            pack::quantize_i4_row(source.values(row, random), &mut packed, &mut groups);
            let cols = source.values.len();
            bytes.push(pack::with_scales(Layout::I4, cols, &packed, &groups));
        }
        Self(bytes)
    }

    fn draw(&self, random: &mut Random) -> &[u8] {
        &self.0[random.below(self.0.len())]
    }
}

/// Makes the rows of one matrix.
struct Rows<'a> {
    matrix: Matrix,
    fill: Fill,
    ballast: Option<&'a Ballast>,
    codes: Vec<i8>,
    values: Vec<f32>,
}

impl Rows<'_> {
    /// The multiplier that gives outputs the size of the inputs, less for what is summed up over the layers.
    fn scale(&self) -> f32 {
        let variance = if self.matrix.stored.layout.is_binary() {
            1.0
        } else {
            2.0 / 3.0
        };
        let inputs = match self.matrix.stored.transposed {
            true => self.matrix.rows,
            false => self.matrix.cols,
        };
        let size = 1.0 / (variance * inputs as f32).sqrt();
        if self.fill == Fill::Output {
            size / 8.0
        } else {
            size
        }
    }

    /// A row of -1, 0 and 1, or of -1 and 1.
    fn codes(&mut self, row: usize, random: &mut Random) -> &[i8] {
        let ternary = self.matrix.stored.layout.is_ternary();
        if ternary {
            random.fill_ternary(&mut self.codes);
        } else {
            random.fill_binary(&mut self.codes);
        }
        match (self.ballast, self.fill) {
            (Some(ballast), Fill::Gate) => {
                self.codes[ballast.channels()].fill(ballast.sign(random))
            }
            (Some(ballast), Fill::Output) if self.matrix.stored.transposed => {
                self.codes[ballast.channels()].fill(0)
            }
            (Some(ballast), Fill::Output) if ternary && ballast.channels().contains(&row) => {
                self.codes.fill(0)
            }
            _ => {}
        }
        &self.codes
    }

    /// A row of floats.
    fn values(&mut self, row: usize, random: &mut Random) -> &[f32] {
        if self.fill == Fill::Table {
            random.fill(&mut self.values);
            let size = (3.0 / self.matrix.cols as f32).sqrt();
            self.values.iter_mut().for_each(|x| *x *= size);
            if let Some(ballast) = self.ballast {
                self.values[ballast.channels()].fill(1.0);
            }
            return &self.values;
        }
        let scale = self.scale();
        random.fill(&mut self.values);
        self.values
            .iter_mut()
            .for_each(|x| *x *= scale * std::f32::consts::SQRT_2);
        match (self.ballast, self.fill) {
            (Some(ballast), Fill::Gate) => {
                self.values[ballast.channels()].fill(f32::from(ballast.sign(random)) * scale)
            }
            (Some(ballast), Fill::Output) if ballast.channels().contains(&row) => {
                self.values.fill(0.0)
            }
            _ => {}
        }
        &self.values
    }
}
