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
    /// Whether the family's code knows scalings of the rotary embedding.
    pub(crate) rope_scaling: bool,
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

/// Which linears of a block have biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BiasRule {
    Never,
    /// All if `attention_bias` or `mlp_bias` is true; absent means false.
    Switch,
    /// All but the last.
    NotOutput,
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
    attn_bias: BiasRule::Switch,
    mlp_bias: BiasRule::Switch,
    window: WindowRule::None,
    rope_scaling: true,
    linears: Linears::AsConfigured,
};

const QWEN3: Family = Family {
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
        rope_scaling: false,
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
    QWEN3,
    Family {
        architecture: "Qwen2ForCausalLM",
        model_type: "qwen2",
        defaults: Defaults {
            head_dim: None,
            ..QWEN3.defaults
        },
        qk_norm: false,
        attn_bias: BiasRule::NotOutput,
        ..QWEN3
    },
];

/// Architectures that people have and that are not converted, and why: parts of their names in
/// lowercase without underscores.
#[rustfmt::skip]
static OTHERS: &[(&[&str], &str)] = &[
    (&["moe", "mixtral", "dbrx", "deepseekv", "gptoss", "grok", "arctic"], "mixtures of experts are not computed"),
    (&["mamba", "jamba", "zamba", "bamba", "rwkv", "recurrentgemma", "falconh1", "nemotronh", "qwen3next", "qwen35",
        "lfm", "kimilinear", "minimax", "hybrid", "xlstm", "retnet", "griffin"],
        "layers other than attention and MLP (state spaces, convolutions, linear attention) are not computed"),
    (&["vl", "vision", "llava", "conditionalgeneration", "omni", "audio", "paligemma", "mllama", "multimodal", "whisper"],
        "models with other modalities or with an encoder are not computed"),
    (&["bert", "roberta", "electra", "maskedlm", "encoder", "t5", "bart"], "encoders are not computed"),
    (&["minicpm"], "scaled embeddings, residuals and logits are not computed, and some checkpoints of this architecture have \
        code of their own that quantizes weights without a field of config.json that says so"),
    (&["gemma"], "scaled embeddings, norms that add one, and capped logits are not computed"),
];

fn why_not(name: &str) -> Option<&'static str> {
    let plain = name.to_ascii_lowercase().replace(['_', '-'], "");
    let named = |(parts, _): &&(&[&str], &str)| parts.iter().any(|part| plain.contains(part));
    OTHERS.iter().find(named).map(|(_, reason)| *reason)
}

/// The row for a config: by `architectures[0]`, which must go with `model_type`; by `model_type`
/// alone where no architecture is named.
pub(crate) fn find(config: Fields<'_>) -> Result<&'static Family> {
    let model_type = config.str("model_type")?;
    let architectures = config.strings("architectures")?.unwrap_or_default();
    let Some(architecture) = architectures.first() else {
        return by_model_type(config, model_type);
    };
    let row = FAMILIES
        .iter()
        .find(|row| row.architecture == *architecture);
    let row = row.ok_or_else(|| {
        let subject = format!("{} = {architecture}", config.name("architectures"));
        ConvertError::unsupported(subject, reason(architecture))
    })?;
    match model_type {
        Some(other) if other != row.model_type => Err(config.unsupported(
            "model_type",
            format!("{architecture} goes with model_type {}", row.model_type),
        )),
        _ => Ok(row),
    }
}

/// Why there is no row for an architecture.
fn reason(architecture: &str) -> String {
    if let Some(reason) = why_not(architecture) {
        return reason.into();
    }
    if !architecture.ends_with("ForCausalLM") && !architecture.ends_with("LMHeadModel") {
        return "only models with a language-model head (...ForCausalLM) are converted".into();
    }
    let known: Vec<_> = FAMILIES.iter().map(|row| row.architecture).collect();
    format!("known: {}", known.join(", "))
}

fn by_model_type(config: Fields<'_>, model_type: Option<&str>) -> Result<&'static Family> {
    let Some(model_type) = model_type else {
        return Err(config.malformed("architectures", "it is missing, and so is model_type"));
    };
    FAMILIES
        .iter()
        .find(|row| row.model_type == model_type)
        .ok_or_else(|| {
            let reason = why_not(model_type).unwrap_or("no family of that type is known");
            config.unsupported("model_type", reason)
        })
}
