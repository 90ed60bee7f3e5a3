//! Configs of checkpoints with one or two bits per weight that are not BitNet's: the convention of `docs/checkpoints.md`
//! (`quant_method: onebit`), and MLX.

use onebit_format::{ActivationMode, SIGN_GROUP};

use crate::config::fields::Fields;
use crate::error::Result;

/// How many values a weight has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// -d and d.
    Binary,
    /// -d, 0 and d.
    Ternary,
}

/// A `quantization_config` of method `onebit`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct OneBit {
    pub(crate) weights: Kind,
    pub(crate) activations: ActivationMode,
    /// Whether packed weights have a scale per [`SIGN_GROUP`] columns instead of one.
    pub(crate) grouped: bool,
}

/// The `quantization` of an MLX checkpoint, in groups of [`SIGN_GROUP`] columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mlx {
    /// Bits per code, 1 or 2.
    pub(crate) bits: usize,
}

impl Mlx {
    pub(crate) fn kind(self) -> Kind {
        if self.bits == 1 {
            Kind::Binary
        } else {
            Kind::Ternary
        }
    }
}

/// Reads a `quantization_config` of method `onebit`.
pub(crate) fn onebit(quant: Fields<'_>) -> Result<OneBit> {
    let weights = match quant.str("weights")? {
        Some("binary") => Kind::Binary,
        Some("ternary") => Kind::Ternary,
        Some(_) => return Err(quant.unsupported("weights", "known: binary, ternary")),
        None => return Err(quant.malformed("weights", "it is missing")),
    };
    let activations = match quant.str("activations")? {
        Some("binary") => ActivationMode::SignToken,
        Some("ternary") => ActivationMode::TernaryToken,
        Some("int8") => ActivationMode::I8Token,
        Some("float") => ActivationMode::F32,
        Some(_) => {
            return Err(quant.unsupported("activations", "known: binary, ternary, int8, float"));
        }
        None => return Err(quant.malformed("activations", "it is missing")),
    };
    let grouped = match quant.usize("group_size")? {
        None => false,
        Some(SIGN_GROUP) => true,
        Some(_) => return Err(quant.unsupported("group_size", "known: null, 128")),
    };
    refuse_others(
        quant,
        &["quant_method", "weights", "activations", "group_size"],
    )?;
    Ok(OneBit {
        weights,
        activations,
        grouped,
    })
}

/// Reads what MLX writes: `quantization`, and under `quantization_config` the same again. `None` where there is neither.
pub(crate) fn mlx(config: Fields<'_>) -> Result<Option<Mlx>> {
    let copy = config.object("quantization_config")?;
    let method = copy.and_then(|copy| copy.get("quant_method"));
    for (key, map) in [
        ("quantization", config.object("quantization")?),
        ("quantization_config", copy),
    ] {
        let said = |key| map.is_some_and(|map| map.contains_key(key));
        let Some(map) = map.filter(|_| said("bits") && said("group_size")) else {
            continue;
        };
        if method.is_some() {
            if key == "quantization" {
                return Err(config.unsupported(key, "quantization_config says something else"));
            }
            continue;
        }
        let place = format!("{}.", config.name(key));
        return mlx_fields(Fields::new(map, &place)).map(Some);
    }
    Ok(None)
}

fn mlx_fields(quant: Fields<'_>) -> Result<Mlx> {
    let bits = match quant.usize("bits")? {
        Some(bits @ (1 | 2)) => bits,
        _ => return Err(quant.unsupported("bits", "known: 1, 2")),
    };
    if quant.usize("group_size")? != Some(SIGN_GROUP) {
        return Err(quant.unsupported("group_size", "known: 128"));
    }
    if quant.str("mode")?.is_some_and(|mode| mode != "affine") {
        return Err(quant.unsupported("mode", "known: affine"));
    }
    refuse_others(quant, &["bits", "group_size", "mode"])?;
    Ok(Mlx { bits })
}

/// Any other field could mean another model.
fn refuse_others(quant: Fields<'_>, known: &[&str]) -> Result<()> {
    let other = quant
        .keys()
        .find(|key| !known.contains(key) && quant.value(key).is_some());
    match other {
        None => Ok(()),
        Some(key) => Err(quant.unsupported(
            key,
            format!("known: {}, for all modules alike", known.join(", ")),
        )),
    }
}
