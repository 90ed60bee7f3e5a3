//! The metadata of a packed file, as JSON under the key [`METADATA_KEY`] of the container.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The format version this crate reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// The one key of the container's `__metadata__`.
pub const METADATA_KEY: &str = "onebit";

/// The features this crate understands; a file that requires another one is refused by name.
pub const KNOWN_FEATURES: &[&str] = &[];

/// Columns a matrix may have at most: with 65,536 of them, sums of products of any two `int8` still
/// fit 32 bits.
pub const MAX_COLS: usize = 1 << 16;

/// The tensor that gathers the scales of all matrices with one scale.
pub const SCALES_TENSOR: &str = "scales";

/// Everything about a model that is not a tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// The format version, [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Extensions without which the file must not be read.
    #[serde(default)]
    pub required_features: Vec<String>,
    /// The network's configuration; opaque here.
    pub model: serde_json::Value,
    /// What the publisher recommends for generation.
    #[serde(default)]
    pub generation: GenerationDefaults,
    /// The chat template, Jinja as `transformers` renders it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
    /// Where the weights come from.
    pub provenance: Provenance,
    /// The matrices by tensor name.
    pub matrices: BTreeMap<String, MatrixMeta>,
    /// Vectors of `f32` by tensor name, with their lengths before padding.
    #[serde(default)]
    pub vectors: BTreeMap<String, usize>,
    /// Byte strings by tensor name, with their lengths before padding.
    #[serde(default)]
    pub blobs: BTreeMap<String, usize>,
    /// SHA-256 of every tensor's bytes, padding included, in lowercase hexadecimal.
    pub sha256: BTreeMap<String, String>,
}

/// What the publisher recommends for generation; absent fields leave the choice to the program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationDefaults {
    /// The token that begins a sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bos: Option<u32>,
    /// The tokens that end one.
    pub eos: Vec<u32>,
    /// Whether to sample (`true`) or to take the likeliest token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub do_sample: Option<bool>,
    /// Divisor of the logits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Keep this many of the likeliest tokens; 0 keeps all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Keep the likeliest tokens up to this sum of probabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Keep tokens at least this fraction as likely as the likeliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// Divides positive and multiplies negative logits of tokens already seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f32>,
}

/// Where the weights come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// The repository or directory the checkpoint was read from.
    pub source: String,
    /// Its revision, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The program that wrote the file, with its version.
    pub converter: String,
    /// The files read.
    pub files: Vec<SourceFile>,
}

/// One file that the weights were read from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Its name within the source.
    pub name: String,
    /// SHA-256 of its bytes in lowercase hexadecimal.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

/// How one matrix is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatrixMeta {
    /// The [`id`](crate::Layout::id) of its layout.
    pub layout: String,
    /// Rows: outputs.
    pub rows: usize,
    /// Columns without padding: inputs.
    pub cols: usize,
    /// Its scales.
    pub scale: ScaleMeta,
    /// What the matrix is multiplied with.
    pub activation: ActivationMode,
    /// The linear map is the transpose: rows are inputs, columns are outputs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transposed: bool,
}

/// Where the scales of a matrix are; see [`Scales`](crate::Scales) for what they mean.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ScaleMeta {
    /// There are none.
    None,
    /// One for the whole matrix.
    Tensor {
        /// Its place in the tensor [`SCALES_TENSOR`].
        index: usize,
    },
    /// One `f32` per row.
    Rows {
        /// The tensor that holds them.
        tensor: String,
    },
    /// One `f16` per group of columns, among the weights where [`Packs`](crate::Packs) says.
    Groups {
        /// Columns in a group.
        size: usize,
    },
}

/// What the inputs of a matrix are turned into before the product.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationMode {
    /// `int8` with one scale per token, as BitNet models are trained.
    I8Token,
    /// -1 or 1 with one scale per token: `x^ = sign(x) mean|x|`, where the sign of zero is 1.
    SignToken,
    /// -1, 0 or 1 with one scale per token: `x^ = clamp(round(x / a), -1, 1) a` with `a = mean|x|`.
    TernaryToken,
    /// Nothing: `f32`.
    F32,
}

impl ActivationMode {
    /// The name in the metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::I8Token => "i8_token",
            Self::SignToken => "sign_token",
            Self::TernaryToken => "ternary_token",
            Self::F32 => "f32",
        }
    }
}
