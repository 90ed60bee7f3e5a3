//! The checkpoint families: one row of data each.

use crate::config::fields::Fields;
use crate::error::{ConvertError, Result};

/// What distinguishes a family: how its config is read and what its tensors are called.
#[derive(Debug)]
pub(crate) struct Family {
    /// `architectures[0]`.
    pub(crate) architecture: &'static str,
    /// `model_type`. 1bitLLM's is the one that differs from its architecture.
    pub(crate) model_type: &'static str,
    /// Values of absent fields, those of the configuration class.
    pub(crate) defaults: Defaults,
    /// Name within a layer of the norm over the concatenated heads, before `o_proj`.
    pub(crate) attn_sub_norm: Option<&'static str>,
    /// Name within a layer of the norm before `down_proj`.
    pub(crate) ffn_sub_norm: Option<&'static str>,
    /// Query and key heads are normed before the rotary embedding.
    pub(crate) qk_norm: bool,
    pub(crate) attn_bias: BiasRule,
    pub(crate) mlp_bias: BiasRule,
    pub(crate) window: WindowRule,
    pub(crate) linears: Linears,
}

/// Values of absent config fields.
#[derive(Debug)]
pub(crate) struct Defaults {
    pub(crate) vocab: usize,
    pub(crate) hidden: usize,
    pub(crate) ffn: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    /// `None`: as many as query heads.
    pub(crate) kv_heads: Option<usize>,
    /// `None`: hidden / heads.
    pub(crate) head_dim: Option<usize>,
    pub(crate) max_positions: usize,
    pub(crate) norm_eps: f64,
    pub(crate) rope_theta: f64,
    pub(crate) activation: &'static str,
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
}

/// Where the linears of a block get biases from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BiasRule {
    Never,
    /// A boolean field of the config, false when absent.
    Field(&'static str),
}

/// Which layers attend within a window.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WindowRule {
    /// `sliding_window` is not read.
    None,
    /// All, unless `sliding_window` is null.
    AllLayers { default: usize },
    /// Layers from `max_window_layers` on, if `use_sliding_window`.
    UpperLayers { default: usize, first: usize },
}

/// What the linears of the layers are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Linears {
    /// What `quantization_config` says; dense without one.
    AsConfigured,
    /// Float masters that the family's own code makes ternary, without a `quantization_config`.
    AlwaysOnline,
}

const LLAMA: Family = Family {
    architecture: "LlamaForCausalLM",
    model_type: "llama",
    defaults: Defaults {
        vocab: 32000,
        hidden: 4096,
        ffn: 11008,
        layers: 32,
        heads: 32,
        kv_heads: None,
        head_dim: None,
        max_positions: 2048,
        norm_eps: 1e-6,
        rope_theta: 10_000.0,
        activation: "silu",
        bos: Some(1),
        eos: Some(2),
    },
    attn_sub_norm: None,
    ffn_sub_norm: None,
    qk_norm: false,
    attn_bias: BiasRule::Field("attention_bias"),
    mlp_bias: BiasRule::Field("mlp_bias"),
    window: WindowRule::None,
    linears: Linears::AsConfigured,
};

/// Every family that is converted.
pub(crate) static FAMILIES: &[Family] = &[
    LLAMA,
    Family {
        architecture: "BitNetForCausalLM",
        model_type: "bitnet",
        defaults: Defaults {
            vocab: 128_256,
            hidden: 2560,
            ffn: 6912,
            layers: 30,
            heads: 20,
            kv_heads: Some(5),
            max_positions: 2048,
            norm_eps: 1e-5,
            rope_theta: 500_000.0,
            activation: "relu2",
            bos: Some(128_000),
            eos: Some(128_001),
            ..LLAMA.defaults
        },
        attn_sub_norm: Some("self_attn.attn_sub_norm"),
        ffn_sub_norm: Some("mlp.ffn_sub_norm"),
        mlp_bias: BiasRule::Never,
        ..LLAMA
    },
    // One letter away from the row above, and another network.
    Family {
        architecture: "BitnetForCausalLM",
        attn_sub_norm: Some("self_attn.inner_attn_ln"),
        ffn_sub_norm: Some("mlp.ffn_layernorm"),
        mlp_bias: BiasRule::Never,
        linears: Linears::AlwaysOnline,
        ..LLAMA
    },
    Family {
        architecture: "MistralForCausalLM",
        model_type: "mistral",
        defaults: Defaults {
            ffn: 14336,
            kv_heads: Some(8),
            max_positions: 131_072,
            ..LLAMA.defaults
        },
        attn_bias: BiasRule::Never,
        mlp_bias: BiasRule::Never,
        window: WindowRule::AllLayers { default: 4096 },
        ..LLAMA
    },
    Family {
        architecture: "Qwen3ForCausalLM",
        model_type: "qwen3",
        defaults: Defaults {
            vocab: 151_936,
            ffn: 22016,
            kv_heads: Some(32),
            head_dim: Some(128),
            max_positions: 32768,
            bos: None,
            eos: None,
            ..LLAMA.defaults
        },
        qk_norm: true,
        mlp_bias: BiasRule::Never,
        window: WindowRule::UpperLayers {
            default: 4096,
            first: 28,
        },
        ..LLAMA
    },
];

/// The row for a config: by `architectures[0]`, which must go with `model_type`; by `model_type`
/// alone where no architecture is named.
pub(crate) fn find(config: Fields<'_>) -> Result<&'static Family> {
    let model_type = config.str("model_type")?;
    let architectures = config.strings("architectures")?.unwrap_or_default();
    let Some(architecture) = architectures.first() else {
        return by_model_type(config, model_type);
    };
    let known = || {
        FAMILIES
            .iter()
            .map(|row| row.architecture)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let row = FAMILIES
        .iter()
        .find(|row| row.architecture == *architecture);
    let row = row.ok_or_else(|| {
        let subject = format!("{} = {architecture}", config.name("architectures"));
        ConvertError::unsupported(subject, format!("known: {}", known()))
    })?;
    match model_type {
        Some(other) if other != row.model_type => Err(config.unsupported(
            "model_type",
            format!("{architecture} goes with model_type {}", row.model_type),
        )),
        _ => Ok(row),
    }
}

fn by_model_type(config: Fields<'_>, model_type: Option<&str>) -> Result<&'static Family> {
    let Some(model_type) = model_type else {
        return Err(config.malformed("architectures", "it is missing, and so is model_type"));
    };
    FAMILIES
        .iter()
        .find(|row| row.model_type == model_type)
        .ok_or_else(|| config.unsupported("model_type", "no family of that type is known"))
}
