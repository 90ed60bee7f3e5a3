//! The rotary position embedding as data.

use serde::{Deserialize, Serialize};

use crate::error::SpecError;
use crate::spec::{MAX_POSITIONS, require};

/// Rotary position embedding, half-split: element `i` of a head turns with element `i + head_dim / 2`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeSpec {
    /// Base of the frequencies.
    pub theta: f64,
    /// How the frequencies are changed for contexts longer than those trained on.
    #[serde(default)]
    pub scaling: RopeScaling,
}

/// Change of the rotary frequencies for long contexts, with its parameters.
///
/// With `f_i = theta^(-2i / head_dim)`, the frequency of pair `i`; the formulas are those of `modeling_rope_utils.py` in
/// `transformers` 5.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Frequencies as they are.
    #[default]
    None,
    /// `f_i / factor`.
    Linear {
        /// How much longer the context becomes.
        factor: f64,
    },
    /// NTK-aware: for a sequence of `n > original_max_positions` tokens, `theta` is multiplied by
    /// `(factor * n / original_max_positions - (factor - 1))^(head_dim / (head_dim - 2))`.
    ///
    /// `n` counts the tokens up to the end of the prompt that a token is part of, or up to the token itself where it was
    /// generated: see [`KvCache::expect`](crate::KvCache::expect).
    Dynamic {
        /// How fast the base grows.
        factor: f64,
        /// Length up to which nothing changes.
        original_max_positions: usize,
    },
    /// Llama 3.1: with `w_i = original_max_positions * f_i / 2 pi`, the turns within the original context, `f_i` stays where
    /// `w_i > high_freq_factor`, becomes `f_i / factor` where `w_i < low_freq_factor`, and a mixture of both between.
    Llama3 {
        /// By how much low frequencies are divided.
        factor: f64,
        /// Turns below which a frequency is low.
        low_freq_factor: f64,
        /// Turns above which a frequency is high.
        high_freq_factor: f64,
        /// Context of the pre-training.
        original_max_positions: usize,
    },
    /// YaRN (arXiv 2309.00071): pairs that turn more than `beta_fast` times within the original context keep their
    /// frequency, those that turn less than `beta_slow` times are divided by `factor`, with a linear ramp over the pairs
    /// between. Cosines and sines are multiplied by `attention_factor`.
    Yarn {
        /// By how much low frequencies are divided.
        factor: f64,
        /// Context of the pre-training.
        original_max_positions: usize,
        /// Turns above which a frequency stays.
        beta_fast: f64,
        /// Turns below which a frequency is divided.
        beta_slow: f64,
        /// Whether the ends of the ramp are rounded outwards to whole pairs.
        truncate: bool,
        /// Multiplier of cosines and sines.
        attention_factor: f64,
    },
}

impl RopeSpec {
    /// Plain rotary embedding with base `theta`.
    pub fn new(theta: f64) -> Self {
        Self {
            theta,
            scaling: RopeScaling::None,
        }
    }

    /// Whether the angles of a position are the same in all sequences of up to `length` tokens.
    pub fn is_fixed_up_to(&self, length: usize) -> bool {
        match self.scaling {
            RopeScaling::Dynamic {
                original_max_positions,
                ..
            } => length <= original_max_positions,
            _ => true,
        }
    }

    /// Checks that every parameter is a number that the formulas are defined for.
    pub(crate) fn validate(&self, head_dim: usize) -> Result<(), SpecError> {
        positive("rope.theta", self.theta)?;
        match self.scaling {
            RopeScaling::None => Ok(()),
            RopeScaling::Linear { factor } => positive("rope.scaling.factor", factor),
            RopeScaling::Dynamic {
                factor,
                original_max_positions,
            } => {
                require("head_dim", head_dim > 2, || {
                    format!("{head_dim} is too narrow for dynamic rope scaling")
                })?;
                positive("rope.scaling.factor", factor)?;
                original(original_max_positions)
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_positions,
            } => {
                positive("rope.scaling.factor", factor)?;
                positive("rope.scaling.low_freq_factor", low)?;
                positive("rope.scaling.high_freq_factor", high)?;
                require("rope.scaling.high_freq_factor", high > low, || {
                    format!("{high} is not above low_freq_factor, which is {low}")
                })?;
                original(original_max_positions)
            }
            RopeScaling::Yarn {
                factor,
                original_max_positions,
                beta_fast,
                beta_slow,
                attention_factor,
                ..
            } => {
                require("rope.theta", self.theta != 1.0, || {
                    "1 has no logarithm to divide by".into()
                })?;
                positive("rope.scaling.factor", factor)?;
                positive("rope.scaling.beta_fast", beta_fast)?;
                positive("rope.scaling.beta_slow", beta_slow)?;
                require("rope.scaling.beta_fast", beta_fast >= beta_slow, || {
                    format!("{beta_fast} is below beta_slow, which is {beta_slow}")
                })?;
                positive("rope.scaling.attention_factor", attention_factor)?;
                original(original_max_positions)
            }
        }
    }
}

fn positive(field: &'static str, value: f64) -> Result<(), SpecError> {
    let normal = (value as f32).is_finite() && value as f32 > 0.0;
    require(field, normal, || {
        format!("{value} is not a positive finite number")
    })
}

fn original(positions: usize) -> Result<(), SpecError> {
    let valid = (1..=MAX_POSITIONS).contains(&positions);
    require("rope.scaling.original_max_positions", valid, || {
        format!("{positions} is outside 1..={MAX_POSITIONS}")
    })
}
