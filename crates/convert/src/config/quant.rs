//! `quantization_config`: how the linears of the layers are trained and stored.

use std::collections::BTreeMap;

use safetensors::Dtype;

use crate::config::epsilon;
use crate::config::few_bits::{self, Mlx, OneBit};
use crate::config::fields::Fields;
use crate::error::Result;
use crate::source::shard::TensorInfo;

/// What `weight_scale` of a packed weight holds. The class decides it; the tensor cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScaleMeaning {
    /// `autobitlinear`: the mean of the magnitudes, a multiplier.
    Multiplier,
    /// `bitlinear`: one over that mean, a divisor.
    Divisor,
}

/// How the weights of linears are stored, where they are not dense.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Quant {
    BitNet(BitNetQuant),
    OneBit(OneBit),
    Mlx(Mlx),
}

impl Quant {
    /// Epsilon of the RMS norm that each linear has on its input, where it has one.
    pub(crate) fn input_norm_eps(&self) -> Option<f32> {
        match self {
            Self::BitNet(quant) => quant.input_norm_eps,
            Self::OneBit(_) | Self::Mlx(_) => None,
        }
    }
}

/// A `quantization_config` of method `bitnet`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BitNetQuant {
    pub(crate) scale: ScaleMeaning,
    /// Weights are float masters, to be made ternary as the trained forward pass does.
    pub(crate) online: bool,
    /// Epsilon of the RMS norm that each linear has on its input, where it has one.
    pub(crate) input_norm_eps: Option<f32>,
    /// Modules left dense.
    skip: Option<Vec<String>>,
}

impl BitNetQuant {
    /// Quantized whenever the forward pass runs, with nothing on disk that says so: the rule of
    /// architectures whose own code quantizes.
    pub(crate) fn always_online() -> Self {
        Self {
            scale: ScaleMeaning::Multiplier,
            online: true,
            input_norm_eps: None,
            skip: None,
        }
    }

    /// Whether a config for packed weights comes with none: a dense revision of a packed checkpoint,
    /// as Falcon-E has them. Its tensors say what it is.
    pub(crate) fn is_of_packed_twin(&self, tensors: &BTreeMap<String, TensorInfo>) -> bool {
        let packed = |(name, tensor): (&String, &TensorInfo)| {
            tensor.dtype == Dtype::U8 || name.ends_with(".weight_scale")
        };
        self.scale == ScaleMeaning::Divisor
            && !self.online
            && self.input_norm_eps.is_none()
            && !tensors.iter().any(packed)
    }

    /// Whether the linear `module` (a full name without `.weight`) is ternary. `transformers`
    /// matches each pattern at the start up to a dot and as a suffix.
    pub(crate) fn converts(&self, module: &str) -> bool {
        let skipped = |pattern: &String| {
            let prefix = module.strip_prefix(pattern.as_str());
            prefix.is_some_and(|rest| {
                rest.is_empty() || rest.starts_with('.') || pattern.ends_with('.')
            }) || module.ends_with(pattern.as_str())
        };
        !self
            .skip
            .as_ref()
            .is_some_and(|patterns| patterns.iter().any(skipped))
    }
}

/// Reads `quantization_config`; `None` when the model is dense.
pub(crate) fn parse(config: Fields<'_>) -> Result<Option<Quant>> {
    if config.value("compression_config").is_some() {
        return Err(config.unsupported(
            "compression_config",
            "known: quantization_config with quant_method bitnet",
        ));
    }
    if let Some(mlx) = few_bits::mlx(config)? {
        return Ok(Some(Quant::Mlx(mlx)));
    }
    let Some(map) = config.object("quantization_config")? else {
        return Ok(None);
    };
    let place = format!("{}.", config.name("quantization_config"));
    let quant = Fields::new(map, &place);
    match quant.str("quant_method")? {
        Some("bitnet") => Ok(Some(Quant::BitNet(bitnet(quant)?))),
        Some("onebit") => Ok(Some(Quant::OneBit(few_bits::onebit(quant)?))),
        Some(_) => Err(quant.unsupported("quant_method", "known: bitnet, onebit")),
        None => Err(quant.malformed("quant_method", "it is missing")),
    }
}

fn bitnet(quant: Fields<'_>) -> Result<BitNetQuant> {
    let scale = match quant.str("linear_class")? {
        Some("autobitlinear") => ScaleMeaning::Multiplier,
        Some("bitlinear") => ScaleMeaning::Divisor,
        None if !quant.given("linear_class") => ScaleMeaning::Divisor,
        _ => return Err(quant.unsupported("linear_class", "known: bitlinear, autobitlinear")),
    };
    let online = match quant.str("quantization_mode")? {
        None | Some("offline") => false,
        Some("online") => true,
        _ => return Err(quant.unsupported("quantization_mode", "known: online, offline")),
    };
    let input_norm_eps = match quant.bool("use_rms_norm")? {
        Some(true) => Some(epsilon(quant)?.unwrap_or(1e-6)),
        _ => None,
    };
    Ok(BitNetQuant {
        scale,
        online,
        input_norm_eps,
        skip: skip(quant)?,
    })
}

/// `modules_to_not_convert`. Null keeps the head dense; a list must say so itself.
fn skip(quant: Fields<'_>) -> Result<Option<Vec<String>>> {
    let key = "modules_to_not_convert";
    let Some(list) = quant.strings(key)? else {
        return Ok(None);
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if !list
        .iter()
        .all(|pattern| !pattern.is_empty() && pattern.chars().all(plain))
    {
        return Err(quant.unsupported(key, "entries must be plain module names"));
    }
    let skip = BitNetQuant {
        skip: Some(list.into_iter().map(str::to_owned).collect()),
        ..BitNetQuant::always_online()
    };
    if skip.converts("lm_head") {
        return Err(quant.unsupported(
            key,
            "a list must name lm_head: heads of these models are dense",
        ));
    }
    Ok(skip.skip)
}
