//! Angles of the rotary position embedding.

use crate::spec::{RopeScaling, RopeSpec};

/// Frequencies of one model, `head_dim / 2` of them.
pub(crate) struct Rope {
    inv_freq: Box<[f32]>,
}

impl Rope {
    /// `inv_freq[i] = 1 / theta^(2i / head_dim)`, each operation rounded to `f32` as the published models compute it.
    pub(crate) fn new(spec: &RopeSpec, head_dim: usize) -> Self {
        let theta = f64::from(spec.theta as f32);
        let inv_freq = (0..head_dim / 2).map(|i| {
            let exponent = (2 * i) as f32 / head_dim as f32;
            1.0 / libm::pow(theta, f64::from(exponent)) as f32
        });
        match spec.scaling {
            RopeScaling::None => Self {
                inv_freq: inv_freq.collect(),
            },
        }
    }

    /// Cosines and sines of all angles at `position`.
    ///
    /// The angle is an `f32` product; its cosine and sine are computed in `f64` and rounded once, so that they are the
    /// same on every machine.
    pub(crate) fn angles(&self, position: usize, cos: &mut [f32], sin: &mut [f32]) {
        for ((&frequency, cos), sin) in self.inv_freq.iter().zip(cos).zip(sin) {
            let (s, c) = libm::sincos(f64::from(position as f32 * frequency));
            *cos = c as f32;
            *sin = s as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_follow_the_published_formula() {
        let rope = Rope::new(&RopeSpec::new(10_000.0), 8);
        let expected = [1.0, 0.1, 0.01, 0.001];
        assert!(
            rope.inv_freq
                .iter()
                .zip(expected)
                .all(|(a, b): (&f32, f32)| (a - b).abs() <= 1e-7 * b)
        );
        let (mut cos, mut sin) = ([0.0; 4], [0.0; 4]);
        rope.angles(0, &mut cos, &mut sin);
        assert_eq!((cos, sin), ([1.0; 4], [0.0; 4]));
        rope.angles(3, &mut cos, &mut sin);
        assert_eq!(cos[0], 3.0f64.cos() as f32);
        assert_eq!(sin[0], 3.0f64.sin() as f32);
    }
}
