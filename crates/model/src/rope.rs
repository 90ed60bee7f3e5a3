//! Angles of the rotary position embedding.

use std::f64::consts::TAU;

use crate::rope_spec::{RopeScaling, RopeSpec};

/// Frequencies of one model, `head_dim / 2` of them, and what changes them.
pub(crate) struct Rope {
    inv_freq: Box<[f32]>,
    /// Multiplier of cosines and sines.
    magnitude: f32,
    dynamic: Option<Dynamic>,
}

/// A base that grows with the sequence.
struct Dynamic {
    theta: f32,
    head_dim: usize,
    factor: f64,
    original: usize,
}

impl Rope {
    /// The frequencies of `spec`, each operation rounded to `f32` where the published models compute in `f32`.
    pub(crate) fn new(spec: &RopeSpec, head_dim: usize) -> Self {
        let plain = |i| frequency(spec.theta, i, head_dim);
        let pairs = 0..head_dim / 2;
        let (mut magnitude, mut dynamic) = (1.0, None);
        let inv_freq = match spec.scaling {
            RopeScaling::None => pairs.map(plain).collect(),
            RopeScaling::Linear { factor } => pairs.map(|i| plain(i) / factor as f32).collect(),
            RopeScaling::Dynamic {
                factor,
                original_max_positions,
            } => {
                dynamic = Some(Dynamic {
                    theta: spec.theta as f32,
                    head_dim,
                    factor,
                    original: original_max_positions,
                });
                pairs.map(plain).collect()
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_positions,
            } => {
                let original = original_max_positions as f64;
                pairs
                    .map(|i| llama3(plain(i), factor as f32, [low, high], original))
                    .collect()
            }
            RopeScaling::Yarn {
                factor,
                original_max_positions,
                beta_fast,
                beta_slow,
                truncate,
                attention_factor,
            } => {
                magnitude = attention_factor as f32;
                let turns = [beta_fast, beta_slow];
                let original = original_max_positions as f64;
                let ramp = yarn_ramp(turns, head_dim, spec.theta, original, truncate);
                let mix = |i| {
                    let period = period(spec.theta, i, head_dim);
                    let kept = 1.0 - ramp_at(ramp, i);
                    1.0 / (factor as f32 * period) * (1.0 - kept) + 1.0 / period * kept
                };
                pairs.map(mix).collect()
            }
        };
        Self {
            inv_freq,
            magnitude,
            dynamic,
        }
    }

    /// Cosines and sines of all angles at `position` of a sequence of `length` tokens.
    ///
    /// The angle is an `f32` product; its cosine and sine are computed in `f64` and rounded once, so that they are the
    /// same on every machine.
    pub(crate) fn angles(&self, position: usize, length: usize, cos: &mut [f32], sin: &mut [f32]) {
        let grown = self.dynamic.as_ref().and_then(|it| it.theta(length));
        for (i, ((&plain, cos), sin)) in self.inv_freq.iter().zip(cos).zip(sin).enumerate() {
            let frequency = match (grown, &self.dynamic) {
                (Some(theta), Some(dynamic)) => frequency(theta, i, dynamic.head_dim),
                _ => plain,
            };
            let (s, c) = libm::sincos(f64::from(position as f32 * frequency));
            *cos = c as f32 * self.magnitude;
            *sin = s as f32 * self.magnitude;
        }
    }
}

impl Dynamic {
    /// The base for a sequence of `length` tokens, where it differs from the model's own.
    fn theta(&self, length: usize) -> Option<f64> {
        let ratio = self.factor as f32 * length as f32 / self.original as f32;
        let stretched = ratio - (self.factor - 1.0) as f32;
        let exponent = self.head_dim as f64 / (self.head_dim - 2) as f64;
        let growth = libm::pow(f64::from(stretched), f64::from(exponent as f32)) as f32;
        (length > self.original).then(|| f64::from(self.theta * growth))
    }
}

/// `theta^(2i / head_dim)`.
fn period(theta: f64, i: usize, head_dim: usize) -> f32 {
    let exponent = (2 * i) as f32 / head_dim as f32;
    libm::pow(f64::from(theta as f32), f64::from(exponent)) as f32
}

/// `1 / theta^(2i / head_dim)`.
fn frequency(theta: f64, i: usize, head_dim: usize) -> f32 {
    1.0 / period(theta, i, head_dim)
}

/// A frequency of Llama 3.1.
fn llama3(frequency: f32, factor: f32, [low, high]: [f64; 2], original: f64) -> f32 {
    let wavelength = TAU as f32 / frequency;
    if wavelength < (original / high) as f32 {
        frequency
    } else if wavelength > (original / low) as f32 {
        frequency / factor
    } else {
        let smooth = (original as f32 / wavelength - low as f32) / (high - low) as f32;
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}

/// First and last pair of YaRN's ramp.
fn yarn_ramp(
    turns: [f64; 2],
    head_dim: usize,
    theta: f64,
    original: f64,
    truncate: bool,
) -> [f64; 2] {
    let dim = head_dim as f64;
    let [low, high] =
        turns.map(|turns| dim * libm::log(original / (turns * TAU)) / (2.0 * libm::log(theta)));
    let [low, high] = if truncate {
        [low.floor(), high.ceil()]
    } else {
        [low, high]
    };
    let (low, high) = (low.max(0.0), high.min(dim - 1.0));
    [low, if low == high { high + 0.001 } else { high }]
}

/// How far pair `i` is up the ramp, 0 to 1.
fn ramp_at([low, high]: [f64; 2], i: usize) -> f32 {
    ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests;
