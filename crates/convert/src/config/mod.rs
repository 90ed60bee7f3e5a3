//! `config.json` into a [`ModelSpec`], with the defaults of the family where a field is absent.

pub(crate) mod few_bits;
pub(crate) mod fields;
pub(crate) mod generation;
pub(crate) mod quant;
pub(crate) mod rope;

use onebit_model::{Activation, ModelSpec, WindowSpec};

use crate::config::fields::Fields;
use crate::config::quant::{BitNetQuant, Quant};
use crate::error::Result;
use crate::family::{BiasRule, Family, Linears, WindowRule};

/// A config, understood.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) spec: ModelSpec,
    /// How linears are stored; `None` for dense models.
    pub(crate) quant: Option<Quant>,
}

/// Reads the config of a model of `family`. `tied_head` is what the config says; the tensors
/// decide.
pub(crate) fn parse(config: Fields<'_>, family: &'static Family) -> Result<Config> {
    quant::refuse_unknown_networks(config)?;
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
    Ok(ModelSpec {
        architecture: family.architecture.into(),
        hidden,
        layers,
        heads,
        kv_heads: kv_heads(config, family, heads)?,
        head_dim: head_dim(config, family, hidden, heads)?,
        ffn: size("intermediate_size", defaults.ffn)?,
        vocab: size("vocab_size", defaults.vocab)?,
        max_positions: size("max_position_embeddings", defaults.max_positions)?,
        norm_eps: epsilon(config)?.unwrap_or(defaults.norm_eps as f32),
        rope: rope::parse(config, defaults.rope_theta)?,
        activation: activation(config, family)?,
        tied_head: config.bool("tie_word_embeddings")?.unwrap_or(false),
        attn_sub_norm: family.attn_sub_norm.is_some(),
        ffn_sub_norm: family.ffn_sub_norm.is_some(),
        qk_norm: family.qk_norm,
        attn_bias: bias(config, family.attn_bias)?,
        mlp_bias: bias(config, family.mlp_bias)?,
        input_norm_eps: quant.and_then(Quant::input_norm_eps),
        windows: window(config, family, layers)?,
    })
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

fn bias(config: Fields<'_>, rule: BiasRule) -> Result<bool> {
    match rule {
        BiasRule::Never => Ok(false),
        BiasRule::Field(key) => Ok(config.bool(key)?.unwrap_or(false)),
    }
}

fn window(config: Fields<'_>, family: &Family, layers: usize) -> Result<Option<WindowSpec>> {
    let key = "sliding_window";
    let default = |size| if config.given(key) { None } else { Some(size) };
    let window = match family.window {
        WindowRule::None => None,
        WindowRule::AllLayers { default: size } => {
            config.usize(key)?.or(default(size)).map(|size| WindowSpec {
                size,
                first_layer: 0,
            })
        }
        WindowRule::UpperLayers {
            default: size,
            first,
        } => {
            let used = config.bool("use_sliding_window")?.unwrap_or(false);
            let first_layer = config.usize("max_window_layers")?.unwrap_or(first);
            let size = config.usize(key)?.or(default(size)).filter(|_| used);
            size.map(|size| WindowSpec { size, first_layer })
        }
    };
    check_layer_types(config, family, window, layers)?;
    Ok(window.filter(|window| window.first_layer < layers))
}

/// `layer_types`, where a family reads it, must say the same as the window's fields.
fn check_layer_types(
    config: Fields<'_>,
    family: &Family,
    window: Option<WindowSpec>,
    layers: usize,
) -> Result<()> {
    let key = "layer_types";
    let WindowRule::UpperLayers { .. } = family.window else {
        return Ok(());
    };
    let Some(types) = config.strings(key)? else {
        return Ok(());
    };
    if types.len() != layers {
        return Err(config.malformed(key, format!("{} entries for {layers} layers", types.len())));
    }
    let expected = |layer| match window {
        Some(window) if layer >= window.first_layer => "sliding_attention",
        _ => "full_attention",
    };
    match (0..layers).find(|layer| types[*layer] != expected(*layer)) {
        None => Ok(()),
        Some(layer) => Err(config.unsupported(
            key,
            format!(
                "layer {layer} is {}, the window's fields make it {}",
                types[layer],
                expected(layer)
            ),
        )),
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
        "input_norm_eps" => "quantization_config.rms_norm_eps",
        "windows.size" => "sliding_window",
        other => other,
    }
}
