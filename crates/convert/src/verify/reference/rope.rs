//! The rotary embedding from its publications, half-split as Hugging Face checkpoints have it.

use onebit_model::{ModelSpec, RopeScaling};

use super::arithmetic::Rows;
use crate::error::{ConvertError, Result};

/// Frequencies in radians per position, and what cosines and sines are multiplied by.
#[derive(Clone, Debug)]
pub(super) struct Rope {
    frequencies: Vec<f32>,
    factor: f32,
}

impl Rope {
    pub(super) fn new(spec: &ModelSpec) -> Result<Self> {
        match &spec.rope.scaling {
            RopeScaling::None => Ok(Self {
                frequencies: base(spec.rope.theta, spec.head_dim),
                factor: 1.0,
            }),
            other => Err(ConvertError::unsupported(
                format!("rope scaling {other:?}"),
                "verification does not compute it",
            )),
        }
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
                    let (sin, cos) = (*sin as f32 * self.factor, *cos as f32 * self.factor);
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        }
        x
    }
}

/// `theta^(-2i / head_dim)` for the pairs `i` of a head, rounded where `transformers` rounds.
fn base(theta: f64, head_dim: usize) -> Vec<f32> {
    let exponent = |i: usize| (2 * i) as f32 / head_dim as f32;
    (0..head_dim / 2)
        .map(|i| 1.0 / (f64::from(theta as f32).powf(f64::from(exponent(i))) as f32))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use onebit_model::RopeSpec;

    #[test]
    fn halves_of_a_head_turn_together() {
        let spec = ModelSpec {
            head_dim: 4,
            rope: RopeSpec::new(10_000.0),
            ..ModelSpec::default()
        };
        let rope = Rope::new(&spec).unwrap();
        assert_eq!(rope.frequencies, [1.0, 0.01]);
        let x = Rows {
            width: 8,
            values: [[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]; 2].concat(),
        };
        let turned = rope.rotate(x.clone());
        assert_eq!(turned.values[..8], x.values[..8], "position 0");
        let (sin, cos) = (1.0f64.sin_cos().0 as f32, 1.0f64.cos() as f32);
        assert_eq!(turned.values[8..12], [cos, 0.0, sin, 0.0]);
        assert_eq!(turned.values[13], -(0.01f32 as f64).sin() as f32);
    }
}
