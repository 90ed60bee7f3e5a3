//! The network as data: every size, switch and constant the decoder needs.

use serde::{Deserialize, Serialize};

use crate::error::SpecError;
use crate::rope_spec::RopeSpec;

/// Widest row (`hidden`, `ffn`, `heads * head_dim`) accepted; keeps int8 x int8 sums inside an `i32`.
pub const MAX_WIDTH: usize = 1 << 17;
/// Most layers accepted.
pub const MAX_LAYERS: usize = 1 << 12;
/// Largest vocabulary accepted.
pub const MAX_VOCAB: usize = 1 << 22;
/// Longest context accepted, in tokens.
pub const MAX_POSITIONS: usize = 1 << 24;
/// Widest attention head accepted.
pub const MAX_HEAD_DIM: usize = 1 << 12;

/// A decoder-only transformer, described completely.
///
/// This is the `model` value of a packed file. A checkpoint family is a way to fill this in; the decoder itself knows no
/// family. [`validate`](Self::validate) checks every bound the decoder relies on.
///
/// ```
/// use onebit_model::{Activation, ModelSpec, RopeSpec};
///
/// let spec = ModelSpec {
///     architecture: "BitNetForCausalLM".into(),
///     hidden: 2560, layers: 30, heads: 20, kv_heads: 5, head_dim: 128, ffn: 6912, vocab: 128_256,
///     max_positions: 4096,
///     norm_eps: 1e-5,
///     rope: RopeSpec::new(500_000.0),
///     activation: Activation::Relu2,
///     tied_head: true,
///     attn_sub_norm: true,
///     ffn_sub_norm: true,
///     ..ModelSpec::default()
/// };
/// assert!(spec.validate().is_ok());
/// assert_eq!(spec.group(), 4);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Name of the architecture in the source checkpoint, for people only: the decoder never looks at it.
    pub architecture: String,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of decoder layers.
    pub layers: usize,
    /// Query heads per layer.
    pub heads: usize,
    /// Key/value heads per layer; query head `h` reads kv head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Width of one head; `heads * head_dim` may differ from `hidden`.
    pub head_dim: usize,
    /// Width of the MLP between `gate`/`up` and `down`.
    pub ffn: usize,
    /// Rows of the embedding and of the head.
    pub vocab: usize,
    /// Positions the model was made for.
    pub max_positions: usize,
    /// Epsilon of every RMS norm but the per-linear input norms.
    pub norm_eps: f32,
    /// Rotary position embedding.
    pub rope: RopeSpec,
    /// Non-linearity on `gate`.
    pub activation: Activation,
    /// The head is the embedding matrix.
    #[serde(default)]
    pub tied_head: bool,
    /// An RMS norm over the concatenated heads, before `o`.
    #[serde(default)]
    pub attn_sub_norm: bool,
    /// An RMS norm over `act(gate) * up`, before `down`.
    #[serde(default)]
    pub ffn_sub_norm: bool,
    /// An RMS norm over each query and key head, before the rotary embedding.
    #[serde(default)]
    pub qk_norm: bool,
    /// `q`, `k`, `v` and `o` have biases, added after the scales.
    #[serde(default)]
    pub attn_bias: bool,
    /// `gate`, `up` and `down` have biases, added after the scales.
    #[serde(default)]
    pub mlp_bias: bool,
    /// Every linear of the layers but those of float layouts has an RMS norm of its own on its input, with this epsilon.
    #[serde(default)]
    pub input_norm_eps: Option<f32>,
    /// Sliding-window attention.
    #[serde(default)]
    pub windows: Option<WindowSpec>,
    /// Layers that see everything although `windows` covers them, in ascending order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub full_attention_layers: Vec<usize>,
}

/// Non-linearity of the gated MLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Activation {
    /// `x * sigmoid(x)`.
    #[default]
    Silu,
    /// `max(x, 0)^2`.
    Relu2,
}

impl Activation {
    pub(crate) fn kernel(self) -> onebit_kernels::Activation {
        match self {
            Self::Silu => onebit_kernels::Activation::Silu,
            Self::Relu2 => onebit_kernels::Activation::Relu2,
        }
    }
}

/// Sliding-window attention: position `i` sees `i - size + 1 ..= i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSpec {
    /// Positions seen, the query's own included.
    pub size: usize,
    /// First layer the window applies to; earlier layers see everything.
    #[serde(default)]
    pub first_layer: usize,
}

