//! Row-wise arithmetic, as `transformers` computes it in float32.

use onebit_format::ActivationMode;
use onebit_model::Activation;

use crate::error::{ConvertError, Result};

/// Numbers of one row per token, `[tokens, width]`.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    pub(super) width: usize,
    pub(super) values: Vec<f32>,
}

impl Rows {
    pub(super) fn zeros(tokens: usize, width: usize) -> Self {
        Self {
            width,
            values: vec![0.0; tokens * width],
        }
    }

    pub(super) fn tokens(&self) -> usize {
        self.values.len() / self.width
    }

    pub(super) fn row(&self, token: usize) -> &[f32] {
        &self.values[token * self.width..][..self.width]
    }

    /// Adds other rows of the same shape.
    pub(super) fn add(&mut self, other: &Rows) {
        for (x, y) in self.values.iter_mut().zip(&other.values) {
            *x += y;
        }
    }

    /// RMS norm of each piece of `weight.len()` numbers: `x / sqrt(mean x^2 + eps) * weight`.
    pub(super) fn norm(mut self, weight: &[f32], eps: f32) -> Self {
        for piece in self.values.chunks_mut(weight.len()) {
            let squares: f64 = piece.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
            let mean = (squares / piece.len() as f64) as f32;
            let factor = 1.0 / (mean + eps).sqrt();
            for (x, w) in piece.iter_mut().zip(weight) {
                *x = *x * factor * w;
            }
        }
        self
    }

    /// `activation(self) * up`.
    pub(super) fn gated(mut self, activation: impl Fn(f32) -> f32, up: &Rows) -> Self {
        for (gate, up) in self.values.iter_mut().zip(&up.values) {
            *gate = activation(*gate) * up;
        }
        self
    }

    /// Replaces each row by its int8 codes, as numbers, and returns the scale of each row:
    /// `s = 127 / max(|x|, 1e-5)`, `q = clamp(round(x s), -128, 127)`, halves to even.
    pub(super) fn quantize(&mut self) -> Vec<f32> {
        let quantize = |row: &mut [f32]| {
            let largest = row.iter().fold(1e-5f32, |max, x| max.max(x.abs()));
            let scale = 127.0 / largest;
            for x in row {
                *x = (*x * scale).round_ties_even().clamp(-128.0, 127.0);
            }
            scale
        };
        self.values.chunks_mut(self.width).map(quantize).collect()
    }

    /// Replaces each row by its codes in a mode, as numbers, and returns what the codes of each row are multiplied by.
    /// With `a = max(mean |x|, 1e-5)`: signs, +1 for zeros, times `a`; `clamp(round(x (1 / a)), -1, 1)` times `a`; int8
    /// codes times `1 / s`; floats times 1.
    pub(super) fn encode(&mut self, mode: ActivationMode) -> Result<Vec<f32>> {
        let code: fn(f32, f32) -> f32 = match mode {
            ActivationMode::F32 => return Ok(vec![1.0; self.tokens()]),
            ActivationMode::I8Token => {
                return Ok(self.quantize().into_iter().map(|s| 1.0 / s).collect());
            }
            ActivationMode::SignToken => |x, _| if x >= 0.0 { 1.0 } else { -1.0 },
            ActivationMode::TernaryToken => {
                |x, a| (x * (1.0 / a)).round_ties_even().clamp(-1.0, 1.0)
            }
            other => {
                let reason = "verification does not compute it";
                return Err(ConvertError::unsupported(
                    format!("activation mode {other:?}"),
                    reason,
                ));
            }
        };
        let encode = |row: &mut [f32]| {
            let sum: f64 = row.iter().map(|x| f64::from(x.abs())).sum();
            let unit = ((sum / row.len() as f64) as f32).max(1e-5);
            row.iter_mut().for_each(|x| *x = code(*x, unit));
            unit
        };
        Ok(self.values.chunks_mut(self.width).map(encode).collect())
    }

