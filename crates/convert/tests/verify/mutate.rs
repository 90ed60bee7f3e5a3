//! Packed files with one thing wrong: taken apart, changed, and written again.

use std::collections::BTreeMap;
use std::path::Path;

use half::f16;
use onebit_format::{ActivationMode, Layout, PackedFile, Plan, Scales, Writer, pack};
use onebit_model::ModelSpec;
use serde::Deserialize;

/// A matrix of a packed file, its rows packed.
#[derive(Clone)]
pub(crate) struct Matrix {
    pub(crate) layout: Layout,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    activation: ActivationMode,
    bytes: Vec<Vec<u8>>,
    pub(crate) scale: Scale,
}

#[derive(Clone)]
pub(crate) enum Scale {
    None,
    Tensor(f32),
    Rows(Vec<f32>),
    Groups(usize, Vec<f16>),
}

/// A packed file in pieces.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) spec: ModelSpec,
    pub(crate) matrices: BTreeMap<String, Matrix>,
    pub(crate) vectors: BTreeMap<String, Vec<f32>>,
}

impl Parts {
    pub(crate) fn read(path: &Path) -> Self {
        let file = PackedFile::open(path).unwrap();
        let matrix = |name: &String| {
            let matrix = file.matrix(name).unwrap();
            let scale = match matrix.scales() {
                Scales::None => Scale::None,
                Scales::Tensor(scale) => Scale::Tensor(scale),
                Scales::Rows(values) => Scale::Rows(values.to_vec()),
                Scales::Groups { size, values } => Scale::Groups(size, values.to_vec()),
            };
            Matrix {
                layout: matrix.layout(),
                rows: matrix.rows(),
                cols: matrix.cols(),
                activation: file.activation(name).unwrap(),
                bytes: (0..matrix.bytes().len() / matrix.band_bytes())
                    .map(|band| matrix.band_bytes_of(band).to_vec())
                    .collect(),
                scale,
            }
        };
        let meta = file.meta();
        let matrices = meta
            .matrices
            .keys()
            .map(|name| (name.clone(), matrix(name)));
        let vectors = meta
            .vectors
            .keys()
            .map(|name| (name.clone(), file.vector(name).unwrap().to_vec()));
        Self {
            spec: ModelSpec::deserialize(&meta.model).unwrap(),
            matrices: matrices.collect(),
            vectors: vectors.collect(),
        }
    }

    pub(crate) fn write(&self, path: &Path) {
        let mut plan = Plan::new(
            serde_json::to_value(&self.spec).unwrap(),
            Default::default(),
        );
        plan.force = true;
        for (name, m) in &self.matrices {
            match (&m.scale, m.layout) {
                (Scale::Groups(..), Layout::T2 | Layout::B1) => {
                    plan.grouped_matrix(name, m.layout, m.rows, m.cols, m.activation)
                }
                _ => plan.matrix(name, m.layout, m.rows, m.cols, m.activation),
            };
        }
        for (name, values) in &self.vectors {
            plan.vector(name, values.len());
        }
        let mut writer = Writer::create(path, plan).unwrap();
        for (name, m) in &self.matrices {
            let mut out = writer.write_matrix(name).unwrap();
            out.rows(&m.bytes.concat()).unwrap();
            let scales = match &m.scale {
                Scale::None => Scales::None,
                Scale::Tensor(scale) => Scales::Tensor(*scale),
                Scale::Rows(values) => Scales::Rows(values),
                Scale::Groups(size, values) => Scales::Groups {
                    size: *size,
                    values,
                },
            };
            out.finish(scales).unwrap();
        }
        for (name, values) in &self.vectors {
            writer.write_vector(name, values).unwrap();
        }
        writer.finish().unwrap();
    }

    /// Matrices of the layers whose names end in one of these.
    pub(crate) fn linears(&mut self, names: &[&str]) -> impl Iterator<Item = &mut Matrix> {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        self.matrices.iter_mut().filter_map(move |(full, matrix)| {
            let name = full.strip_prefix("layers.")?.split_once('.')?.1;
            names.iter().any(|wanted| wanted == name).then_some(matrix)
        })
    }
}

/// All linears of a layer.
pub(crate) const LINEARS: [&str; 7] = ["q", "k", "v", "o", "gate", "up", "down"];

impl Matrix {
    /// New row `r` is the old row `from(r)`.
    pub(crate) fn permute_rows(&mut self, from: impl Fn(usize) -> usize) {
        self.bytes = (0..self.rows)
            .map(|r| self.bytes[from(r)].clone())
            .collect();
    }

    /// New column `k` of a ternary matrix is the old column `from(k)`.
    pub(crate) fn permute_cols(&mut self, from: impl Fn(usize) -> usize) {
        for row in 0..self.rows {
            self.change_row(row, |codes| {
                (0..codes.len()).map(|k| codes[from(k)]).collect()
            });
        }
    }

    /// Changes the sign of every weight of a row.
    pub(crate) fn negate_row(&mut self, row: usize) {
        let size = match self.layout {
            Layout::T2 => {
                return self.change_row(row, |codes| codes.iter().map(|code| -code).collect());
            }
            Layout::B1 => return self.negate_bits(row),
            Layout::F16 | Layout::BF16 => 2,
            Layout::F32 => 4,
            other => panic!("{other} has no sign to change here"),
        };
        self.bytes[row]
            .chunks_mut(size)
            .for_each(|number| number[size - 1] ^= 0x80);
    }

    /// All signs of a binary row, but not its padding.
    fn negate_bits(&mut self, row: usize) {
        for k in 0..self.cols {
            self.bytes[row][k / 512 * 64 + k % 64] ^= 1 << (k % 512 / 64);
        }
    }

    /// Changes the codes of one row of a ternary matrix.
    fn change_row(&mut self, row: usize, change: impl Fn(&[i8]) -> Vec<i8>) {
        assert_eq!(self.layout, Layout::T2);
        let bytes = &self.bytes[row];
        let codes: Vec<i8> = (0..self.cols)
            .map(|k| (bytes[k / 256 * 64 + k % 64] >> (2 * (k % 256 / 64)) & 3) as i8 - 1)
            .collect();
        pack::ternary_row(&change(&codes), &mut self.bytes[row]);
    }
}
