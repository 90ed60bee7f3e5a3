//! The rotary embedding and its scalings, from their publications, half-split as Hugging Face checkpoints have it.

use std::f64::consts::TAU;

use onebit_model::{ModelSpec, RopeScaling};

use super::arithmetic::Rows;
use crate::error::{ConvertError, Result};

/// Frequencies in radians per position, and what cosines and sines are multiplied by.
#[derive(Clone, Debug)]
pub(super) struct Rope {
    frequencies: Vec<f32>,
    magnitude: f32,
}

/// A head before scaling: `theta^(-2i / width)` for its pairs `i`.
#[derive(Clone, Copy)]
struct Base {
    theta: f64,
    width: f64,
}

impl Base {
    fn frequency(self, pair: usize) -> f64 {
        self.theta.powf(-2.0 * pair as f64 / self.width)
    }

    /// The pair, a fraction in general, that turns `turns` times within `context` positions.
    fn pair(self, turns: f64, context: f64) -> f64 {
        self.width * (context / (TAU * turns)).ln() / (2.0 * self.theta.ln())
    }
}

impl Rope {
    /// The embedding for a sequence of `tokens`, all of which are given at once.
    pub(super) fn new(spec: &ModelSpec, tokens: usize) -> Result<Self> {
        let base = Base {
            theta: spec.rope.theta,
            width: spec.head_dim as f64,
        };
        let mut magnitude = 1.0;
        let frequency: Box<dyn Fn(usize) -> f64> = match spec.rope.scaling {
            RopeScaling::None => Box::new(move |pair| base.frequency(pair)),
            RopeScaling::Linear { factor } => Box::new(move |pair| base.frequency(pair) / factor),
            RopeScaling::Dynamic {
                factor,
                original_max_positions: context,
            } => {
                let length = tokens.max(context) as f64 / context as f64;
                let growth = factor * length - (factor - 1.0);
                let exponent = base.width / (base.width - 2.0);
                let theta = base.theta * growth.powf(exponent);
                Box::new(move |pair| Base { theta, ..base }.frequency(pair))
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_positions: context,
            } => Box::new(move |pair| {
                let frequency = base.frequency(pair);
                let turns = frequency * context as f64 / TAU;
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                mixed(frequency, factor, kept)
            }),
            RopeScaling::Yarn {
                factor,
                original_max_positions: context,
                beta_fast,
                beta_slow,
                truncate,
                attention_factor,
            } => {
                magnitude = attention_factor;
                let ends = [beta_fast, beta_slow].map(|turns| base.pair(turns, context as f64));
                let ends = if truncate {
                    [ends[0].floor(), ends[1].ceil()]
                } else {
                    ends
                };
                let (first, last) = (ends[0].max(0.0), ends[1].min(base.width - 1.0));
                let steps = if first == last { 1e-3 } else { last - first };
                Box::new(move |pair| {
                    let scaled = ((pair as f64 - first) / steps).clamp(0.0, 1.0);
                    mixed(base.frequency(pair), factor, 1.0 - scaled)
                })
            }
            ref other => {
                let reason = "verification does not compute it";
                return Err(ConvertError::unsupported(
                    format!("rope scaling {other:?}"),
                    reason,
                ));
            }
        };
        Ok(Self {
            frequencies: (0..spec.head_dim / 2)
                .map(|pair| frequency(pair) as f32)
                .collect(),
            magnitude: magnitude as f32,
        })
    }

    /// Rotates every head of every row by the angles of its position, which is the row's index: element `i` of a
    /// head turns with element `i + head_dim / 2`.
    pub(super) fn rotate(&self, mut x: Rows) -> Rows {
        let half = self.frequencies.len();
        for (position, row) in x.values.chunks_mut(x.width).enumerate() {
            let angle = |frequency: &f32| f64::from(position as f32 * frequency).sin_cos();
            let angles: Vec<_> = self.frequencies.iter().map(angle).collect();
            for head in row.chunks_mut(2 * half) {
                let (first, second) = head.split_at_mut(half);
                for ((a, b), (sin, cos)) in first.iter_mut().zip(second).zip(&angles) {
                    let (sin, cos) = (*sin as f32 * self.magnitude, *cos as f32 * self.magnitude);
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        }
        x
    }
}

/// A frequency of which the share `kept` stays and the rest is divided by `factor`.
fn mixed(frequency: f64, factor: f64, kept: f64) -> f64 {
    frequency * kept + frequency / factor * (1.0 - kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use onebit_model::RopeSpec;

    fn rope(head_dim: usize, theta: f64, scaling: RopeScaling, tokens: usize) -> Rope {
        let spec = ModelSpec {
            head_dim,
            rope: RopeSpec { theta, scaling },
            ..ModelSpec::default()
        };
        Rope::new(&spec, tokens).unwrap()
    }

    /// Compares with numbers printed by `ROPE_INIT_FUNCTIONS` of transformers 5.
    #[track_caller]
    fn check(rope: &Rope, expected: [f32; 4], magnitude: f32) {
        for (found, expected) in rope.frequencies.iter().zip(expected) {
            assert!(
                (found / expected - 1.0).abs() < 2e-6,
                "{found} is not {expected}"
            );
        }
        assert!((rope.magnitude / magnitude - 1.0).abs() < 1e-6);
    }

    #[test]
    fn halves_of_a_head_turn_together() {
        let rope = rope(4, 10_000.0, RopeScaling::None, 2);
        assert_eq!(rope.frequencies, [1.0, 0.01]);
        let x = Rows {
            width: 8,
            values: [[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]; 2].concat(),
        };
        let turned = rope.rotate(x.clone());
        assert_eq!(turned.values[..8], x.values[..8], "position 0");
        let (sin, cos) = (1.0f64.sin() as f32, 1.0f64.cos() as f32);
        assert_eq!(turned.values[8..12], [cos, 0.0, sin, 0.0]);
        assert_eq!(turned.values[13], -f64::from(0.01f32).sin() as f32);
    }

    #[test]
    fn linear_and_dynamic_scaling() {
        let linear = rope(8, 1e4, RopeScaling::Linear { factor: 4.0 }, 9);
        check(&linear, [0.25, 0.025, 0.0025, 0.00025], 1.0);
        let dynamic = |tokens| {
            let scaling = RopeScaling::Dynamic {
                factor: 2.0,
                original_max_positions: 64,
            };
            rope(8, 1e4, scaling, tokens)
        };
        check(&dynamic(64), [1.0, 0.1, 0.01, 0.001], 1.0);
        check(
            &dynamic(160),
            [1.0, 0.062_996_05, 0.003_968_503, 0.000_25],
            1.0,
        );
    }

    #[test]
    fn llama3_scaling() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_positions: 64,
        };
        let expected = [1.0, 0.097_616_63, 0.005_590_17, 0.001_182_177];
        check(&rope(8, 500.0, scaling, 9), expected, 1.0);
    }

    #[test]
    fn yarn_scaling() {
        let yarn = |beta_fast, beta_slow, truncate| {
            let scaling = RopeScaling::Yarn {
                factor: 4.0,
                original_max_positions: 64,
                beta_fast,
                beta_slow,
                truncate,
                attention_factor: 0.1 * 4.0f64.ln() + 1.0,
            };
            rope(8, 1000.0, scaling, 9)
        };
        let expected = |second| [1.0, second, 0.007_905_695, 0.001_405_853_3];
        check(&yarn(32.0, 1.0, true), expected(0.111_142_464), 1.138_629_4);
        check(&yarn(8.0, 0.5, false), expected(0.106_376_38), 1.138_629_4);
    }
}
