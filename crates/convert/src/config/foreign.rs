//! Fields that make a network another one than its architecture's name says, or than the decoder computes.
//!
//! A field that is absent, null or neutral changes nothing. Any other value is refused: ignoring it
//! could mean to compute something else.

use serde_json::Value;

use crate::config::fields::Fields;
use crate::error::Result;
use crate::family::Family;

/// Values of a field that change nothing.
#[derive(Clone, Copy, Debug)]
enum Neutral {
    /// Null alone.
    Null,
    /// Also false, zero and whatever is empty.
    Empty,
    /// Also one and true: factors, fractions, switches that are on.
    One,
    /// Also a list of ones: a switch per layer.
    Ones,
    /// Also one of these words.
    Word(&'static [&'static str]),
}

/// Fields with one reason to refuse them.
struct Rule {
    keys: &'static [&'static str],
    neutral: Neutral,
    reason: &'static str,
}

const EXPERTS: &str = "mixtures of experts are not computed";
const MODALITIES: &str = "models with other modalities than text are not computed";
const MIXERS: &str = "layers other than attention and MLP (state spaces, convolutions, linear attention) are not computed";
const ENCODERS: &str = "encoders are not computed";
const SCALES: &str = "scaled embeddings, residuals and logits are not computed";
const CAPS: &str = "capped and clipped values are not computed";
const LATENT: &str = "latent attention is not computed";
const SPARSE: &str = "sparse and chunked attention are not computed";
const POSITIONS: &str = "every layer has a half-split rotary embedding over whole heads";
const NORMS: &str = "this architecture has no norms of queries and keys";
const PARALLEL: &str = "attention and MLP one after the other is what is computed";

#[rustfmt::skip]
static RULES: &[Rule] = &[
    Rule { keys: &["num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size", "moe_num_experts",
        "n_shared_experts", "num_experts_per_tok", "moe_layer_freq", "moe"],
        neutral: Neutral::Empty, reason: EXPERTS },
    Rule { keys: &["vision_config", "vision_cfg", "visual", "audio_config", "speech_config", "text_config",
        "mm_vision_tower", "mm_projector_type", "vision_tower"], neutral: Neutral::Null, reason: MODALITIES },
    Rule { keys: &["layer_block_types", "layers_block_type", "block_types", "hybrid_override_pattern", "attn_layer_indices",
        "full_attention_interval", "conv_L_cache", "conv_kernel_size", "state_size", "ssm_cfg", "ssm_state_size", "attn_type_list",
        "linear_attn_config", "linear_conv_kernel_dim"], neutral: Neutral::Empty, reason: MIXERS },
    Rule { keys: &["is_encoder_decoder", "add_cross_attention", "encoder_layers", "num_decoder_layers"],
        neutral: Neutral::Empty, reason: ENCODERS },
    Rule { keys: &["is_causal"], neutral: Neutral::One, reason: ENCODERS },
    Rule { keys: &["use_bidirectional_attention"], neutral: Neutral::Empty, reason: ENCODERS },
    Rule { keys: &["logit_scale", "logits_scaling", "embedding_multiplier", "residual_multiplier", "lm_head_multiplier",
        "scale_emb", "embedding_scale", "emb_scale", "width_scale"], neutral: Neutral::One, reason: SCALES },
    Rule { keys: &["attention_multiplier", "query_pre_attn_scalar", "scale_depth", "dim_model_base", "mup_scale_emb",
        "mup_base_width", "mup_width_scale", "use_mup", "mup_embeddings_multiplier"], neutral: Neutral::Empty, reason: SCALES },
    Rule { keys: &["attn_logit_softcapping", "final_logit_softcapping", "attn_logit_softcap", "logit_softcap", "clip_qkv",
        "swiglu_limit"], neutral: Neutral::Empty, reason: CAPS },
    Rule { keys: &["kv_lora_rank", "q_lora_rank", "qk_rope_head_dim"], neutral: Neutral::Empty, reason: LATENT },
    Rule { keys: &["sparse_config", "index_topk", "attention_chunk_size", "attn_temperature_tuning", "attention_sinks",
        "use_attention_sinks", "num_kv_shared_layers"], neutral: Neutral::Empty, reason: SPARSE },
    Rule { keys: &["rope_interleaved", "rope_interleave", "interleaved_rope", "alibi", "use_alibi", "no_rope_layer_interval",
        "nope_layer_interval", "rope_local_base_freq"], neutral: Neutral::Empty, reason: POSITIONS },
    Rule { keys: &["rotary_pct", "rope_pct", "rope_ratio", "rotary_percent", "use_rope"], neutral: Neutral::One, reason: POSITIONS },
    Rule { keys: &["no_rope_layers"], neutral: Neutral::Ones, reason: POSITIONS },
    Rule { keys: &["position_embedding_type"], neutral: Neutral::Word(&["rope", "rotary"]), reason: POSITIONS },
    Rule { keys: &["parallel_attn", "use_parallel_residual", "parallel_residual"], neutral: Neutral::Empty, reason: PARALLEL },
];

