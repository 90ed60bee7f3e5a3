//! What a packed file will contain.

use std::collections::BTreeMap;

use crate::contents::{Content, TensorKind, contents};
use crate::error::FormatError;
use crate::layout::Layout;
use crate::meta::{
    ActivationMode, FORMAT_VERSION, GenerationDefaults, MatrixMeta, Meta, Provenance,
    SCALES_TENSOR, ScaleMeta,
};

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
        /// Whether it has group scales.
        grouped: bool,
        /// Whether rows are inputs.
        transposed: bool,
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

    /// Adds a matrix. Its scales follow from the layout: one for [`Layout::T2`],
    /// [`Layout::T2R16`], [`Layout::T5`], [`Layout::T5R5`], [`Layout::B1`] and [`Layout::B1R64`], one per row for
    /// [`Layout::I8`], one per 64 columns for [`Layout::I4`].
    pub fn matrix(
        &mut self,
        name: impl Into<String>,
        layout: Layout,
        rows: usize,
        cols: usize,
        activation: ActivationMode,
    ) -> &mut Self {
        let grouped = layout == Layout::I4;
        self.push(
            name.into(),
            Planned::Matrix {
                layout,
                rows,
                cols,
                activation,
                grouped,
                transposed: false,
            },
        )
    }

    /// Adds a matrix of [`Layout::T2`], [`Layout::T2R16`], [`Layout::B1`] or [`Layout::B1R64`] with one scale per
    /// [`SIGN_GROUP`](crate::SIGN_GROUP) columns instead of one for all.
    pub fn grouped_matrix(
        &mut self,
        name: impl Into<String>,
        layout: Layout,
        rows: usize,
        cols: usize,
        activation: ActivationMode,
    ) -> &mut Self {
        self.push(
            name.into(),
            Planned::Matrix {
                layout,
                rows,
                cols,
                activation,
                grouped: true,
                transposed: false,
            },
        )
    }

    /// Adds a ternary matrix of a linear map from `inputs` to `outputs` that is stored transposed:
    /// its rows, of which there are `inputs`, hold what one input contributes to every output.
    pub fn transposed_matrix(
        &mut self,
        name: impl Into<String>,
        inputs: usize,
        outputs: usize,
        activation: ActivationMode,
    ) -> &mut Self {
        self.push(
            name.into(),
            Planned::Matrix {
                layout: Layout::T2,
                rows: inputs,
                cols: outputs,
                activation,
                grouped: false,
                transposed: true,
            },
        )
    }

    fn push(&mut self, name: String, planned: Planned) -> &mut Self {
        self.tensors.push((name, planned));
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

impl Plan {
    /// Every tensor in file order, as [`PackedFile::tensor_sizes`](crate::PackedFile::tensor_sizes) of the written
    /// file will say: its name, what it is for, and its bytes with padding.
    ///
    /// # Errors
    /// [`FormatError::Tensor`] and the like where a tensor cannot be stored.
    pub fn tensor_sizes(&self) -> Result<Vec<(String, TensorKind, usize)>, FormatError> {
        let stored = self.stored(&self.meta()?)?;
        let size = |(name, content): (String, Content)| {
            let bytes = content.bytes().unwrap_or(usize::MAX);
            (name, content.kind, bytes)
        };
        Ok(stored.into_iter().map(size).collect())
    }

    /// The metadata of the planned file, with hashes of zeros.
    pub(crate) fn meta(&self) -> Result<Meta, FormatError> {
        let mut meta = Meta {
            format_version: FORMAT_VERSION,
            required_features: Vec::new(),
            model: self.model.clone(),
            generation: self.generation.clone(),
            chat_template: self.chat_template.clone(),
            provenance: self.provenance.clone(),
            matrices: BTreeMap::new(),
            vectors: BTreeMap::new(),
            blobs: BTreeMap::new(),
            sha256: BTreeMap::new(),
        };
        let mut scales = 0;
        for (name, planned) in &self.tensors {
            let name = name.clone();
            let twice = match planned {
                Planned::Matrix { .. } => {
                    let matrix = planned.matrix_meta(&name, &mut scales);
                    matrix.is_some_and(|matrix| meta.matrices.insert(name, matrix).is_some())
                }
                Planned::Vector { len } => meta.vectors.insert(name, *len).is_some(),
                Planned::Blob { len } => meta.blobs.insert(name, *len).is_some(),
            };
            if twice {
                return Err(FormatError::plan("different names", "one name twice"));
            }
        }
        Ok(meta)
    }

    /// The tensors in file order: each matrix is followed by scales of its own, and the gathered
    /// scales come last.
    pub(crate) fn stored(&self, meta: &Meta) -> Result<Vec<(String, Content)>, FormatError> {
        let mut contents = contents(meta)?;
        let mut stored = Vec::with_capacity(contents.len());
        let mut take = |name: &str| {
            stored.extend(contents.remove_entry(name));
        };
        for (name, _) in &self.tensors {
            take(name);
            let scale = meta.matrices.get(name).map(|matrix| &matrix.scale);
            if let Some(ScaleMeta::Rows { tensor }) = scale {
                take(tensor);
            }
        }
        take(SCALES_TENSOR);
        Ok(stored)
    }
}

impl Planned {
    /// What error messages call it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Planned::Matrix { .. } => "matrix",
            Planned::Vector { .. } => "vector",
            Planned::Blob { .. } => "blob",
        }
    }

    fn matrix_meta(&self, name: &str, scales: &mut usize) -> Option<MatrixMeta> {
        let Planned::Matrix {
            layout,
            rows,
            cols,
            activation,
            grouped,
            transposed,
        } = *self
        else {
            return None;
        };
        let scale = match (layout, layout.group().filter(|_| grouped)) {
            (_, Some(size)) => ScaleMeta::Groups { size },
            (Layout::I8, None) => ScaleMeta::Rows {
                tensor: format!("{name}.row_scales"),
            },
            (_, None) if layout.is_float() => ScaleMeta::None,
            (_, None) => {
                *scales += 1;
                ScaleMeta::Tensor { index: *scales - 1 }
            }
        };
        let layout = layout.id().to_owned();
        Some(MatrixMeta {
            layout,
            rows,
            cols,
            scale,
            activation,
            transposed,
        })
    }
}
