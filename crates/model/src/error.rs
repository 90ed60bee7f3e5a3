//! What can go wrong, one enum, classified for exit codes.

use onebit_format::{ActivationMode, FormatError, Layout};

use crate::forms::Activations;

/// A field of a [`ModelSpec`](crate::ModelSpec) is out of bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("config field {field}: {reason}")]
pub struct SpecError {
    /// The field, as spelled in the config.
    pub field: &'static str,
    /// What is wrong with its value.
    pub reason: String,
}

/// Everything [`Model`](crate::Model) and [`KvCache`](crate::KvCache) can refuse.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A token id is not in the vocabulary.
    #[error("token id {id} is out of range: the vocabulary has {vocab} entries")]
    Token {
        /// The id asked for.
        id: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// A row's position does not continue its sequence.
    #[error("position {found} does not continue sequence {sequence}: expected {expected}")]
    Position {
        /// Index of the sequence in the step.
        sequence: usize,
        /// The position the cache continues with.
        expected: usize,
        /// The position the row has.
        found: usize,
    },
    /// A sequence is longer than its cache.
    #[error(
        "context full: position {position} of sequence {sequence} does not fit a context of {capacity} tokens"
    )]
    ContextFull {
        /// Index of the sequence in the step.
        sequence: usize,
        /// The position that does not fit.
        position: usize,
        /// Capacity of the cache, in tokens.
        capacity: usize,
    },
    /// More was asked of a cache that is for one step.
    #[error(
        "this KV cache is for one step that starts at position 0: empty it before the next step"
    )]
    OneStep,
    /// A row names a sequence without a cache.
    #[error("row {row} names sequence {sequence}, but the step has {caches} caches")]
    Sequence {
        /// Index of the row.
        row: usize,
        /// The sequence it names.
        sequence: usize,
        /// Caches given.
        caches: usize,
    },
    /// A step holds more than the workspace was made for, or nothing at all.
    #[error("{found} {what} in one step: the workspace allows 1 to {max}")]
    StepSize {
        /// "rows", "rows of logits" or "rows of hidden states".
        what: &'static str,
        /// Number asked for.
        found: usize,
        /// Number the workspace was made for.
        max: usize,
    },
    /// Logits were asked for a row that is not in the step.
    #[error("logits asked for row {row}, but the step has {rows} rows")]
    LogitsRow {
        /// The row asked for.
        row: usize,
        /// Rows in the step.
        rows: usize,
    },
    /// A cache or workspace was made for a model of another shape.
    #[error("this {what} was made for a model of another shape")]
    OtherModel {
        /// "cache" or "workspace".
        what: &'static str,
    },
    /// A context length no cache can be made for.
    #[error("a context of {capacity} tokens is outside 1..={max}")]
    Capacity {
        /// Tokens asked for.
        capacity: usize,
        /// Longest context supported.
        max: usize,
    },
    /// An option of a KV cache is out of range.
    #[error("KV cache: {what} {value} must be {expected}")]
    KvOption {
        /// Name of the option.
        what: &'static str,
        /// The value given.
        value: usize,
        /// What it can be.
        expected: &'static str,
    },
    /// Heads too wide for rows of so few bits.
    #[error("a KV cache of type {} takes heads of at most {max} elements, the model's have {head_dim}: use q8 or f16", kind.name())]
    KvHead {
        /// The type asked for.
        kind: onebit_kernels::KvType,
        /// Elements of the model's heads.
        head_dim: usize,
        /// Most elements supported.
        max: usize,
    },
    /// No cache stands where the state says.
    #[error("the state of a KV cache has an impossible {what}")]
    StateMark {
        /// What is wrong.
        what: &'static str,
    },
    /// The rows of a state have other places in a cache of this capacity.
    #[error(
        "a state of {top} positions that was saved with a context of {saved} cannot go on with one of {capacity}: use a context of {saved}"
    )]
    StateCapacity {
        /// Positions of the state.
        top: usize,
        /// Capacity of the cache that was saved.
        saved: usize,
        /// Capacity of the cache to read into.
        capacity: usize,
    },
    /// The rows of a state cannot be read.
    #[error("the state of a KV cache cannot be read: {0}")]
    StateRead(std::io::Error),
    /// There is not enough memory.
    #[error("the {what} does not fit in memory")]
    Memory {
        /// "KV cache" or "workspace".
        what: &'static str,
    },
    /// The config inside the file is not a model config.
    #[error("the file's model config is malformed at `{field}`: {reason}")]
    Config {
        /// The path of the field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The config inside the file contradicts itself.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A tensor's size contradicts the config.
    #[error("tensor {tensor} has shape {found}, the config asks for {expected}")]
    Shape {
        /// Name of the tensor.
        tensor: String,
        /// Shape that follows from the config.
        expected: String,
        /// Shape in the file.
        found: String,
    },
    /// A tensor the config asks for is not in the file.
    #[error("tensor {tensor} is missing: the config asks for {expected}")]
    Missing {
        /// Name of the tensor.
        tensor: String,
        /// Shape that follows from the config.
        expected: String,
    },
    /// A tensor the config does not know.
    #[error("tensor {tensor} has no place in a model of this config")]
    UnexpectedTensor {
        /// Name of the tensor.
        tensor: String,
    },
    /// A tensor's layout cannot be used in its role.
    #[error("tensor {tensor}: layout {layout} with {activation:?} inputs is not supported")]
    Layout {
        /// Name of the tensor.
        tensor: String,
        /// Its layout.
        layout: Layout,
        /// What its inputs would be turned into.
        activation: ActivationMode,
    },
    /// Linears that read one input quantize it in different ways.
    #[error(
        "layer {layer}: {linears} read one input, but were trained with it quantized in different ways"
    )]
    Inputs {
        /// The layer.
        layer: usize,
        /// The linears.
        linears: &'static str,
    },
    /// The model was trained with 1-bit or ternary activations, and others were asked for.
    #[error(
        "{} activations: this model was trained with binary or ternary activations and has no other mode",
        asked.name()
    )]
    FixedActivations {
        /// What was asked for.
        asked: Activations,
    },
    /// Int8 activations were asked for, and no weights are ternary or binary and multiplied with them.
    #[error(
        "int8 activations are not supported for dense weights: only for ternary and binary ones"
    )]
    DenseWeights,
    /// The packed file is unreadable, malformed or not supported.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// Who has to act on an error; the command line maps it to an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request cannot be served as asked.
    Request,
    /// The model is missing, unreadable, malformed or inconsistent.
    Malformed,
    /// The model is well-formed but not supported.
    Unsupported,
    /// It does not fit in memory.
    Memory,
}

impl ModelError {
    /// The class of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Token { .. }
            | Self::Position { .. }
            | Self::ContextFull { .. }
            | Self::OneStep
            | Self::Sequence { .. }
            | Self::StepSize { .. }
            | Self::LogitsRow { .. }
            | Self::OtherModel { .. }
            | Self::FixedActivations { .. }
            | Self::KvOption { .. }
            | Self::StateCapacity { .. }
            | Self::Capacity { .. } => ErrorKind::Request,
            Self::Memory { .. } => ErrorKind::Memory,
            Self::Config { .. }
            | Self::Spec(_)
            | Self::Shape { .. }
            | Self::Missing { .. }
            | Self::StateMark { .. }
            | Self::StateRead(_)
            | Self::UnexpectedTensor { .. } => ErrorKind::Malformed,
            Self::KvHead { .. }
            | Self::Layout { .. }
            | Self::Inputs { .. }
            | Self::DenseWeights => ErrorKind::Unsupported,
            Self::Format(error) => match error.kind() {
                onebit_format::ErrorKind::Unsupported => ErrorKind::Unsupported,
                _ => ErrorKind::Malformed,
            },
        }
    }
}
