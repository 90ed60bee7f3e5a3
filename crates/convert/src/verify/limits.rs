//! How far a packed file may be from its source, by what packing changed.

use std::fmt;

use onebit_format::{ActivationMode, Layout};
use onebit_model::Model;
use safetensors::Dtype;
use serde::Serialize;

use super::reference::Reference;
use crate::error::{ConvertError, Result};

/// The coarsest change that packing made to any matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Change {
    /// None: ternary weights stay ternary, floats keep their values.
    None,
    /// Some floats were rounded to `f16`.
    F16,
    /// Some dense weights have 8 bits, or are multiplied by 8-bit activations that they were not trained with.
    Q8,
    /// Some dense weights have 4 bits.
    Q4,
}

/// What a packed file must not exceed, and what it must reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Limits {
    /// Mean over positions of `KL(source || packed)`, in nats.
    pub mean_kl: f64,
    /// The same at the worst position.
    pub worst_kl: f64,
    /// Largest error of a logit, as a multiple of the logits' standard deviation.
    pub error: f64,
    /// Share of decided positions with the same likeliest token.
    pub agreement: f64,
}

/// Limits per change.
const LIMITS: [(Change, Limits); 4] = [
    (Change::None, limits(2e-3, 5e-2, 1.0, 0.95)),
    (Change::F16, limits(2e-3, 5e-2, 1.0, 0.95)),
    (Change::Q8, limits(2e-2, 2e-1, 1.5, 0.9)),
    (Change::Q4, limits(3e-1, 2.0, 4.0, 0.6)),
];

const fn limits(mean_kl: f64, worst_kl: f64, error: f64, agreement: f64) -> Limits {
    Limits {
        mean_kl,
        worst_kl,
        error,
        agreement,
    }
}

impl Change {
    /// The limits for files with this change.
    pub fn limits(self) -> Limits {
        LIMITS[self as usize].1
    }

    /// The coarsest change of any matrix of `model`.
    pub(super) fn of(model: &Model, source: &Reference<'_>) -> Result<Self> {
        let mut coarsest = Self::None;
        for name in model.file().meta().matrices.keys() {
            let malformed = ConvertError::Output;
            let layout = model.file().matrix(name).map_err(malformed)?.layout();
            let activation = model.file().activation(name).map_err(malformed)?;
            coarsest = coarsest.max(Self::of_matrix(layout, activation, source.trained(name)?));
        }
        Ok(coarsest)
    }

    fn of_matrix(layout: Layout, activation: ActivationMode, trained: Trained) -> Self {
        match (layout, trained) {
            (Layout::I4, _) => Self::Q4,
            (Layout::I8, _) => Self::Q8,
            (_, Trained::Float(_)) if activation != ActivationMode::F32 => Self::Q8,
            (Layout::F16, Trained::Float(dtype)) if dtype != Dtype::F16 => Self::F16,
            (Layout::BF16, Trained::Float(dtype)) if dtype != Dtype::BF16 => Self::Q8,
            _ => Self::None,
        }
    }
}

/// How a matrix of the source is multiplied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Trained {
    /// As floats of this type, with floats.
    Float(Dtype),
    /// With quantized activations.
    Quantized,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no type changed",
            Self::F16 => "some weights rounded to f16",
            Self::Q8 => "some weights in 8 bits",
            Self::Q4 => "some weights in 4 bits",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_the_order_of_the_changes() {
        for (change, limits) in LIMITS {
            assert_eq!(change.limits(), limits);
        }
    }

    #[test]
    fn changes_follow_layout_activation_and_source() {
        let float =
            |layout, dtype| Change::of_matrix(layout, ActivationMode::F32, Trained::Float(dtype));
        assert_eq!(float(Layout::BF16, Dtype::BF16), Change::None);
        assert_eq!(float(Layout::F16, Dtype::F32), Change::F16);
        assert_eq!(float(Layout::F16, Dtype::F16), Change::None);
        let int8 = |layout, trained| Change::of_matrix(layout, ActivationMode::I8Token, trained);
        assert_eq!(int8(Layout::T2, Trained::Quantized), Change::None);
        assert_eq!(int8(Layout::T2, Trained::Float(Dtype::F16)), Change::Q8);
        assert_eq!(int8(Layout::I8, Trained::Float(Dtype::F16)), Change::Q8);
        assert_eq!(int8(Layout::I4, Trained::Float(Dtype::F16)), Change::Q4);
        assert!(Change::None < Change::F16 && Change::Q8 < Change::Q4);
    }
}
