//! Comparing the tensors of a file with those that the config asks for.

use std::collections::BTreeSet;

use onebit_format::{ActivationMode, PackedFile};

use crate::error::ModelError;
use crate::weights::supported;

/// Looks tensors up by name and shape, and remembers which ones were used.
pub(crate) struct Checker<'a> {
    file: &'a PackedFile,
    used: BTreeSet<String>,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(file: &'a PackedFile) -> Self {
        Self {
            file,
            used: BTreeSet::new(),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.file.has(name)
    }

    /// The matrix `name`, which must be `rows` x `cols`. Returns the name.
    pub(crate) fn matrix(
        &mut self,
        name: String,
        rows: usize,
        cols: usize,
    ) -> Result<String, ModelError> {
        let found = self
            .file
            .meta()
            .matrices
            .get(&name)
            .map(|meta| format!("[{}, {}]", meta.rows, meta.cols));
        self.compare(name, format!("[{rows}, {cols}]"), found)
    }

    /// The vector `name`, which must have `len` elements. Returns the name.
    pub(crate) fn vector(&mut self, name: String, len: usize) -> Result<String, ModelError> {
        let found = self
            .file
            .meta()
            .vectors
            .get(&name)
            .map(|len| format!("[{len}]"));
        self.compare(name, format!("[{len}]"), found)
    }

    /// [`vector`](Self::vector) where the config asks for it.
    pub(crate) fn vector_if(
        &mut self,
        asked: bool,
        name: String,
        len: usize,
    ) -> Result<Option<String>, ModelError> {
        asked.then(|| self.vector(name, len)).transpose()
    }

    /// What the inputs of matrix `name` are turned into, when the kernels can multiply its layout with that.
    pub(crate) fn activation(&self, name: &str) -> Result<ActivationMode, ModelError> {
        let layout = self.file.matrix(name)?.layout();
        let activation = self.file.activation(name)?;
        if supported(layout, activation) {
            Ok(activation)
        } else {
            Err(ModelError::Layout {
                tensor: name.to_owned(),
                layout,
                activation,
            })
        }
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

    fn compare(
        &mut self,
        name: String,
        expected: String,
        found: Option<String>,
    ) -> Result<String, ModelError> {
        match found {
            None => Err(ModelError::Missing {
                tensor: name,
                expected,
            }),
            Some(found) if found != expected => Err(ModelError::Shape {
                tensor: name,
                expected,
                found,
            }),
            Some(_) => {
                self.used.insert(name.clone());
                Ok(name)
            }
        }
    }
}
