//! Finding the tensors of linears with one or two bits per weight that are not BitNet's.

use onebit_format::SIGN_GROUP;
use safetensors::Dtype;

use crate::config::few_bits::{Kind, Mlx, OneBit};
use crate::config::quant::ScaleMeaning;
use crate::error::{ConvertError, Result};
use crate::linear::{self, Groups, Weights, check_shape, contradiction, float_layout};
use crate::source::Checkpoint;
use crate::source::shard::TensorInfo;

/// A linear of a model of the onebit convention: packed (U8) with its scales, or float masters without.
pub(crate) fn onebit<'a>(
    checkpoint: &'a Checkpoint,
    quant: OneBit,
    module: &str,
    [rows, cols]: [usize; 2],
) -> Result<Weights<'a>> {
    let [name, scale_name] = linear::names(module);
    let weight = checkpoint.tensor(&name)?;
    let kind = quant.weights;
    if weight.dtype != Dtype::U8 {
        float_layout(weight)?;
        check_shape(weight, &[rows, cols])?;
        if let Some(scale) = checkpoint.tensors.get(&scale_name) {
            return Err(contradiction(
                scale,
                "a scale, but its weight is not packed",
            ));
        }
        if quant.grouped {
            return Err(ConvertError::unsupported(
                format!("tensor `{name}`: float masters with group_size 128"),
                "scales of groups are known for packed weights only",
            ));
        }
        return Ok(Weights::Online { weight, kind });
    }
    match kind {
        Kind::Binary => check_shape(weight, &[rows, cols.div_ceil(8)])?,
        Kind::Ternary => linear::check_packed_shape(weight, [rows, cols])?,
    }
    let scale = checkpoint.tensor(&scale_name)?;
    if quant.grouped {
        check_group_shape(scale, rows, cols)?;
        return Ok(Weights::Grouped {
            weight,
            kind,
            groups: Groups::Scales(scale),
        });
    }
    let multiplier = linear::multiplier(checkpoint, scale, ScaleMeaning::Multiplier)?;
    Ok(Weights::Packed {
        weight,
        kind,
        multiplier,
    })
}

/// A matrix of an MLX checkpoint: words of codes with scales and biases, or, without scales, dense.
pub(crate) fn mlx<'a>(
    checkpoint: &'a Checkpoint,
    quant: Mlx,
    module: &str,
    [rows, cols]: [usize; 2],
) -> Result<Weights<'a>> {
    let weight = checkpoint.tensor(&format!("{module}.weight"))?;
    if weight.dtype != Dtype::U32 && !checkpoint.tensors.contains_key(&scales_name(module)) {
        return linear::dense(weight, [rows, cols]);
    }
    if weight.dtype != Dtype::U32 {
        return Err(contradiction(
            weight,
            format!("{}, but it has scales: expected U32", weight.dtype),
        ));
    }
    if !(cols * quant.bits).is_multiple_of(32) {
        return Err(contradiction(
            weight,
            format!(
                "{cols} columns of {} bits are no whole number of words",
                quant.bits
            ),
        ));
    }
    check_shape(weight, &[rows, cols * quant.bits / 32])?;
    let scales = checkpoint.tensor(&scales_name(module))?;
    let biases = checkpoint.tensor(&biases_name(module))?;
    check_group_shape(scales, rows, cols)?;
    check_group_shape(biases, rows, cols)?;
    Ok(Weights::Grouped {
        weight,
        kind: quant.kind(),
        groups: Groups::Affine { scales, biases },
    })
}

fn scales_name(module: &str) -> String {
    format!("{module}.scales")
}

fn biases_name(module: &str) -> String {
    format!("{module}.biases")
}

/// A float tensor with one number per group of each row.
fn check_group_shape(tensor: &TensorInfo, rows: usize, cols: usize) -> Result<()> {
    float_layout(tensor)?;
    check_shape(tensor, &[rows, cols.div_ceil(SIGN_GROUP)])
}
