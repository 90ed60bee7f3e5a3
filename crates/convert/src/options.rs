//! What the caller may choose.

use std::str::FromStr;

use crate::error::ConvertError;
use crate::verify::Verify;

/// Options of [`convert`](crate::convert()).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// How the linears of the layers are stored.
    pub weights: WeightType,
    /// In which direction ternary `down` matrices are stored.
    pub down: DownType,
    /// How the embeddings are stored; `None` leaves it to `head` if they are tied to it, and
    /// otherwise keeps their type.
    pub embed: Option<FloatType>,
    /// How the output head is stored; `None` leaves it to `embed` if it is tied to the
    /// embeddings, and otherwise keeps its type. Two different values untie them.
    pub head: Option<FloatType>,
    /// Replace an existing output.
    pub force: bool,
    /// What the packed file names as its source; the folder's name when `None`.
    pub source: Option<String>,
    /// The revision of the source, where it has one.
    pub revision: Option<String>,
    /// Compare what the packed file computes with what the source computes, before it appears at its path.
    pub verify: Verify,
}

/// How the linears of the layers are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WeightType {
    /// Ternary weights as `t2`, binary ones as `b1`, dense weights in their own type; floats that are ternary or binary by
    /// their values are packed.
    #[default]
    Auto,
    /// Ternary, two bits each; for models trained ternary or binary only.
    T2,
    /// Ternary, five to a byte, 1.6 bits each; for models trained ternary with one scale per matrix only.
    Dense,
    /// Binary, one bit each; for models trained binary only.
    B1,
    /// No change of any value or float type: as `Auto`, but floats stay floats.
    Keep,
    /// IEEE binary16; for dense models only.
    F16,
    /// 8 bits, one scale per row; for dense models only.
    Q8,
    /// 4 bits, one scale per 64 columns; for dense models only.
    Q4,
}

/// In which direction a ternary `down` matrix is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DownType {
    /// Whichever is faster on most machines.
    #[default]
    Auto,
    /// An output after the other, as all other matrices.
    Rows,
    /// An input after the other, so that inputs of zero need not be read; only ternary matrices with one scale and
    /// quantized inputs.
    Columns,
}

impl FromStr for DownType {
    type Err = ConvertError;

    /// Reads the names of the command line.
    fn from_str(name: &str) -> Result<Self, ConvertError> {
        match name {
            "auto" => Ok(Self::Auto),
            "rows" => Ok(Self::Rows),
            "columns" => Ok(Self::Columns),
            other => Err(ConvertError::Request(format!(
                "unknown direction \"{other}\"; known: auto, rows, columns"
            ))),
        }
    }
}

/// How embeddings or the output head are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FloatType {
    /// In the type of the checkpoint.
    #[default]
    Keep,
    /// IEEE binary16.
    F16,
    /// 8 bits, one scale per row.
    Q8,
    /// 4 bits, one scale per 64 columns.
    Q4,
}

impl FromStr for WeightType {
    type Err = ConvertError;

    /// Reads the names of the command line.
    fn from_str(name: &str) -> Result<Self, ConvertError> {
        match name {
            "auto" => Ok(Self::Auto),
            "t2" => Ok(Self::T2),
            "dense" => Ok(Self::Dense),
            "b1" => Ok(Self::B1),
            "keep" => Ok(Self::Keep),
            "f16" => Ok(Self::F16),
            "q8" => Ok(Self::Q8),
            "q4" => Ok(Self::Q4),
            _ => Err(ConvertError::Request(format!(
                "unknown weight type `{name}`, expected auto, t2, dense, b1, keep, f16, q8 or q4"
            ))),
        }
    }
}

impl FromStr for FloatType {
    type Err = ConvertError;

    /// Reads the names of the command line.
    fn from_str(name: &str) -> Result<Self, ConvertError> {
        match name {
            "keep" => Ok(Self::Keep),
            "f16" => Ok(Self::F16),
            "q8" => Ok(Self::Q8),
            "q4" => Ok(Self::Q4),
            _ => Err(ConvertError::Request(format!(
                "unknown type `{name}`, expected keep, f16, q8 or q4"
            ))),
        }
    }
}
