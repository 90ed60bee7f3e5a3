//! The models that the tests run.

use onebit_format::{ActivationMode, Layout};
use onebit_model::{Activation, ModelSpec, RopeSpec, WindowSpec};

use super::{Recipe, usual_activation};

/// Squared ReLU, sub-norms, grouped queries and a tied float head, as in BitNet b1.58 2B 4T.
pub(crate) fn bitnet() -> Recipe {
    let spec = ModelSpec {
        architecture: "bitnet".into(),
        hidden: 64,
        layers: 3,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        ffn: 96,
        vocab: 61,
        max_positions: 128,
        norm_eps: 1e-5,
        rope: RopeSpec::new(500_000.0),
        activation: Activation::Relu2,
        tied_head: true,
        attn_sub_norm: true,
        ffn_sub_norm: true,
        ..ModelSpec::default()
    };
    Recipe {
        spec,
        linears: Layout::T2,
        activation: ActivationMode::I8Token,
        embed: Layout::BF16,
        head: Layout::BF16,
        grouped: false,
        int8: false,
    }
}

/// SiLU, no sub-norms, a head of its own.
pub(crate) fn llama(linears: Layout) -> Recipe {
    let base = bitnet();
    let spec = ModelSpec {
        architecture: "llama".into(),
        rope: RopeSpec::new(10_000.0),
        activation: Activation::Silu,
        tied_head: false,
        attn_sub_norm: false,
        ffn_sub_norm: false,
        ..base.spec
    };
    Recipe {
        spec,
        linears,
        activation: usual_activation(linears),
        embed: Layout::F32,
        head: Layout::F32,
        grouped: false,
        int8: false,
    }
}

/// Sizes that are multiples of nothing: hidden 320, MLP 432, an odd vocabulary.
pub(crate) fn odd() -> Recipe {
    let mut recipe = bitnet();
    recipe.spec = ModelSpec {
        hidden: 320,
        layers: 2,
        heads: 5,
        kv_heads: 5,
        head_dim: 64,
        ffn: 432,
        vocab: 1001,
        ..recipe.spec
    };
    recipe
}

/// Heads of 100 that together are wider than the residual stream.
pub(crate) fn head_dim_100() -> Recipe {
    let mut recipe = llama(Layout::T2);
    recipe.spec = ModelSpec {
        heads: 2,
        kv_heads: 1,
        head_dim: 100,
        layers: 2,
        ..recipe.spec
    };
    recipe
}

/// Windows of 5 positions from the second layer on.
pub(crate) fn windowed() -> Recipe {
    let mut recipe = llama(Layout::T2);
    recipe.spec.windows = Some(WindowSpec {
        size: 5,
        first_layer: 1,
    });
    recipe
}

/// Windows in the first and the last layer, but not in between.
pub(crate) fn windowed_at_both_ends() -> Recipe {
    let mut recipe = llama(Layout::T2);
    recipe.spec.windows = Some(WindowSpec {
        size: 5,
        first_layer: 0,
    });
    recipe.spec.full_attention_layers = vec![1];
    recipe
}

/// A norm over each query and key head, and biases everywhere.
pub(crate) fn qk_norm_and_biases() -> Recipe {
    let mut recipe = llama(Layout::T2);
    recipe.spec = ModelSpec {
        qk_norm: true,
        attn_bias: true,
        mlp_bias: true,
        ..recipe.spec
    };
    recipe
}

/// A norm of its own in front of every linear.
pub(crate) fn input_norms() -> Recipe {
    let mut recipe = llama(Layout::T2);
    recipe.spec.input_norm_eps = Some(1e-6);
    recipe
}

/// Integer weights trained with float activations.
pub(crate) fn float_inputs(linears: Layout) -> Recipe {
    Recipe {
        activation: ActivationMode::F32,
        ..llama(linears)
    }
}

/// Everything ternary or binary with group scales, as in Bonsai: trained with floats, queries wider than the residual stream.
pub(crate) fn bonsai(layout: Layout) -> Recipe {
    let mut recipe = float_inputs(layout);
    recipe.spec = ModelSpec {
        hidden: 160,
        ffn: 272,
        heads: 6,
        head_dim: 32,
        qk_norm: true,
        ..recipe.spec
    };
    Recipe {
        embed: layout,
        head: layout,
        grouped: true,
        ..recipe
    }
}

/// The same with int8 per group in place of floats, in one layer: each further one brings more activations near rounding ties.
pub(crate) fn bonsai_int8(layout: Layout) -> Recipe {
    let mut recipe = bonsai(layout);
    recipe.spec.layers = 1;
    Recipe {
        int8: true,
        ..recipe
    }
}