/// Switches of norms that some families have anyway.
const QK_NORM_KEYS: [&str; 4] = ["use_qk_norm", "qk_norm", "qk_layernorm", "use_qkv_norm"];

impl Neutral {
    fn has(self, value: &Value) -> bool {
        let one = |value: &Value| value == &Value::Bool(true) || value.as_f64() == Some(1.0);
        let empty = match value {
            Value::Null => return true,
            Value::Bool(set) => !set,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
        };
        match self {
            Self::Null => false,
            Self::Empty => empty,
            Self::One => one(value),
            Self::Ones => value.as_array().is_some_and(|list| list.iter().all(one)),
            Self::Word(words) => value.as_str().is_some_and(|word| words.contains(&word)),
        }
    }
}

/// Refuses fields that change the network in ways the decoder does not compute.
pub(crate) fn refuse(config: Fields<'_>, family: &Family) -> Result<()> {
    for rule in RULES {
        for key in rule.keys {
            if config
                .value(key)
                .is_some_and(|value| !rule.neutral.has(value))
            {
                return Err(config.unsupported(key, rule.reason));
            }
        }
    }
    let set = |key: &&str| {
        config
            .value(key)
            .is_some_and(|value| !Neutral::Empty.has(value))
    };
    for (prefix, reason) in [
        ("mamba_", MIXERS),
        ("ssm_", MIXERS),
        ("moe_", EXPERTS),
        ("mup_", SCALES),
    ] {
        if let Some(key) = config
            .keys()
            .filter(set)
            .find(|key| key.starts_with(prefix))
        {
            return Err(config.unsupported(key, reason));
        }
    }
    match QK_NORM_KEYS.into_iter().find(set) {
        Some(key) if !family.qk_norm => Err(config.unsupported(key, NORMS)),
        _ => refuse_rotation(config),
    }
}

/// Weights that expect rotated inputs look like any others; only a key of the config tells, however
/// deep it is.
fn refuse_rotation(config: Fields<'_>) -> Result<()> {
    for key in config.keys() {
        let value = config.value(key).unwrap_or(&Value::Null);
        if let Some(path) = rotation(key, value) {
            return Err(config.unsupported_at(&path, key, "rotated weights are not computed"));
        }
    }
    Ok(())
}

/// The path of a key at `value` or below that speaks of a rotation and is not off.
fn rotation(path: &str, value: &Value) -> Option<String> {
    let name = path.rsplit('.').next().unwrap_or(path).to_ascii_lowercase();
    let speaks = ["hadamard", "quarot", "spinquant"]
        .iter()
        .any(|word| name.contains(word));
    if speaks && !matches!(value, Value::Null | Value::Bool(false)) {
        return Some(path.to_owned());
    }
    match value {
        Value::Object(map) => map
            .iter()
            .find_map(|(key, value)| rotation(&format!("{path}.{key}"), value)),
        Value::Array(list) => list.iter().find_map(|value| rotation(path, value)),
        _ => None,
    }
}
