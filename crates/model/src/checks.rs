//! Comparing the tensors of a file with those that the config asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use onebit_format::{ActivationMode, PackedFile, ScaleMeta, Scales};

use crate::error::ModelError;
use crate::forms::Form;
use crate::places::{MatrixAt, ScalesAt, VectorAt};

/// Finds tensors by name and shape, and remembers which ones were used.
pub(crate) struct Checker<'a> {
    file: &'a PackedFile,
    ranges: BTreeMap<&'a str, Range<usize>>,
    used: BTreeSet<String>,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(file: &'a PackedFile) -> Self {
        let ranges = file
            .index()
            .tensors()
            .map(|(name, _, range)| (name, range))
            .collect();
        Self {
            file,
            ranges,
            used: BTreeSet::new(),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.file.has(name)
    }

    /// The matrix `name`, which must be `rows` x `cols`, and what its inputs are turned into, which the kernels must be able to
    /// multiply it with.
    pub(crate) fn matrix(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
    ) -> Result<(MatrixAt, ActivationMode), ModelError> {
        let meta = self.file.meta().matrices.get(name);
        let found = meta.map(|meta| {
            let turned = if meta.transposed { " transposed" } else { "" };
            format!("[{}, {}]{turned}", meta.rows, meta.cols)
        });
        self.compare(name, format!("[{rows}, {cols}]"), found)?;
        self.place(name, rows, cols)
    }

    /// The matrix of a linear map from `cols` inputs to `rows` outputs, and whether it is stored transposed.
    pub(crate) fn linear(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
    ) -> Result<(MatrixAt, ActivationMode, bool), ModelError> {
        let meta = self.file.meta().matrices.get(name);
        if !meta.is_some_and(|meta| meta.transposed) {
            let (matrix, activation) = self.matrix(name, rows, cols)?;
            return Ok((matrix, activation, false));
        }
        let found = meta.map(|meta| format!("[{}, {}]", meta.rows, meta.cols));
        self.compare(name, format!("[{cols}, {rows}]"), found)?;
        let (matrix, activation) = self.place(name, cols, rows)?;
        if activation == ActivationMode::F32 {
            return Err(ModelError::Layout {
                tensor: format!("{name} (transposed)"),
                layout: matrix.layout,
                activation,
            });
        }
        Ok((matrix, activation, true))
    }

    /// A matrix whose shape has been compared.
    fn place(
        &self,
        name: &str,
        rows: usize,
        cols: usize,
    ) -> Result<(MatrixAt, ActivationMode), ModelError> {
        let (layout, activation) = (
            self.file.matrix(name)?.layout(),
            self.file.activation(name)?,
        );
        if Form::of(layout, activation, false).is_none() {
            return Err(ModelError::Layout {
                tensor: name.to_owned(),
                layout,
                activation,
            });
        }
        let (bytes, scales) = (self.ranges[name].clone(), self.scales(name)?);
        Ok((
            MatrixAt {
                layout,
                rows,
                cols,
                bytes,
                scales,
            },
            activation,
        ))
    }

    /// The vector `name`, which must have `len` elements.
    pub(crate) fn vector(&mut self, name: &str, len: usize) -> Result<VectorAt, ModelError> {
        let found = self
            .file
            .meta()
            .vectors
            .get(name)
            .map(|len| format!("[{len}]"));
        self.compare(name, format!("[{len}]"), found)?;
        Ok(VectorAt(first_bytes(
            &self.ranges[name],
            len * size_of::<f32>(),
        )))
    }

    /// [`vector`](Self::vector) where the config asks for it.
    pub(crate) fn vector_if(
        &mut self,
        asked: bool,
        name: &str,
        len: usize,
    ) -> Result<Option<VectorAt>, ModelError> {
        asked.then(|| self.vector(name, len)).transpose()
    }

    /// Refuses matrices and vectors that were not asked for: ignoring one would compute another model.
    pub(crate) fn finish(self) -> Result<(), ModelError> {
        let meta = self.file.meta();
        match meta
            .matrices
            .keys()
            .chain(meta.vectors.keys())
            .find(|name| !self.used.contains(*name))
        {
            None => Ok(()),
            Some(tensor) => Err(ModelError::UnexpectedTensor {
                tensor: tensor.clone(),
            }),
        }
    }

    fn scales(&self, name: &str) -> Result<ScalesAt, ModelError> {
        let tensor = match &self.file.meta().matrices[name].scale {
            ScaleMeta::Rows { tensor } => Some(tensor),
            _ => None,
        };
        let range = tensor.map_or(0..0, |tensor| self.ranges[tensor.as_str()].clone());
        Ok(match self.file.matrix(name)?.scales() {
            Scales::None => ScalesAt::None,
            Scales::Tensor(scale) => ScalesAt::Tensor(scale),
            Scales::Rows(values) => ScalesAt::Rows(first_bytes(&range, size_of_val(values))),
            Scales::Groups { size } => ScalesAt::Groups { size },
        })
    }

    fn compare(
        &mut self,
        name: &str,
        expected: String,
        found: Option<String>,
    ) -> Result<(), ModelError> {
        let tensor = name.to_owned();
        match found {
            None => Err(ModelError::Missing { tensor, expected }),
            Some(found) if found != expected => Err(ModelError::Shape {
                tensor,
                expected,
                found,
            }),
            Some(_) => {
                self.used.insert(tensor);
                Ok(())
            }
        }
    }
}

/// The first `len` bytes of a tensor, which padding follows.
fn first_bytes(tensor: &Range<usize>, len: usize) -> Range<usize> {
    tensor.start..tensor.start + len
}
