//! How far a packed file may be from its source, by what packing changed.

use std::fmt;

use onebit_format::{ActivationMode, Layout};
use onebit_model::Model;
use safetensors::Dtype;
use serde::Serialize;

use super::reference::Reference;
use crate::error::{ConvertError, Result};

/// The coarsest rounding between a source and its packed file, over all matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Precision {
    /// The same weights, multiplied as floats on both sides.
    Float,
    /// The same weights; activations are rounded to int8 on both sides, as trained. Where one lies between two of these
    /// values, the rounding of floats decides, and two correct programs can differ.
    Int8,
    /// Some floats were rounded to a 16-bit type.
    F16,
    /// Some dense weights have 8 bits, or are multiplied by 8-bit activations that they were not trained with.
    Q8,
    /// The same weights, with activations of one or two bits: rounded the other way, one makes a larger difference.
    FewBits,
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

/// Limits: several times what correct files of small models with random weights, on which rounding shows most, measure.
const LIMITS: [(Precision, Limits); 6] = [
    (Precision::Float, limits(1e-6, 1e-5, 1e-2, 1.0)),
    (Precision::Int8, limits(2e-3, 5e-2, 0.5, 0.95)),
    (Precision::F16, limits(2e-3, 5e-2, 0.5, 0.95)),
    (Precision::Q8, limits(2e-2, 2e-1, 1.0, 0.9)),
    (Precision::FewBits, limits(5e-2, 1.0, 3.0, 0.9)),
    (Precision::Q4, limits(2.0, 8.0, 6.0, 0.2)),
];

const fn limits(mean_kl: f64, worst_kl: f64, error: f64, agreement: f64) -> Limits {
    Limits {
        mean_kl,
        worst_kl,
        error,
        agreement,
    }
}

impl Precision {
    /// The limits for files of this precision.
    pub fn limits(self) -> Limits {
        LIMITS[self as usize].1
    }

    /// The coarsest of any matrix of `model`.
    pub(super) fn of(model: &Model, source: &Reference<'_>) -> Result<Self> {
        let mut coarsest = Self::Float;
        for name in model.file().meta().matrices.keys() {
            let malformed = ConvertError::Output;
            let layout = model.file().matrix(name).map_err(malformed)?.layout();
            let activation = model.file().activation(name).map_err(malformed)?;
            coarsest = coarsest.max(Self::of_matrix(layout, activation, source.trained(name)?));
        }
        Ok(coarsest)
    }

    fn of_matrix(layout: Layout, activation: ActivationMode, trained: Trained) -> Self {
        let own = |dtype| match layout {
            Layout::F16 => dtype == Dtype::F16,
            Layout::BF16 => dtype == Dtype::BF16,
            _ => true,
        };
        match (layout, trained) {
            (Layout::I4, _) => Self::Q4,
            (Layout::I8, _) => Self::Q8,
            (_, Trained::Int8) => Self::Int8,
            (_, Trained::FewBits) => Self::FewBits,
            (_, Trained::Float(_)) if activation != ActivationMode::F32 => Self::Q8,
            (_, Trained::Float(dtype)) if own(dtype) => Self::Float,
            _ => Self::F16,
        }
    }
}

/// How a matrix of the source is multiplied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Trained {
    /// As floats of this type, with floats.
    Float(Dtype),
    /// With int8 activations.
    Int8,
    /// With activations of one or two bits.
    FewBits,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Float => "the same weights",
            Self::Int8 => "the same weights, int8 activations",
            Self::FewBits => "the same weights, activations of one or two bits",
            Self::F16 => "weights in f16",
            Self::Q8 => "weights or activations in 8 bits",
            Self::Q4 => "weights in 4 bits",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_the_order_of_the_precisions_and_ever_looser() {
        for (precision, limits) in LIMITS {
            assert_eq!(precision.limits(), limits);
        }
        for [(_, tight), (_, loose)] in LIMITS.array_windows() {
            assert!(tight.mean_kl <= loose.mean_kl && tight.worst_kl <= loose.worst_kl);
            assert!(tight.error <= loose.error && tight.agreement >= loose.agreement);
        }
    }

    #[test]
    fn precision_follows_layout_activation_and_source() {
        let float = |layout, dtype| {
            Precision::of_matrix(layout, ActivationMode::F32, Trained::Float(dtype))
        };
        assert_eq!(float(Layout::BF16, Dtype::BF16), Precision::Float);
        assert_eq!(float(Layout::F16, Dtype::F32), Precision::F16);
        assert_eq!(float(Layout::F16, Dtype::F16), Precision::Float);
        let int8 = |layout, trained| Precision::of_matrix(layout, ActivationMode::I8Token, trained);
        let f16 = Trained::Float(Dtype::F16);
        assert_eq!(int8(Layout::T2, Trained::Int8), Precision::Int8);
        assert_eq!(int8(Layout::T2, f16), Precision::Q8);
        assert_eq!(int8(Layout::I8, f16), Precision::Q8);
        assert_eq!(int8(Layout::I4, f16), Precision::Q4);
    }
}
