//! What plans are made from: a model, or the shape of one.

use onebit_format::Plan;
use onebit_model::{
    Activations, InputForms, KvCache, Model, ModelError, ModelSpec, Row, WeightBytes, Workspace,
};

use super::{MemoryItem, MemoryKind, MemoryPlan};
use crate::error::RuntimeError;
use crate::sampling::Candidate;
use crate::session::SessionOptions;
use crate::shapes::{Encoding, Shape, ShapeTensor, TensorShape};
use crate::tokenizer_bytes::TokenizerBytes;

/// Pages of the program and of the C library, as they are mapped by the time that a model has run.
const PROGRAM: u64 = 19 << 19;
/// What the process owns besides: its heap at the start, and stacks.
const HEAP: u64 = 3 << 18;
/// What the index of a file takes per tensor.
const INDEX_ENTRY: u64 = 1 << 10;

/// Whether the rows of an embedding that is not the head too are read one by one, without mapping the table.
const READS_EMBEDDING_ROWS: bool = true;
/// What the system maps around a page that is touched.
const FAULT_AROUND: u64 = 64 << 10;

/// Sizes that a plan follows from, apart from the session's own.
#[derive(Clone, Debug)]
pub struct MemoryParts {
    spec: ModelSpec,
    forms: InputForms,
    weights: WeightBytes,
    /// Header and texts of the file, without those that are not touched.
    rest: u64,
    tensors: u64,
    stored: MemoryKind,
    /// Whether weights pass through memory.
    streamed: bool,
    /// Whether keys and values are those of one layer.
    one_pass: bool,
    tokenizer: TokenizerBytes,
}

impl MemoryParts {
    /// Those of a model that is open.
    pub fn of_model(model: &Model) -> Self {
        let file = model.file();
        let weights = model.weight_bytes();
        let of_weights = (weights.layers + weights.embed + weights.head) as u64;
        let tokenizer = TokenizerBytes::of(file);
        Self {
            spec: model.spec().clone(),
            forms: model.input_forms(),
            weights,
            rest: file
                .file_len()
                .saturating_sub(of_weights + tokenizer.untouched),
            tensors: file.tensor_sizes().count() as u64,
            stored: if file.is_file_backed() {
                MemoryKind::File
            } else {
                MemoryKind::Anonymous
            },
            streamed: false,
            one_pass: false,
            tokenizer,
        }
    }

    /// Those of a model of this shape with its weights stored like that, in a mapped file with a tokenizer of the usual size.
    ///
    /// # Errors
    /// [`RuntimeError::Model`] where such weights cannot be stored or multiplied.
    pub fn of_shape(shape: &Shape, encoding: &Encoding) -> Result<Self, RuntimeError> {
        let spec = &shape.spec;
        let tensors = ShapeTensor::all(spec);
        let mut plan = Plan::new(serde_json::Value::Null, Default::default());
        for tensor in &tensors {
            encoding.add(&mut plan, tensor);
        }
        let sizes = plan.tensor_sizes().map_err(ModelError::from)?;
        let multiplied = |tensor: &&ShapeTensor| tensor.name != "embed" || spec.tied_head;
        let linears = tensors
            .iter()
            .filter(multiplied)
            .filter_map(|tensor| match tensor.shape {
                TensorShape::Vector(_) => None,
                TensorShape::Matrix { rows, cols } => {
                    let stored = encoding.stored(&tensor.name, rows, cols);
                    Some((stored.layout, stored.activation))
                }
            });
        let forms = InputForms::of_linears(linears, Activations::Auto);
        let (tokenizer, tables) = TokenizerBytes::of_vocab(spec.vocab);
        Ok(Self {
            forms: forms.ok_or(ModelError::Memory { what: "inputs" })?,
            weights: WeightBytes::sum(sizes.iter().map(|(name, _, size)| (name.as_str(), *size))),
            rest: tables + sizes.len() as u64 * INDEX_ENTRY,
            tensors: sizes.len() as u64,
            stored: MemoryKind::File,
            streamed: false,
            one_pass: false,
            tokenizer,
            spec: spec.clone(),
        })
    }

    /// With weights that pass through memory, two layers at a time at least, instead of staying.
    pub fn streamed(self) -> Self {
        Self {
            streamed: true,
            ..self
        }
    }

