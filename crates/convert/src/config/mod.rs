//! `config.json` into a [`ModelSpec`], with the defaults of the family where a field is absent.

pub(crate) mod few_bits;
pub(crate) mod fields;
mod foreign;
pub(crate) mod generation;
pub(crate) mod quant;
pub(crate) mod rope;
mod window;

use std::collections::BTreeMap;

use onebit_model::{Activation, MAX_POSITIONS, ModelSpec, RopeScaling};

use crate::config::fields::Fields;
use crate::config::quant::{BitNetQuant, Quant};
use crate::error::Result;
use crate::family::{BiasRule, Family, Linears};
use crate::source::shard::TensorInfo;

/// A config, understood.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) spec: ModelSpec,
    /// How linears are stored; `None` for dense models.
    pub(crate) quant: Option<Quant>,
}

impl Config {
    /// Makes the model dense if its tensors are, and says so.
    pub(crate) fn settle(&mut self, tensors: &BTreeMap<String, TensorInfo>) -> Option<String> {
        self.quant.take_if(|quant| match quant {
            Quant::BitNet(quant) => quant.is_of_packed_twin(tensors),
            Quant::OneBit(_) | Quant::Mlx(_) => false,
        })?;
        Some(
            "quantization_config is that of a packed model, yet no weight is packed or has a scale: \
             converted as a dense model, whose activations are floats"
                .into(),
        )
    }
}

/// Reads the config of a model of `family`. `tied_head` is what the config says; the tensors
/// decide.
pub(crate) fn parse(config: Fields<'_>, family: &'static Family) -> Result<Config> {
    foreign::refuse(config, family)?;
    let quant = match (quant::parse(config)?, family.linears) {
        (None, Linears::AlwaysOnline) => Some(Quant::BitNet(always_online(config)?)),
        (quant, _) => quant,
    };
    let spec = spec(config, family, quant.as_ref())?;
    spec.validate()
        .map_err(|error| config.malformed(config_key(error.field), error.reason))?;
    Ok(Config { spec, quant })
}

fn spec(config: Fields<'_>, family: &'static Family, quant: Option<&Quant>) -> Result<ModelSpec> {
    let defaults = &family.defaults;
    let size = |key, default| -> Result<usize> { Ok(config.usize(key)?.unwrap_or(default)) };
    let hidden = size("hidden_size", defaults.hidden)?;
    let layers = size("num_hidden_layers", defaults.layers)?;
    let heads = size("num_attention_heads", defaults.heads)?;
    let max_positions = size("max_position_embeddings", defaults.max_positions)?;
    let context = rope::Context {
        default_theta: defaults.rope_theta,
        max_positions,
        scalable: family.rope_scaling,
    };
    let rope = rope::parse(config, &context)?;
    let (windows, full_attention_layers) = window::parse(config, family, layers, max_positions)?;
    Ok(ModelSpec {
        architecture: family.architecture.into(),
        hidden,
        layers,
        heads,
        kv_heads: kv_heads(config, family, heads)?,
        head_dim: head_dim(config, family, hidden, heads)?,
        ffn: size("intermediate_size", defaults.ffn)?,
        vocab: size("vocab_size", defaults.vocab)?,
        max_positions: extended(max_positions, &rope.scaling),
        norm_eps: epsilon(config)?.unwrap_or(defaults.norm_eps as f32),
        rope,
        activation: activation(config, family)?,
        tied_head: config.bool("tie_word_embeddings")?.unwrap_or(false),
        attn_sub_norm: family.attn_sub_norm.is_some(),
        ffn_sub_norm: family.ffn_sub_norm.is_some(),
        qk_norm: family.qk_norm,
        attn_bias: bias(config, "attention_bias", family.attn_bias)?,
        mlp_bias: bias(config, "mlp_bias", family.mlp_bias)?,
        input_norm_eps: quant.and_then(Quant::input_norm_eps),
        windows,
        full_attention_layers,
    })
}

