//! What a linear's tensors are, decided from the config and the tensors together.

use onebit_format::Layout;
use safetensors::Dtype;

use crate::config::few_bits::Kind;
use crate::config::quant::{BitNetQuant, Quant, ScaleMeaning};
use crate::error::{ConvertError, Result};
use crate::few_bits;
use crate::floats;
use crate::source::Checkpoint;
use crate::source::shard::TensorInfo;

/// Where the weights of a matrix come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Weights<'a> {
    /// Four rows per byte, two bits each (ternary), or eight columns per byte (binary), and one multiplier.
    Packed {
        weight: &'a TensorInfo,
        kind: Kind,
        multiplier: f32,
    },
    /// The numbers -1, 0 and 1 in a float type, and one multiplier.
    Unpacked {
        weight: &'a TensorInfo,
        multiplier: f32,
    },
    /// Float masters to be made ternary or binary.
    Online { weight: &'a TensorInfo, kind: Kind },
    /// Ternary or binary with a scale per 128 columns.
    Grouped {
        weight: &'a TensorInfo,
        kind: Kind,
        groups: Groups<'a>,
    },
    /// Floats that are the weights.
    Dense {
        weight: &'a TensorInfo,
        layout: Layout,
    },
}

/// Where codes and scales of a grouped matrix are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Groups<'a> {
    /// Packed codes, and the scales in a tensor of their own.
    Scales(&'a TensorInfo),
    /// Floats whose magnitude is the scale, or zero.
    Signs,
    /// Words of codes, multiplied and shifted: `code * scale + bias`.
    Affine {
        scales: &'a TensorInfo,
        biases: &'a TensorInfo,
    },
}

impl<'a> Weights<'a> {
    pub(crate) fn tensor(&self) -> &'a TensorInfo {
        match self {
            Self::Packed { weight, .. }
            | Self::Unpacked { weight, .. }
            | Self::Online { weight, .. }
            | Self::Grouped { weight, .. }
            | Self::Dense { weight, .. } => weight,
        }
    }

    /// How many values the weights have; `None` where they are dense.
    pub(crate) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Packed { kind, .. } | Self::Online { kind, .. } | Self::Grouped { kind, .. } => {
                Some(*kind)
            }
            Self::Unpacked { .. } => Some(Kind::Ternary),
            Self::Dense { .. } => None,
        }
    }

    /// Whether ternary or binary weights have a scale per group of columns.
    pub(crate) fn is_grouped(&self) -> bool {
        matches!(self, Self::Grouped { .. })
    }
}

/// Full names of a linear's weight and of its scale.
pub(crate) fn names(module: &str) -> [String; 2] {
    [format!("{module}.weight"), format!("{module}.weight_scale")]
}

/// Finds the weights of the linear `module`, which the config makes `rows` x `cols`.
pub(crate) fn resolve<'a>(
    checkpoint: &'a Checkpoint,
    quant: Option<&Quant>,
    module: &str,
    shape: [usize; 2],
) -> Result<Weights<'a>> {
    match quant {
        None => bitnet(checkpoint, None, module, shape),
        Some(Quant::BitNet(quant)) => bitnet(checkpoint, Some(quant), module, shape),
        Some(Quant::OneBit(quant)) => few_bits::onebit(checkpoint, *quant, module, shape),
        Some(Quant::Mlx(quant)) => few_bits::mlx(checkpoint, *quant, module, shape),
    }
}

/// A linear of a dense or a BitNet model.
fn bitnet<'a>(
    checkpoint: &'a Checkpoint,
    quant: Option<&BitNetQuant>,
    module: &str,
    [rows, cols]: [usize; 2],
) -> Result<Weights<'a>> {
    let [name, scale_name] = names(module);
    let weight = checkpoint.tensor(&name)?;
    let scale = checkpoint.tensors.get(&scale_name);
    let packed = weight.dtype == Dtype::U8;
    match quant.filter(|quant| quant.converts(module)) {
        None if packed => Err(contradiction(
            weight,
            "packed (U8), but quantization_config does not say so",
        )),
        None => match scale {
            Some(scale) => Err(contradiction(
                scale,
                "a scale, but quantization_config leaves its weight dense",
            )),
            None => dense(weight, [rows, cols]),
        },
        Some(quant) if packed => {
            if quant.online && quant.scale == ScaleMeaning::Multiplier {
                return Err(contradiction(
                    weight,
                    "packed (U8), but quantization_mode is online",
                ));
            }
            check_packed_shape(weight, [rows, cols])?;
            let multiplier = multiplier(checkpoint, checkpoint.tensor(&scale_name)?, quant.scale)?;
            let kind = Kind::Ternary;
            Ok(Weights::Packed {
                weight,
                kind,
                multiplier,
            })
        }
        Some(quant) => masters(checkpoint, quant, weight, scale, [rows, cols]),
    }
}