impl ModelSpec {
    /// Width of the queries and of the attention output: `heads * head_dim`.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of the keys and of the values: `kv_heads * head_dim`.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Query heads that share one kv head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Window of `layer`, `None` where it sees the whole context.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.windows
            .filter(|w| layer >= w.first_layer && !self.full_attention_layers.contains(&layer))
            .map(|w| w.size)
    }

    /// First position that the query at `position` sees in `layer`.
    pub fn first_visible(&self, layer: usize, position: usize) -> usize {
        self.window(layer)
            .map_or(0, |size| (position + 1).saturating_sub(size))
    }

    /// Checks every bound the decoder relies on: no zero or oversized dimension, heads that divide, an even `head_dim`,
    /// a positive finite `theta`, epsilons that are finite and not negative, a window that is not empty.
    ///
    /// # Errors
    /// The first field that is out of bounds, by name.
    pub fn validate(&self) -> Result<(), SpecError> {
        in_range("hidden", self.hidden, MAX_WIDTH)?;
        in_range("layers", self.layers, MAX_LAYERS)?;
        in_range("heads", self.heads, MAX_WIDTH)?;
        in_range("kv_heads", self.kv_heads, self.heads)?;
        in_range("head_dim", self.head_dim, MAX_HEAD_DIM)?;
        in_range("ffn", self.ffn, MAX_WIDTH)?;
        in_range("vocab", self.vocab, MAX_VOCAB)?;
        in_range("max_positions", self.max_positions, MAX_POSITIONS)?;
        in_range("heads * head_dim", self.heads * self.head_dim, MAX_WIDTH)?;
        require("kv_heads", self.heads.is_multiple_of(self.kv_heads), || {
            format!(
                "{} heads cannot be shared evenly by {} kv heads",
                self.heads, self.kv_heads
            )
        })?;
        require("head_dim", self.head_dim.is_multiple_of(2), || {
            format!("{} is odd", self.head_dim)
        })?;
        self.rope.validate(self.head_dim)?;
        epsilon("norm_eps", self.norm_eps)?;
        self.input_norm_eps
            .map_or(Ok(()), |eps| epsilon("input_norm_eps", eps))?;
        self.windows
            .map_or(Ok(()), |w| in_range("windows.size", w.size, usize::MAX))?;
        let layers = &self.full_attention_layers;
        let ascending = layers.is_sorted_by(|a, b| a < b);
        let inside = layers.last().is_none_or(|&last| last < self.layers);
        require("full_attention_layers", ascending && inside, || {
            format!(
                "{layers:?} are not ascending numbers of layers below {}",
                self.layers
            )
        })
    }
}

pub(crate) fn require(
    field: &'static str,
    holds: bool,
    reason: impl FnOnce() -> String,
) -> Result<(), SpecError> {
    if holds {
        Ok(())
    } else {
        Err(SpecError {
            field,
            reason: reason(),
        })
    }
}

fn in_range(field: &'static str, value: usize, max: usize) -> Result<(), SpecError> {
    require(field, (1..=max).contains(&value), || {
        format!("{value} is outside 1..={max}")
    })
}

fn epsilon(field: &'static str, value: f32) -> Result<(), SpecError> {
    require(field, value.is_finite() && value >= 0.0, || {
        format!("{value} is negative or not finite")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rope_spec::RopeScaling;

    fn small() -> ModelSpec {
        ModelSpec {
            architecture: "test".into(),
            hidden: 64,
            layers: 4,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            ffn: 96,
            vocab: 50,
            max_positions: 128,
            norm_eps: 1e-5,
            rope: RopeSpec::new(10_000.0),
            ..ModelSpec::default()
        }
    }

    fn refused(change: impl FnOnce(&mut ModelSpec)) -> &'static str {
        let mut spec = small();
        change(&mut spec);
        spec.validate().expect_err("should be refused").field
    }

    #[test]
    fn bounds_are_checked_by_name() {
        small().validate().unwrap();
        assert_eq!(refused(|s| s.layers = 0), "layers");
        assert_eq!(refused(|s| s.hidden = usize::MAX), "hidden");
        assert_eq!(refused(|s| s.kv_heads = 3), "kv_heads");
        assert_eq!(refused(|s| s.kv_heads = 8), "kv_heads");
        assert_eq!(refused(|s| s.head_dim = 15), "head_dim");
        assert_eq!(refused(|s| s.heads = 1 << 16), "heads * head_dim");
        assert_eq!(refused(|s| s.vocab = 0), "vocab");
        assert_eq!(refused(|s| s.rope.theta = 0.0), "rope.theta");
        assert_eq!(refused(|s| s.rope.theta = f64::NAN), "rope.theta");
        assert_eq!(refused(|s| s.norm_eps = -1e-6), "norm_eps");
        for (factor, original_max_positions) in [(0.0, 32), (f64::NAN, 32), (4.0, 0)] {
            let scaling = RopeScaling::Dynamic {
                factor,
                original_max_positions,
            };
            assert!(refused(|s| s.rope.scaling = scaling.clone()).starts_with("rope.scaling."));
        }
        for layers in [vec![2, 1], vec![1, 1], vec![4]] {
            let field = refused(|s| s.full_attention_layers = layers.clone());
            assert_eq!(field, "full_attention_layers");
        }
        assert_eq!(
            refused(|s| s.input_norm_eps = Some(f32::INFINITY)),
            "input_norm_eps"
        );
        assert_eq!(
            refused(|s| s.windows = Some(WindowSpec {
                size: 0,
                first_layer: 0
            })),
            "windows.size"
        );
    }

    #[test]
    fn json_round_trip_refuses_unknown_fields() {
        let mut spec = small();
        spec.windows = Some(WindowSpec {
            size: 8,
            first_layer: 2,
        });
        let mut json = serde_json::to_value(&spec).unwrap();
        assert_eq!(
            serde_json::from_value::<ModelSpec>(json.clone()).unwrap(),
            spec
        );
        json["experts"] = 8.into();
        let message = serde_json::from_value::<ModelSpec>(json)
            .unwrap_err()
            .to_string();
        assert!(message.contains("experts"), "{message}");
    }

    #[test]
    fn windows_count_the_query_itself() {
        let mut spec = small();
        assert_eq!(spec.first_visible(3, 20), 0);
        spec.windows = Some(WindowSpec {
            size: 8,
            first_layer: 2,
        });
        assert_eq!(spec.first_visible(1, 20), 0);
        assert_eq!(spec.first_visible(2, 20), 13);
        assert_eq!(spec.first_visible(2, 3), 0);
        assert_eq!(spec.first_visible(2, 7), 0);
        assert_eq!(spec.first_visible(2, 8), 1);
        spec.full_attention_layers = vec![2];
        assert_eq!(
            (spec.window(1), spec.window(2), spec.window(3)),
            (None, None, Some(8))
        );
    }
}
