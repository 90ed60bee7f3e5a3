//! A packed file opened as a network.

use std::path::Path;
use std::sync::Arc;

use onebit_format::{ActivationMode, Layout, PackedFile};

use crate::error::ModelError;
use crate::forms::{Activations, InputForms};
use crate::residency::Residency;
use crate::rope::Rope;
use crate::spec::ModelSpec;
use crate::weights::Weights;

/// A loaded model: the packed file, its spec, and where every weight is. It is never written to; share it behind an `Arc`
/// between any number of caches, workspaces and threads.
pub struct Model {
    pub(crate) file: Arc<PackedFile>,
    pub(crate) spec: ModelSpec,
    pub(crate) weights: Weights,
    pub(crate) rope: Rope,
    input_forms: InputForms,
    pub(crate) residency: Option<Arc<dyn Residency>>,
    /// Whether embeddings are read from the file, row by row.
    pub(crate) reads_rows: bool,
}

/// Bytes of the tensors of a model by role, scales and norms included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WeightBytes {
    /// The embedding, which is also the head where that is tied.
    pub embed: usize,
    /// The head, 0 where it is tied.
    pub head: usize,
    /// All layers and the final norm.
    pub layers: usize,
}

impl Model {
    /// Maps a packed file and checks that it holds exactly the tensors its config asks for. The model will compute as it was
    /// trained; see [`with_activations`](Self::with_activations) for a choice.
    ///
    /// # Errors
    /// [`ModelError::Format`] when the file cannot be read, else as [`from_file`](Self::from_file).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ModelError> {
        Self::from_file(Arc::new(PackedFile::open(path.as_ref())?))
    }

    /// Uses a packed file that is open already.
    ///
    /// # Errors
    /// [`ModelError::Config`] and [`ModelError::Spec`] for a bad config; [`ModelError::Missing`], [`ModelError::Shape`],
    /// [`ModelError::UnexpectedTensor`] and [`ModelError::Layout`] for tensors that do not belong to it.
    pub fn from_file(file: Arc<PackedFile>) -> Result<Self, ModelError> {
        let spec: ModelSpec =
            serde_path_to_error::deserialize(&file.meta().model).map_err(|e| {
                ModelError::Config {
                    field: e.path().to_string(),
                    reason: e.into_inner().to_string(),
                }
            })?;
        spec.validate()?;
        let weights = Weights::find(&file, &spec)?;
        let rope = Rope::new(&spec.rope, spec.head_dim);
        let input_forms = weights.input_forms();
        let reads_rows = file.is_mapped() && !spec.tied_head;
        tracing::debug!(
            architecture = spec.architecture,
            layers = spec.layers,
            "opened model"
        );
        Ok(Self {
            file,
            spec,
            weights,
            rope,
            input_forms,
            residency: None,
            reads_rows,
        })
    }

    /// The network's description.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The file, with tokenizer, chat template and generation defaults.
    pub fn file(&self) -> &Arc<PackedFile> {
        &self.file
    }

    /// The same model with another arithmetic of its activations. Workspaces made for the one do not fit the other.
    ///
    /// What a model was trained with is never left for more: models trained with int8 activations have only those, whatever
    /// is asked for.
    ///
    /// # Errors
    /// [`ModelError::FixedActivations`] for floats or int8 with a model trained with binary or ternary activations,
    /// [`ModelError::DenseWeights`] for int8 with dense weights.
    pub fn with_activations(mut self, activations: Activations) -> Result<Self, ModelError> {
        self.check_activations(activations)?;
        self.weights
            .choose(&self.spec, activations != Activations::F32)?;
        self.input_forms = self.weights.input_forms();
        Ok(self)
    }

    /// The same model with someone who is told which weights steps read. Rows of the embedding are then read from a mapped
    /// file even where the table is the head too, so that all that steps read through the map is in the
    /// [stages](Self::stages).
    pub fn with_residency(mut self, residency: Arc<dyn Residency>) -> Self {
        self.reads_rows = self.file.is_mapped();
        self.residency = Some(residency);
        self
    }

    fn check_activations(&self, asked: Activations) -> Result<(), ModelError> {
        let mut trained = self.weights.trained();
        let few = |(mode, _)| {
            matches!(
                mode,
                ActivationMode::SignToken | ActivationMode::TernaryToken
            )
        };
        if asked != Activations::Auto && self.weights.trained().any(few) {
            return Err(ModelError::FixedActivations { asked });
        }
        let floats = |(mode, layout): (_, Layout)| {
            let dense = matches!(layout, Layout::T5 | Layout::T5R5);
            layout.is_float() || (dense && mode == ActivationMode::F32)
        };
        if asked == Activations::Int8 && trained.all(floats) {
            return Err(ModelError::DenseWeights);
        }
        Ok(())
    }

    /// A hash of all that decides the numbers that the model computes: its spec, its tensors as the file's metadata has their hashes
    /// and what they mean, and the arithmetic of the activations. What else is in the file, such as the tokenizer, is left out.
    pub fn fingerprint(&self) -> [u8; 32] {
        let meta = self.file.meta();
        let mut text = format!("{:?}\n{:?}\n", self.spec, meta.matrices);
        for linear in self.weights.linears() {
            text += &format!("{:?}\n", linear.form);
        }
        let is_tensor = |name: &str| !meta.blobs.contains_key(name);
        for (name, hash) in meta.sha256.iter().filter(|(name, _)| is_tensor(name)) {
            text += &format!("{name} {hash}\n");
        }
        onebit_format::blob_sha256(text.as_bytes())
    }

    /// The forms in which the linears take their inputs; see [`Workspace::bytes`](crate::Workspace::bytes).
    pub fn input_forms(&self) -> InputForms {
        self.input_forms
    }

    /// Bytes of weights that a step of one token reads at most: all layers and the head. What it leaves out of them is
    /// [`Output::skipped_bytes`](crate::Output::skipped_bytes).
    pub fn bytes_per_token(&self) -> usize {
        let bytes = self.weight_bytes();
        let head = if self.spec.tied_head {
            bytes.embed
        } else {
            bytes.head
        };
        bytes.layers + head
    }

    /// Bytes of the tensors by role.
    pub fn weight_bytes(&self) -> WeightBytes {
        let sizes = self.file.tensor_sizes();
        WeightBytes::sum(sizes.map(|(name, _, bytes)| (name, bytes)))
    }
}

impl WeightBytes {
    /// Sorts tensors by their names; others than weights do not count.
    pub fn sum<'n>(tensors: impl IntoIterator<Item = (&'n str, usize)>) -> Self {
        let mut sum = Self::default();
        for (name, bytes) in tensors {
            match name.split('.').next() {
                Some("embed") => sum.embed += bytes,
                Some("head") => sum.head += bytes,
                Some("layers" | "norm" | onebit_format::SCALES_TENSOR) => sum.layers += bytes,
                _ => {}
            }
        }
        sum
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}