/// What the bias of a linear is multiplied by. `autobitlinear` adds the bias before its stored scale multiplies the
/// sum; this engine adds biases last.
pub(crate) fn bias_factor(weights: &Weights<'_>, quant: Option<&Quant>) -> f32 {
    let Some(Quant::BitNet(quant)) = quant else {
        return 1.0;
    };
    match (weights, quant.scale) {
        (
            Weights::Packed { multiplier, .. } | Weights::Unpacked { multiplier, .. },
            ScaleMeaning::Multiplier,
        ) => *multiplier,
        _ => 1.0,
    }
}

/// A float weight of a model that says it is ternary.
fn masters<'a>(
    checkpoint: &'a Checkpoint,
    quant: &BitNetQuant,
    weight: &'a TensorInfo,
    scale: Option<&TensorInfo>,
    shape: [usize; 2],
) -> Result<Weights<'a>> {
    float_layout(weight)?;
    check_shape(weight, &shape)?;
    match (quant.scale, quant.online, scale) {
        (ScaleMeaning::Multiplier, true, None) => Ok(Weights::Online {
            weight,
            kind: Kind::Ternary,
        }),
        (_, true, Some(scale)) => Err(contradiction(
            scale,
            "a scale, but quantization_mode is online",
        )),
        (ScaleMeaning::Multiplier, false, Some(scale)) => Ok(Weights::Unpacked {
            weight,
            multiplier: multiplier(checkpoint, scale, quant.scale)?,
        }),
        (ScaleMeaning::Multiplier, false, None) => Err(contradiction(
            weight,
            format!(
                "{}, but quantization_mode offline needs a weight_scale",
                weight.dtype
            ),
        )),
        (ScaleMeaning::Divisor, _, _) => Err(contradiction(
            weight,
            format!(
                "{}, but linear_class bitlinear takes packed (U8) weights only",
                weight.dtype
            ),
        )),
    }
}

/// A dense matrix, which keeps its values.
pub(crate) fn dense(weight: &TensorInfo, shape: [usize; 2]) -> Result<Weights<'_>> {
    let layout = float_layout(weight)?;
    check_shape(weight, &shape)?;
    Ok(Weights::Dense { weight, layout })
}

/// The layout that holds the values of a float tensor exactly.
pub(crate) fn float_layout(tensor: &TensorInfo) -> Result<Layout> {
    match tensor.dtype {
        Dtype::F32 => Ok(Layout::F32),
        Dtype::F16 => Ok(Layout::F16),
        Dtype::BF16 => Ok(Layout::BF16),
        other => Err(ConvertError::unsupported(
            format!("tensor `{}` of type {other}", tensor.name),
            "known here: F32, F16, BF16",
        )),
    }
}

/// Compares a tensor's shape with what the config demands.
pub(crate) fn check_shape(tensor: &TensorInfo, expected: &[usize]) -> Result<()> {
    if tensor.shape == expected {
        return Ok(());
    }
    Err(contradiction(
        tensor,
        format!(
            "shape {:?}, but config.json makes it {expected:?}",
            tensor.shape
        ),
    ))
}

pub(crate) fn check_packed_shape(weight: &TensorInfo, [rows, cols]: [usize; 2]) -> Result<()> {
    if !rows.is_multiple_of(4) {
        return Err(contradiction(
            weight,
            format!("packed, but config.json gives it {rows} rows, not a multiple of 4"),
        ));
    }
    if weight.shape != [rows / 4, cols] {
        return Err(contradiction(
            weight,
            format!(
                "shape {:?}, but config.json makes it {:?} packed four rows to a byte",
                weight.shape,
                [rows / 4, cols]
            ),
        ));
    }
    Ok(())
}

pub(crate) fn multiplier(
    checkpoint: &Checkpoint,
    scale: &TensorInfo,
    meaning: ScaleMeaning,
) -> Result<f32> {
    let layout = float_layout(scale)?;
    if scale.shape.iter().product::<usize>() != 1 {
        return Err(contradiction(
            scale,
            format!("shape {:?}, expected one number", scale.shape),
        ));
    }
    let mut bytes = vec![0; scale.bytes as usize];
    checkpoint.read(scale, 0, &mut bytes)?;
    let mut value = [0.0f32];
    floats::decode(layout, &bytes, &mut value);
    let multiplier = match meaning {
        ScaleMeaning::Multiplier => value[0],
        ScaleMeaning::Divisor => 1.0 / value[0],
    };
    if multiplier.is_finite() && multiplier > 0.0 {
        return Ok(multiplier);
    }
    Err(contradiction(
        scale,
        format!(
            "the scale is {}, expected a positive finite number",
            value[0]
        ),
    ))
}

pub(crate) fn contradiction(tensor: &TensorInfo, reason: impl std::fmt::Display) -> ConvertError {
    ConvertError::malformed(format!("tensor `{}`", tensor.name), reason)
}