/// BitNet's network with few-bit weights and activations; with group scales SiLU in place of squared ReLU, which makes numbers so
/// small that their signs look uncertain.
pub(crate) fn few_bits(linears: Layout, activation: ActivationMode, grouped: bool) -> Recipe {
    let mut recipe = odd();
    if grouped {
        recipe.spec.activation = Activation::Silu;
    }
    Recipe {
        linears,
        activation,
        grouped,
        ..recipe
    }
}

/// BitNet linears under a head (and embedding) of the given layout.
pub(crate) fn quantized_head(head: Layout) -> Recipe {
    Recipe {
        embed: head,
        head,
        ..bitnet()
    }
}

/// Everything, by name.
pub(crate) fn all() -> Vec<(&'static str, Recipe)> {
    vec![
        ("bitnet", bitnet()),
        ("llama f32", llama(Layout::F32)),
        ("llama f16", llama(Layout::F16)),
        ("llama bf16", llama(Layout::BF16)),
        ("llama int8", llama(Layout::I8)),
        ("llama 4-bit", llama(Layout::I4)),
        ("llama ternary", llama(Layout::T2)),
        ("llama ternary in bands", llama(Layout::T2R16)),
        ("llama dense ternary", llama(Layout::T5)),
        ("llama dense ternary in bands", llama(Layout::T5R5)),
        (
            "bitnet in bands",
            Recipe {
                linears: Layout::T5R5,
                ..odd()
            },
        ),
        (
            "bands everywhere",
            Recipe {
                embed: Layout::T5R5,
                head: Layout::T5R5,
                ..llama(Layout::T5R5)
            },
        ),
        ("llama binary", llama(Layout::B1)),
        ("llama binary in bands", llama(Layout::B1R64)),
        ("llama ternary, float inputs", float_inputs(Layout::T2)),
        (
            "llama dense ternary, float inputs",
            float_inputs(Layout::T5),
        ),
        ("llama binary, float inputs", float_inputs(Layout::B1)),
        (
            "llama binary in bands, float inputs",
            float_inputs(Layout::B1R64),
        ),
        ("bonsai binary", bonsai(Layout::B1)),
        ("bonsai binary in bands", bonsai(Layout::B1R64)),
        ("bonsai ternary", bonsai(Layout::T2)),
        ("bonsai ternary in bands", bonsai(Layout::T2R16)),
        ("bonsai binary, int8", bonsai_int8(Layout::B1)),
        ("bonsai binary in bands, int8", bonsai_int8(Layout::B1R64)),
        ("bonsai ternary, int8", bonsai_int8(Layout::T2)),
        ("bonsai ternary in bands, int8", bonsai_int8(Layout::T2R16)),
        (
            "ternary, int8 by groups",
            Recipe {
                int8: true,
                ..float_inputs(Layout::T2)
            },
        ),
        (
            "ternary in bands, int8 by groups",
            Recipe {
                int8: true,
                ..float_inputs(Layout::T2R16)
            },
        ),
        (
            "ternary in bands x ternary, grouped",
            few_bits(Layout::T2R16, ActivationMode::TernaryToken, true),
        ),
        (
            "binary x binary",
            few_bits(Layout::B1, ActivationMode::SignToken, false),
        ),
        (
            "binary x binary, grouped",
            few_bits(Layout::B1, ActivationMode::SignToken, true),
        ),
        (
            "ternary x binary",
            few_bits(Layout::T2, ActivationMode::SignToken, false),
        ),
        (
            "ternary x ternary",
            few_bits(Layout::T2, ActivationMode::TernaryToken, false),
        ),
        (
            "binary x ternary, grouped",
            few_bits(Layout::B1, ActivationMode::TernaryToken, true),
        ),
        (
            "binary in bands x ternary",
            few_bits(Layout::B1R64, ActivationMode::TernaryToken, false),
        ),
        (
            "binary in bands x ternary, grouped",
            few_bits(Layout::B1R64, ActivationMode::TernaryToken, true),
        ),
        (
            "binary in bands x binary",
            few_bits(Layout::B1R64, ActivationMode::SignToken, false),
        ),
        (
            "input norms, binary x binary",
            Recipe {
                linears: Layout::B1,
                activation: ActivationMode::SignToken,
                ..input_norms()
            },
        ),
        ("odd sizes", odd()),
        ("head_dim 100", head_dim_100()),
        ("windows", windowed()),
        ("windows at both ends", windowed_at_both_ends()),
        ("qk_norm and biases", qk_norm_and_biases()),
        ("input norms", input_norms()),
        ("int8 head", quantized_head(Layout::I8)),
        ("4-bit head", quantized_head(Layout::I4)),
    ]
}