    /// For an [`OnePass`](crate::OnePass) instead of a session.
    pub fn one_pass(self) -> Self {
        Self {
            one_pass: true,
            ..self
        }
    }

    /// The network.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// Bytes of one layer.
    pub fn layer_bytes(&self) -> u64 {
        (self.weights.layers / self.spec.layers.max(1)) as u64
    }

    /// Plans a session.
    ///
    /// # Errors
    /// [`RuntimeError::Model`] where the sizes are more than this machine can address.
    pub fn plan(&self, options: &SessionOptions) -> Result<MemoryPlan, RuntimeError> {
        let whole = |name, bytes: u64, kind| MemoryItem {
            name,
            bytes,
            resident: bytes,
            kind,
        };
        let own = MemoryKind::Anonymous;
        let (kv, scratch) = (self.kv_bytes(options)?, self.scratch_bytes(options)?);
        let tokenizer = self.tokenizer;
        let items = [
            self.layers(),
            self.embeddings(options),
            whole("head", self.weights.head as u64, self.stored),
            whole("header and texts", self.rest, self.stored),
            whole("kv cache", kv, own),
            whole("scratch", scratch, own),
            whole("tokenizer", tokenizer.kept, own),
            whole("freed heap", tokenizer.freed_beside(kv + scratch), own),
            whole("program", PROGRAM, MemoryKind::File),
            whole("heap and stacks", HEAP + self.tensors * INDEX_ENTRY, own),
        ];
        let items = items.into_iter().filter(|item| item.bytes > 0).collect();
        Ok(MemoryPlan { items })
    }

    fn layers(&self) -> MemoryItem {
        let bytes = self.weights.layers as u64;
        let resident = match self.streamed {
            true => bytes.min(2 * self.layer_bytes()),
            false => bytes,
        };
        MemoryItem {
            name: "layers",
            bytes,
            resident,
            kind: self.stored,
        }
    }

    /// The embedding: whole where it is the head too, else the rows of the tokens that come.
    fn embeddings(&self, options: &SessionOptions) -> MemoryItem {
        let bytes = self.weights.embed as u64;
        let is_whole = self.spec.tied_head || self.stored == MemoryKind::Anonymous;
        let resident = match (is_whole, READS_EMBEDDING_ROWS) {
            (true, _) => bytes,
            (false, true) => 0,
            (false, false) => bytes.min((options.context as u64).saturating_mul(FAULT_AROUND)),
        };
        MemoryItem {
            name: "embeddings",
            bytes,
            resident,
            kind: self.stored,
        }
    }

    /// Keys and values with every position in use.
    fn kv_bytes(&self, options: &SessionOptions) -> Result<u64, RuntimeError> {
        let (spec, kv, context) = (&self.spec, options.kv, options.context);
        let bytes = match self.one_pass {
            true => KvCache::one_step_bytes(spec, kv, context),
            false => KvCache::bytes(spec, kv, context),
        };
        addressable("KV cache", bytes)
    }

    /// What a step and the choice of a token write to.
    fn scratch_bytes(&self, options: &SessionOptions) -> Result<u64, RuntimeError> {
        let batch = options.batch.min(options.context);
        let logits_rows = options.logits_rows.clamp(1, batch.max(1));
        let (rows, per_token) = match self.one_pass {
            // The rows of the step, and which of them want logits.
            true => (options.context, size_of::<Row>() + size_of::<usize>()),
            false => (batch, size_of::<u32>()),
        };
        let sizes = [rows, batch.max(1)];
        let workspace = Workspace::long_steps_bytes(&self.spec, self.forms, sizes, logits_rows);
        let tokens = options.context.checked_mul(per_token);
        let sampler = self.spec.vocab * (size_of::<f32>() + size_of::<Candidate>());
        Ok(addressable("workspace", workspace)? + addressable("tokens", tokens)? + sampler as u64)
    }
}

fn addressable(what: &'static str, bytes: Option<usize>) -> Result<u64, RuntimeError> {
    match bytes {
        Some(bytes) => Ok(bytes as u64),
        None => Err(ModelError::Memory { what }.into()),
    }
}