/// Positions the model is made for. `max_position_embeddings` of a model with dynamic scaling is the
/// length up to which nothing changes; the factor says how much longer sequences may be.
fn extended(max_positions: usize, scaling: &RopeScaling) -> usize {
    match scaling {
        RopeScaling::Dynamic { factor, .. } if *factor > 1.0 => {
            let extended = (max_positions as f64 * factor) as usize;
            extended.clamp(max_positions, MAX_POSITIONS.max(max_positions))
        }
        _ => max_positions,
    }
}

/// `rms_norm_eps`, checked before it is rounded: a tiny negative one would round to zero.
pub(crate) fn epsilon(fields: Fields<'_>) -> Result<Option<f32>> {
    let key = "rms_norm_eps";
    match fields.f64(key)? {
        Some(eps) if eps < 0.0 || !(eps as f32).is_finite() => Err(fields.malformed(
            key,
            format!("expected a small number that is not negative, found {eps}"),
        )),
        eps => Ok(eps.map(|eps| eps as f32)),
    }
}

/// Null means one per query head; absent means the class's default.
fn kv_heads(config: Fields<'_>, family: &Family, heads: usize) -> Result<usize> {
    let key = "num_key_value_heads";
    let default = if config.given(key) {
        None
    } else {
        family.defaults.kv_heads
    };
    Ok(config.usize(key)?.or(default).unwrap_or(heads))
}

fn head_dim(config: Fields<'_>, family: &Family, hidden: usize, heads: usize) -> Result<usize> {
    let key = "head_dim";
    let default = if config.given(key) {
        None
    } else {
        family.defaults.head_dim
    };
    if let Some(head_dim) = config.usize(key)?.or(default) {
        return Ok(head_dim);
    }
    if heads == 0 || !hidden.is_multiple_of(heads) {
        let reason = format!("hidden_size {hidden} cannot be divided among {heads} heads");
        return Err(config.malformed("num_attention_heads", reason));
    }
    Ok(hidden / heads)
}

fn activation(config: Fields<'_>, family: &Family) -> Result<Activation> {
    match config
        .str("hidden_act")?
        .unwrap_or(family.defaults.activation)
    {
        "silu" | "swish" => Ok(Activation::Silu),
        "relu2" => Ok(Activation::Relu2),
        _ => Err(config.unsupported("hidden_act", "known: silu, relu2")),
    }
}

/// Whether linears have biases, by the switch `key` where the family reads it.
fn bias(config: Fields<'_>, key: &str, rule: BiasRule) -> Result<bool> {
    let set = config.bool(key)?;
    match rule {
        BiasRule::Switch => Ok(set.unwrap_or(false)),
        BiasRule::Never if set == Some(true) => {
            Err(config.unsupported(key, "this architecture has no such biases"))
        }
        BiasRule::Never => Ok(false),
        BiasRule::NotOutput if set == Some(false) => {
            Err(config.unsupported(key, "this architecture always has biases of q, k and v"))
        }
        BiasRule::NotOutput => Ok(true),
    }
}

/// 1bitLLM configs state the bit widths that their code implements.
fn always_online(config: Fields<'_>) -> Result<BitNetQuant> {
    for (key, known) in [("weight_bits", 1), ("input_bits", 8)] {
        if config.u32(key)?.is_some_and(|bits| bits != known) {
            return Err(config.unsupported(key, format!("known: {known}")));
        }
    }
    Ok(BitNetQuant::always_online())
}

/// The config's name for a field of the specification.
fn config_key(field: &str) -> &str {
    match field {
        "hidden" => "hidden_size",
        "layers" => "num_hidden_layers",
        "heads" => "num_attention_heads",
        "kv_heads" => "num_key_value_heads",
        "ffn" => "intermediate_size",
        "vocab" => "vocab_size",
        "max_positions" => "max_position_embeddings",
        "norm_eps" => "rms_norm_eps",
        "rope.theta" => "rope_theta",
        "rope.scaling.original_max_positions" => "original_max_position_embeddings",
        scaling if scaling.starts_with("rope.scaling.") => &scaling["rope.scaling.".len()..],
        "full_attention_layers" => "layer_types",
        "input_norm_eps" => "quantization_config.rms_norm_eps",
        "windows.size" => "sliding_window",
        other => other,
    }
}

#[cfg(test)]
mod tests;
