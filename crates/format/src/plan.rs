//! What a packed file will contain.

use crate::layout::Layout;
use crate::meta::{ActivationMode, GenerationDefaults, Provenance};

/// Everything about a file to be written except the bytes of its tensors, which follow in the
/// order in which they were planned.
#[derive(Clone, Debug)]
pub struct Plan {
    /// See [`Meta::model`](crate::Meta::model).
    pub model: serde_json::Value,
    /// See [`Meta::generation`](crate::Meta::generation).
    pub generation: GenerationDefaults,
    /// See [`Meta::chat_template`](crate::Meta::chat_template).
    pub chat_template: Option<String>,
    /// See [`Meta::provenance`](crate::Meta::provenance).
    pub provenance: Provenance,
    /// Replace an existing file.
    pub force: bool,
    pub(crate) tensors: Vec<(String, Planned)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planned {
    Matrix {
        layout: Layout,
        rows: usize,
        cols: usize,
        activation: ActivationMode,
    },
    Vector {
        len: usize,
    },
    Blob {
        len: usize,
    },
}

impl Plan {
    /// A plan without tensors.
    pub fn new(model: serde_json::Value, provenance: Provenance) -> Self {
        Self {
            model,
            generation: GenerationDefaults::default(),
            chat_template: None,
            provenance,
            force: false,
            tensors: Vec::new(),
        }
    }

    /// Adds a matrix. Its scales follow from the layout: one for [`Layout::T2`] and
    /// [`Layout::B1`], one per row for [`Layout::I8`], one per 64 columns for [`Layout::I4`].
    pub fn matrix(
        &mut self,
        name: impl Into<String>,
        layout: Layout,
        rows: usize,
        cols: usize,
        activation: ActivationMode,
    ) -> &mut Self {
        self.tensors.push((
            name.into(),
            Planned::Matrix {
                layout,
                rows,
                cols,
                activation,
            },
        ));
        self
    }

    /// Adds a vector of `len` numbers.
    pub fn vector(&mut self, name: impl Into<String>, len: usize) -> &mut Self {
        self.tensors.push((name.into(), Planned::Vector { len }));
        self
    }

    /// Adds a byte string of `len` bytes.
    pub fn blob(&mut self, name: impl Into<String>, len: usize) -> &mut Self {
        self.tensors.push((name.into(), Planned::Blob { len }));
        self
    }
}
