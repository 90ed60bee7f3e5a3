//! The shapes of models that people have, to plan memory without a file and to make files of random weights.

mod encoding;

pub use encoding::{Encoding, ShapeTensor, Stored, TensorShape};

use onebit_format::{ActivationMode, Layout};
use onebit_model::{Activation, ModelSpec, RopeSpec};

/// Every name.
const NAMES: [&str; 9] = [
    "2b4t",
    "3b",
    "xl",
    "large",
    "tinyllama",
    "falcon3-1b",
    "llama3-8b",
    "bonsai-1.7b",
    "bonsai-8b",
];

/// A model without its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// The network.
    pub spec: ModelSpec,
    /// Layout of the published embedding and head; see [`Encoding::table`].
    pub keep: Layout,
    /// Layout of the decoder's matrices where none is asked for; see [`Encoding::linear`].
    pub linear: Layout,
    /// Whether ternary and binary matrices have group scales and were trained with float activations.
    pub grouped: bool,
}

impl Shape {
    /// Every name that [`named`](Self::named) knows.
    pub const NAMES: &'static [&'static str] = &NAMES;

    /// The shape of that name: `2b4t`, `3b`, `xl` and `large` are BitNets, the others models of which ternary or binary
    /// versions exist, or a dense one to compare with.
    pub fn named(name: &str) -> Option<Self> {
        find(name)
    }

    /// How it is stored, with the decoder's matrices as `linear`, and embedding and head as `table`.
    pub fn encoding(&self, linear: Layout, table: Layout) -> Encoding {
        Encoding {
            linear,
            table,
            trained: ActivationMode::I8Token,
            grouped: self.grouped,
            by_columns: false,
            sparse_up: self.spec.activation == Activation::Relu2,
        }
    }
}

fn find(name: &str) -> Option<Shape> {
    let ternary = |spec| {
        Some(Shape {
            spec,
            keep: Layout::BF16,
            linear: Layout::T2,
            grouped: false,
        })
    };
    let bonsai = |spec| {
        Some(Shape {
            spec,
            keep: Layout::B1,
            linear: Layout::B1,
            grouped: true,
        })
    };
    match name {
        "2b4t" => ternary(ModelSpec {
            architecture: "BitNetForCausalLM".into(),
            max_positions: 4096,
            rope: RopeSpec::new(500_000.0),
            activation: Activation::Relu2,
            ..bitnet([2560, 30, 20, 5, 128, 6912, 128_256])
        }),
        "3b" => ternary(bitnet([3200, 26, 32, 32, 100, 8640, 32_002])),
        "xl" => ternary(bitnet([2048, 24, 32, 32, 64, 5460, 32_002])),
        "large" => ternary(bitnet([1536, 24, 16, 16, 96, 4096, 32_002])),
        "falcon3-1b" => ternary(ModelSpec {
            max_positions: 8192,
            norm_eps: 1e-6,
            rope: RopeSpec::new(1_000_042.0),
            ..llama([2048, 18, 8, 4, 256, 8192, 131_072])
        }),
        "llama3-8b" => ternary(ModelSpec {
            max_positions: 8192,
            rope: RopeSpec::new(500_000.0),
            ..llama([4096, 32, 32, 8, 128, 14_336, 128_256])
        }),
        "tinyllama" => {
            let spec = llama([2048, 22, 32, 4, 64, 5632, 32_000]);
            Some(Shape {
                spec,
                keep: Layout::F16,
                linear: Layout::F16,
                grouped: true,
            })
        }
        "bonsai-1.7b" => bonsai(ModelSpec {
            max_positions: 32_768,
            tied_head: true,
            ..qwen3([2048, 28, 16, 8, 128, 6144, 151_669])
        }),
        "bonsai-8b" => bonsai(ModelSpec {
            max_positions: 65_536,
            ..qwen3([4096, 36, 32, 8, 128, 12_288, 151_669])
        }),
        _ => None,
    }
}

/// Hidden, layers, heads, kv heads, head dim, ffn, vocabulary.
fn llama([hidden, layers, heads, kv_heads, head_dim, ffn, vocab]: [usize; 7]) -> ModelSpec {
    ModelSpec {
        architecture: "LlamaForCausalLM".into(),
        hidden,
        layers,
        heads,
        kv_heads,
        head_dim,
        ffn,
        vocab,
        max_positions: 2048,
        norm_eps: 1e-5,
        rope: RopeSpec::new(10_000.0),
        ..ModelSpec::default()
    }
}

fn qwen3(sizes: [usize; 7]) -> ModelSpec {
    ModelSpec {
        architecture: "Qwen3ForCausalLM".into(),
        norm_eps: 1e-6,
        rope: RopeSpec::new(1_000_000.0),
        qk_norm: true,
        ..llama(sizes)
    }
}

fn bitnet(sizes: [usize; 7]) -> ModelSpec {
    ModelSpec {
        architecture: "BitnetForCausalLM".into(),
        tied_head: true,
        attn_sub_norm: true,
        ffn_sub_norm: true,
        ..llama(sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_valid() {
        for name in Shape::NAMES {
            Shape::named(name).unwrap().spec.validate().unwrap();
        }
        assert_eq!(Shape::named("7b"), None);
    }
}
