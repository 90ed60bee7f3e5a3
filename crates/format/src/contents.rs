//! The tensors that a file's metadata announces, with their element types and shapes.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::Dtype;

use crate::container::{MAX_TENSORS, RESERVED_NAME};
use crate::error::FormatError;
use crate::layout::{ATOM_BYTES, Layout};
use crate::meta::{MAX_COLS, MatrixMeta, Meta, SCALES_TENSOR, ScaleMeta};

/// What a tensor is for.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorKind {
    /// A matrix of weights.
    Matrix(Layout),
    /// The scales of one matrix, or the gathered scales of several.
    Scales,
    /// A vector of `f32`.
    Vector,
    /// A byte string.
    Blob,
}

impl std::fmt::Display for TensorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            TensorKind::Matrix(layout) => layout.id(),
            TensorKind::Scales => "scales",
            TensorKind::Vector => "vector",
            TensorKind::Blob => "blob",
        })
    }
}

/// How one tensor must be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) kind: TensorKind,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
}

impl Content {
    /// Bytes with padding; a multiple of 64. `None` on overflow.
    pub(crate) fn bytes(&self) -> Option<usize> {
        let size = self.dtype.bitsize() / 8;
        self.shape
            .iter()
            .try_fold(size, |bytes, dim| bytes.checked_mul(*dim))
    }

    /// `len` elements, padded to whole atoms.
    fn flat(kind: TensorKind, dtype: Dtype, len: usize) -> Option<Self> {
        let padded = len.checked_next_multiple_of(ATOM_BYTES / (dtype.bitsize() / 8))?;
        Some(Self {
            kind,
            dtype,
            shape: vec![padded],
        })
    }
}

/// Every tensor that `meta` announces, after checking all of `meta` that can be checked alone.
pub(crate) fn contents(meta: &Meta) -> Result<BTreeMap<String, Content>, FormatError> {
    check_generation(meta)?;
    let mut contents = Contents::default();
    for (name, matrix) in &meta.matrices {
        contents.matrix(name, matrix)?;
    }
    for (name, len) in &meta.vectors {
        contents.flat(name, TensorKind::Vector, Dtype::F32, *len)?;
    }
    for (name, len) in &meta.blobs {
        contents.flat(name, TensorKind::Blob, Dtype::U8, *len)?;
    }
    contents.finish()
}

/// The layout of a matrix, or an error that names both.
pub(crate) fn layout_of(name: &str, matrix: &MatrixMeta) -> Result<Layout, FormatError> {
    Layout::from_id(&matrix.layout).ok_or_else(|| FormatError::Layout {
        tensor: name.to_owned(),
        layout: matrix.layout.clone(),
    })
}

fn check_generation(meta: &Meta) -> Result<(), FormatError> {
    let generation = &meta.generation;
    let numbers = [
        ("temperature", generation.temperature),
        ("top_p", generation.top_p),
        ("min_p", generation.min_p),
        ("repetition_penalty", generation.repetition_penalty),
    ];
    for (name, value) in numbers {
        if let Some(value) = value.filter(|value| !value.is_finite()) {
            return Err(FormatError::metadata(
                format!("generation.{name}"),
                "a finite number",
                value,
            ));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Contents {
    tensors: BTreeMap<String, Content>,
    /// Places in the gathered scales that are taken.
    indices: BTreeSet<usize>,
}

impl Contents {
    fn matrix(&mut self, name: &str, matrix: &MatrixMeta) -> Result<(), FormatError> {
        let layout = layout_of(name, matrix)?;
        let &MatrixMeta { rows, cols, .. } = matrix;
        let shape = format!("{rows} x {cols}");
        if rows == 0 || cols == 0 || cols > MAX_COLS {
            let expected = format!("at least one row, and 1 to {MAX_COLS} columns");
            return Err(FormatError::tensor(name, expected, shape));
        }
        let grouped = matches!(matrix.scale, ScaleMeta::Groups { .. });
        let stored = layout
            .stored_shape(rows, cols, grouped)
            .filter(|_| layout.stored_len(rows, cols, grouped).is_some());
        let stored = stored
            .ok_or_else(|| FormatError::tensor(name, "a size that can be addressed", shape))?;
        let kind = TensorKind::Matrix(layout);
        self.insert(
            name,
            Content {
                kind,
                dtype: layout.dtype(),
                shape: stored.to_vec(),
            },
        )?;
        if matrix.transposed
            && !(layout == Layout::T2 && matches!(matrix.scale, ScaleMeta::Tensor { .. }))
        {
            return Err(FormatError::tensor(
                name,
                "layout t2.r1k256 with one scale where a matrix is transposed",
                format!("layout {}", layout.id()),
            ));
        }
        self.scale(name, layout, matrix)
    }

    fn scale(
        &mut self,
        name: &str,
        layout: Layout,
        matrix: &MatrixMeta,
    ) -> Result<(), FormatError> {
        let signs = layout.is_ternary() || layout.is_binary();
        match &matrix.scale {
            ScaleMeta::None if layout.is_float() => Ok(()),
            ScaleMeta::Tensor { index } if signs => self.gathered(name, *index),
            ScaleMeta::Rows { tensor } if layout == Layout::I8 => {
                self.flat(tensor, TensorKind::Scales, Dtype::F32, matrix.rows)
            }
            ScaleMeta::Groups { size } if layout.group() == Some(*size) => Ok(()),
            other => {
                let field = format!("matrices.{name}.scale");
                let expected = format!("the scales of layout `{layout}`");
                Err(FormatError::metadata(field, expected, format!("{other:?}")))
            }
        }
    }

    fn gathered(&mut self, name: &str, index: usize) -> Result<(), FormatError> {
        if index < MAX_TENSORS && self.indices.insert(index) {
            return Ok(());
        }
        let field = format!("matrices.{name}.scale.tensor.index");
        Err(FormatError::metadata(field, "an index of its own", index))
    }

    fn flat(
        &mut self,
        name: &str,
        kind: TensorKind,
        dtype: Dtype,
        len: usize,
    ) -> Result<(), FormatError> {
        if len == 0 {
            return Err(FormatError::tensor(name, "at least one element", 0));
        }
        let content = Content::flat(kind, dtype, len).filter(|content| content.bytes().is_some());
        let content = content
            .ok_or_else(|| FormatError::tensor(name, "a size that can be addressed", len))?;
        self.insert(name, content)
    }

    fn insert(&mut self, name: &str, content: Content) -> Result<(), FormatError> {
        if name.is_empty() || name == RESERVED_NAME {
            return Err(FormatError::tensor(
                name,
                "another name",
                "an empty or reserved one",
            ));
        }
        if self.tensors.insert(name.to_owned(), content).is_some() {
            return Err(FormatError::tensor(name, "one use of the name", "two"));
        }
        if self.tensors.len() > MAX_TENSORS {
            let expected = format!("at most {MAX_TENSORS} tensors");
            return Err(FormatError::metadata("matrices", expected, "more"));
        }
        Ok(())
    }

    /// Adds the gathered scales: as many as there are matrices that use them.
    fn finish(mut self) -> Result<BTreeMap<String, Content>, FormatError> {
        let count = self.indices.len();
        if let Some(index) = self.indices.last().filter(|index| **index >= count) {
            let expected = format!("indices 0 to {} of `{SCALES_TENSOR}`", count - 1);
            return Err(FormatError::metadata("matrices", expected, index));
        }
        if count > 0 {
            self.flat(SCALES_TENSOR, TensorKind::Scales, Dtype::F32, count)?;
        }
        Ok(self.tensors)
    }
}
