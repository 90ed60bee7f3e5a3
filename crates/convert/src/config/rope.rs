//! Rotary embedding: `rope_theta`, `rope_scaling`, and the `rope_parameters` that replaced both.

use onebit_model::{RopeScaling, RopeSpec};

use crate::config::fields::Fields;
use crate::error::Result;

/// Reads the rotary embedding. A non-empty `rope_scaling` wins over `rope_parameters`, and a
/// `rope_theta` inside either wins over the config's own.
pub(crate) fn parse(config: Fields<'_>, default_theta: f64) -> Result<RopeSpec> {
    let outer = config.f64("rope_theta")?;
    let key = match config.object("rope_scaling")? {
        Some(scaling) if !scaling.is_empty() => "rope_scaling",
        _ => "rope_parameters",
    };
    let place = format!("{}.", config.name(key));
    let (inner, scaling) = match config.object(key)? {
        None => (None, RopeScaling::None),
        Some(map) => {
            let rope = Fields::new(map, &place);
            refuse_partial(rope)?;
            (rope.f64("rope_theta")?, scaling(rope)?)
        }
    };
    refuse_partial(config)?;
    let theta = inner.or(outer).unwrap_or(default_theta);
    if theta <= 0.0 {
        return Err(config.malformed(
            "rope_theta",
            format!("expected a positive number, found {theta}"),
        ));
    }
    Ok(RopeSpec { theta, scaling })
}

/// The scaling by its type, `rope_type` or, in older configs, `type`.
fn scaling(rope: Fields<'_>) -> Result<RopeScaling> {
    let key = if rope.value("rope_type").is_some() {
        "rope_type"
    } else {
        "type"
    };
    match rope.str(key)? {
        None if rope.value("full_attention").is_some()
            || rope.value("sliding_attention").is_some() =>
        {
            Err(rope.unsupported("full_attention", "layers must share one rotary embedding"))
        }
        None | Some("default") => Ok(RopeScaling::None),
        Some(_) => Err(rope.unsupported(key, "known rope types: default")),
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
