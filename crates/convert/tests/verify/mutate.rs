//! Packed files with one thing wrong: taken apart, changed, and written again.

use std::collections::BTreeMap;
use std::path::Path;

use half::f16;
use onebit_format::{ActivationMode, Layout, PackedFile, Plan, Scales, Writer, pack};
use onebit_model::ModelSpec;
use serde::Deserialize;

/// A matrix of a packed file, its bands packed.
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
    /// Row after row.
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
                Scales::Groups { size } => {
                    let groups = matrix.cols().div_ceil(size);
                    let scale = |i: usize| matrix.scale(i / groups, i % groups * size);
                    let by_row = (0..matrix.rows() * groups).map(|i| f16::from_f32(scale(i)));
                    Scale::Groups(size, by_row.collect())
                }
            };
            Matrix {
                layout: matrix.layout(),
                rows: matrix.rows(),
                cols: matrix.cols(),
                activation: file.activation(name).unwrap(),
                bytes: (0..matrix.bytes().len() / matrix.band_bytes())
                    .map(|band| matrix.band(band).weights())
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
                (Scale::Groups(..), layout) if layout != Layout::I4 => {
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
            let mut bytes = m.bytes.concat();
            if let Scale::Groups(_, scales) = &m.scale {
                bytes = pack::with_scales(m.layout, m.cols, &bytes, scales);
            }
            out.rows(&bytes).unwrap();
            let scales = match &m.scale {
                Scale::None => Scales::None,
                Scale::Tensor(scale) => Scales::Tensor(*scale),
                Scale::Rows(values) => Scales::Rows(values),
                Scale::Groups(size, _) => Scales::Groups { size: *size },
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
        if self.layout.atom_rows() > 1 {
            let rows = self.codes();
            return self.pack((0..self.rows).map(|r| rows[from(r)].clone()).collect());
        }
        self.bytes = (0..self.rows)
            .map(|r| self.bytes[from(r)].clone())
            .collect();
    }

    /// New column `k` of a ternary or binary matrix is the old column `from(k)`.
    pub(crate) fn permute_cols(&mut self, from: impl Fn(usize) -> usize) {
        let rows = self.codes().into_iter();
        self.pack(
            rows.map(|codes| (0..codes.len()).map(|k| codes[from(k)]).collect())
                .collect(),
        );
    }

    /// Changes the sign of every weight of a row.
    pub(crate) fn negate_row(&mut self, row: usize) {
        let size = match self.layout {
            layout if layout.is_ternary() || layout.is_binary() => {
                let mut rows = self.codes();
                rows[row].iter_mut().for_each(|code| *code = -*code);
                return self.pack(rows);
            }
            Layout::F16 | Layout::BF16 => 2,
            Layout::F32 => 4,
            other => panic!("{other} has no sign to change here"),
        };
        self.bytes[row]
            .chunks_mut(size)
            .for_each(|number| number[size - 1] ^= 0x80);
    }

    /// The codes of a ternary or binary matrix, by row.
    fn codes(&self) -> Vec<Vec<i8>> {
        let (per_band, width) = (
            self.layout.atom_rows(),
            self.layout.padded_cols(self.cols).unwrap(),
        );
        let mut rows = Vec::new();
        let mut band = vec![0; per_band * width];
        for bytes in &self.bytes {
            pack::band_codes(self.layout, bytes, &mut band);
            rows.extend(band.chunks(width).map(|row| row[..self.cols].to_vec()));
        }
        rows.truncate(self.rows);
        rows
    }

    /// The inverse of [`codes`](Self::codes).
    fn pack(&mut self, rows: Vec<Vec<i8>>) {
        let mut bytes = vec![0; self.layout.byte_len(self.rows, self.cols).unwrap()];
        pack::code_rows(self.layout, &rows.concat(), self.cols, &mut bytes);
        let band_bytes = self.layout.band_bytes(self.cols).unwrap();
        self.bytes = bytes.chunks(band_bytes).map(<[u8]>::to_vec).collect();
    }
}
