//! Rotary embedding: `rope_theta`, `rope_scaling`, and the `rope_parameters` that replaced both.

use onebit_model::{RopeScaling, RopeSpec};

use crate::config::fields::Fields;
use crate::error::Result;

/// What the formulas need of the rest of the config.
pub(crate) struct Context {
    /// `rope_theta` where no field gives it.
    pub(crate) default_theta: f64,
    /// `max_position_embeddings`.
    pub(crate) max_positions: usize,
    /// Whether the family's code reads scalings at all.
    pub(crate) scalable: bool,
}

/// Keys that no rope type has, yet that change nothing.
const HARMLESS: [&str; 1] = ["finetuned"];
/// Keys of some rope type. `transformers` ignores those that the type at hand does not have.
const KEYS: [&str; 14] = [
    "rope_type",
    "type",
    "rope_theta",
    "partial_rotary_factor",
    "factor",
    "original_max_position_embeddings",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
    "low_freq_factor",
    "high_freq_factor",
];

/// Reads the rotary embedding. A non-empty `rope_scaling` wins over `rope_parameters`, and a
/// `rope_theta` inside either wins over the config's own.
pub(crate) fn parse(config: Fields<'_>, context: &Context) -> Result<RopeSpec> {
    let outer = config.f64("rope_theta")?;
    let key = match config.object("rope_scaling")? {
        Some(scaling) if !scaling.is_empty() => "rope_scaling",
        _ => "rope_parameters",
    };
    refuse_partial(config)?;
    let place = format!("{}.", config.name(key));
    let (inner, scaling) = match config.object(key)? {
        None => (None, RopeScaling::None),
        Some(map) => {
            let rope = Fields::new(map, &place);
            refuse_partial(rope)?;
            (rope.f64("rope_theta")?, scaling(rope, config, context)?)
        }
    };
    let theta = inner.or(outer).unwrap_or(context.default_theta);
    if theta <= 0.0 {
        return Err(config.malformed(
            "rope_theta",
            format!("expected a positive number, found {theta}"),
        ));
    }
    Ok(RopeSpec { theta, scaling })
}

/// The scaling by its type, `rope_type` or, in older configs, `type`.
fn scaling(rope: Fields<'_>, config: Fields<'_>, context: &Context) -> Result<RopeScaling> {
    if let Some(layers) = rope.keys().find(|key| key.ends_with("_attention")) {
        return Err(rope.unsupported(layers, "layers must share one rotary embedding"));
    }
    let key = if rope.given("rope_type") {
        "rope_type"
    } else {
        "type"
    };
    let scaling = match rope.str(key)? {
        None if rope.given(key) => return Err(rope.malformed(key, "expected a string, found null")),
        None | Some("default") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear {
            factor: required(rope, "factor")?,
        },
        Some("dynamic") => RopeScaling::Dynamic {
            factor: required(rope, "factor")?,
            original_max_positions: context.max_positions,
        },
        Some("llama3") => RopeScaling::Llama3 {
            factor: required(rope, "factor")?,
            low_freq_factor: required(rope, "low_freq_factor")?,
            high_freq_factor: required(rope, "high_freq_factor")?,
            original_max_positions: original(rope, config, context)?,
        },
        Some("yarn") => yarn(rope, config, context)?,
        Some(_) => {
            return Err(rope.unsupported(
                key,
                "known rope types: default, linear, dynamic, llama3, yarn",
            ));
        }
    };
    if scaling != RopeScaling::None && !context.scalable {
        return Err(rope.unsupported(key, "this architecture's own code knows no rope scaling"));
    }
    let unknown = |key: &&str| !KEYS.contains(key) && !HARMLESS.contains(key);
    match rope
        .keys()
        .filter(|key| rope.value(key).is_some())
        .find(unknown)
    {
        Some(key) => Err(rope.unsupported(key, "no known rope type has such a parameter")),
        None => Ok(scaling),
    }
}

fn yarn(rope: Fields<'_>, config: Fields<'_>, context: &Context) -> Result<RopeScaling> {
    let original_max_positions = original(rope, config, context)?;
    let implied = context.max_positions as f64 / original_max_positions.max(1) as f64;
    // Null is allowed, absence is not.
    let factor = match rope.f64("factor")? {
        None if rope.given("factor") => implied,
        _ => required(rope, "factor")?,
    };
    let truthy = |key| -> Result<Option<f64>> { Ok(rope.f64(key)?.filter(|&value| value != 0.0)) };
    let attention_factor = match rope.f64("attention_factor")? {
        Some(given) => given,
        None => match (truthy("mscale")?, truthy("mscale_all_dim")?) {
            (Some(scale), Some(all)) => magnitude(factor, scale) / magnitude(factor, all),
            _ => magnitude(factor, 1.0),
        },
    };
    Ok(RopeScaling::Yarn {
        factor,
        original_max_positions,
        beta_fast: truthy("beta_fast")?.unwrap_or(32.0),
        beta_slow: truthy("beta_slow")?.unwrap_or(1.0),
        truncate: rope.bool("truncate")?.unwrap_or(true),
        attention_factor,
    })
}

/// What YaRN makes of cosines and sines for a context `factor` times as long.
fn magnitude(factor: f64, scale: f64) -> f64 {
    if factor <= 1.0 {
        1.0
    } else {
        // Not `f64::ln`, which may differ from one machine to another.
        0.1 * scale * libm::log(factor) + 1.0
    }
}

/// The context of the pre-training: the config's own field wins over the one beside the factor.
fn original(rope: Fields<'_>, config: Fields<'_>, context: &Context) -> Result<usize> {
    let key = "original_max_position_embeddings";
    let inner = rope.usize(key)?;
    Ok(config
        .usize(key)?
        .or(inner)
        .unwrap_or(context.max_positions))
}

fn required(rope: Fields<'_>, key: &str) -> Result<f64> {
    match rope.f64(key)? {
        Some(value) if value > 0.0 => Ok(value),
        Some(value) => {
            Err(rope.malformed(key, format!("expected a positive number, found {value}")))
        }
        None => Err(rope.malformed(key, "this rope type needs it")),
    }
}

fn refuse_partial(fields: Fields<'_>) -> Result<()> {
    match fields.f64("partial_rotary_factor")? {
        Some(factor) if factor != 1.0 => {
            Err(fields.unsupported("partial_rotary_factor", "the whole head is rotated"))
        }
        _ => Ok(()),
    }
}
