//! The shapes of models that people have.

use onebit_format::Layout;
use onebit_model::{Activation, ModelSpec, RopeSpec};

/// Every name the command takes.
pub(super) const NAMES: [&str; 9] = [
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
pub(super) struct Shape {
    pub(super) spec: ModelSpec,
    /// Type of the published embedding and head.
    pub(super) keep: Layout,
    /// Encoding of the decoder's matrices where none is asked for.
    pub(super) weights: &'static str,
}

/// The shape of that name; `None` for those whose arithmetic is not built yet.
pub(super) fn find(name: &str) -> Option<Shape> {
    let ternary = |spec| {
        Some(Shape {
            spec,
            keep: Layout::BF16,
            weights: "t2",
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
                weights: "f16",
            })
        }
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
        for name in NAMES {
            if let Some(shape) = find(name) {
                shape.spec.validate().unwrap();
                assert!(NAMES.contains(&name));
            }
        }
    }
}