    /// Changes every number of a row by the number of the row.
    pub(super) fn each_row(mut self, numbers: &[f32], change: impl Fn(f32, f32) -> f32) -> Self {
        for (row, number) in self.values.chunks_mut(self.width).zip(numbers) {
            row.iter_mut().for_each(|x| *x = change(*x, *number));
        }
        self
    }
}

/// The non-linearity of the gated MLP; `None` for one that is not known here.
pub(super) fn activation(kind: Activation) -> Option<fn(f32) -> f32> {
    match kind {
        Activation::Silu => Some(|x| x / (1.0 + (-x).exp())),
        Activation::Relu2 => Some(|x| x.max(0.0) * x.max(0.0)),
        _ => None,
    }
}

/// Sum of products in 16 float lanes, which are added in `f64`.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut lanes = [0.0f32; 16];
    for (a, b) in a.iter().zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(a, b)| f64::from(a * b));
    (lanes.into_iter().map(f64::from).sum::<f64>() + rest.sum::<f64>()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(width: usize, values: &[f32]) -> Rows {
        Rows {
            width,
            values: values.to_vec(),
        }
    }

    #[test]
    fn products_count_every_element() {
        let a: Vec<f32> = (1..=35).map(|i| i as f32).collect();
        assert_eq!(dot(&a, &a), (1..=35).map(|i| i * i).sum::<i32>() as f32);
        assert_eq!(dot(&a[..16], &a[..16]), 1496.0);
        assert_eq!(dot(&[], &[]), 0.0);
    }

    #[test]
    fn norms_work_on_pieces() {
        let normed = rows(4, &[3.0, 4.0, 0.0, 2.0]).norm(&[1.0, 2.0], 0.0);
        let root = 12.5f32.sqrt();
        assert_eq!(normed.values[0], 3.0 / root);
        assert!((normed.values[1] - 8.0 / root).abs() < 1e-6);
        assert_eq!(normed.values[2], 0.0);
        assert!((normed.values[3] - 2.0 * 2.0f32.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn codes_have_a_scale_per_token_and_halves_go_to_even() {
        let mut x = rows(3, &[127.0, 0.5, -1.5, 0.0, 0.0, 0.0, -254.0, 5.0, 1e-3]);
        let scales = x.quantize();
        assert_eq!(
            x.values,
            [127.0, 0.0, -2.0, 0.0, 0.0, 0.0, -127.0, 2.0, 0.0]
        );
        assert_eq!(scales, [1.0, 127.0 / 1e-5, 0.5]);
    }

    #[test]
    fn few_bits_have_the_mean_magnitude_as_their_unit() {
        let x = rows(4, &[3.0, -1.0, 0.0, -0.0, 0.5, 1.5, -0.5, 1.5]);
        let mut signs = x.clone();
        assert_eq!(signs.encode(ActivationMode::SignToken).unwrap(), [1.0, 1.0]);
        assert_eq!(signs.values, [1.0, -1.0, 1.0, 1.0, 1.0, 1.0, -1.0, 1.0]);
        let mut ternary = x.clone();
        assert_eq!(
            ternary.encode(ActivationMode::TernaryToken).unwrap(),
            [1.0, 1.0]
        );
        assert_eq!(ternary.values, [1.0, -1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
        let mut floats = x.clone();
        assert_eq!(floats.encode(ActivationMode::F32).unwrap(), [1.0, 1.0]);
        assert_eq!(floats.values, x.values);
    }

    #[test]
    fn activations_follow_their_formulas() {
        let [silu, relu2] = [Activation::Silu, Activation::Relu2].map(|a| activation(a).unwrap());
        assert_eq!([silu(0.0), relu2(-2.0), relu2(3.0)], [0.0, 0.0, 9.0]);
        assert!((silu(1.0) - 0.731_058_6).abs() < 1e-6);
        assert_eq!(silu(-200.0), 0.0);
    }
}
