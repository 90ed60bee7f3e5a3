//! Which layers attend within a window: `sliding_window`, `layer_types` and what switches them.

use onebit_model::WindowSpec;

use crate::config::fields::Fields;
use crate::error::Result;
use crate::family::{Family, WindowRule};

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";
const SIZE: &str = "sliding_window";
const TYPES: &str = "layer_types";

/// Windows, and layers that see everything nevertheless.
pub(crate) type Windows = (Option<WindowSpec>, Vec<usize>);

/// Reads the windows of a model with `layers` layers made for `max_positions`.
pub(crate) fn parse(
    config: Fields<'_>,
    family: &Family,
    layers: usize,
    max_positions: usize,
) -> Result<Windows> {
    let types = layer_types(config, layers)?;
    let default = |size| if config.given(SIZE) { None } else { Some(size) };
    match family.window {
        WindowRule::None => {
            refuse_window(config, max_positions)?;
            one_kind(config, types.as_deref(), FULL)?;
            Ok((None, Vec::new()))
        }
        WindowRule::AllLayers { default: size } => {
            let size = config.usize(SIZE)?.or(default(size));
            one_kind(
                config,
                types.as_deref(),
                if size.is_some() { SLIDING } else { FULL },
            )?;
            let windows = size.map(|size| WindowSpec {
                size,
                first_layer: 0,
            });
            Ok((windows, Vec::new()))
        }
        WindowRule::UpperLayers {
            default: size,
            first,
        } => {
            let used = config.bool("use_sliding_window")?.unwrap_or(false);
            let first = config.usize("max_window_layers")?.unwrap_or(first);
            let size = config.usize(SIZE)?.or(default(size)).filter(|_| used);
            match types {
                Some(types) => listed(config, size, &types),
                None => Ok((
                    size.filter(|_| first < layers).map(|size| WindowSpec {
                        size,
                        first_layer: first,
                    }),
                    Vec::new(),
                )),
            }
        }
    }
}

/// The windows of a model whose layers are listed.
fn listed(config: Fields<'_>, size: Option<usize>, types: &[&str]) -> Result<Windows> {
    let Some(first_layer) = types.iter().position(|kind| *kind == SLIDING) else {
        return Ok((None, Vec::new()));
    };
    let Some(size) = size else {
        let reason = format!("layer {first_layer} is {SLIDING}, but there is no {SIZE} in use");
        return Err(config.malformed(TYPES, reason));
    };
    let full = (first_layer..types.len()).filter(|&layer| types[layer] == FULL);
    Ok((Some(WindowSpec { size, first_layer }), full.collect()))
}

/// `layer_types`, one per layer, of the kinds that are computed.
fn layer_types<'a>(config: Fields<'a>, layers: usize) -> Result<Option<Vec<&'a str>>> {
    let Some(types) = config.strings(TYPES)? else {
        return Ok(None);
    };
    if let Some(other) = types.iter().find(|kind| ![FULL, SLIDING].contains(kind)) {
        let reason = format!("layers of kind {other} are not computed, only {FULL} and {SLIDING}");
        return Err(config.unsupported(TYPES, reason));
    }
    if types.len() != layers {
        return Err(config.malformed(
            TYPES,
            format!("{} entries for {layers} layers", types.len()),
        ));
    }
    Ok(Some(types))
}

/// Architectures whose layers are all alike.
fn one_kind(config: Fields<'_>, types: Option<&[&str]>, kind: &str) -> Result<()> {
    let odd = types
        .unwrap_or_default()
        .iter()
        .position(|found| *found != kind);
    match odd {
        None => Ok(()),
        Some(layer) => Err(config.unsupported(
            TYPES,
            format!("layer {layer} should be {kind} in this architecture, as all are"),
        )),
    }
}

/// A window of an architecture that has none must not cut anything off.
fn refuse_window(config: Fields<'_>, max_positions: usize) -> Result<()> {
    let used = config.bool("use_sliding_window")?.unwrap_or(true);
    match config.usize(SIZE)?.filter(|_| used) {
        Some(size) if size < max_positions => {
            Err(config.unsupported(SIZE, "this architecture attends to everything"))
        }
        _ => Ok(()),
    }
}
