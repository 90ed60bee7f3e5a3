//! Float tensors of the source.

use half::{bf16, f16};
use safetensors::Dtype;

use crate::error::{ConvertError, Result};
use crate::source::Checkpoint;
use crate::source::shard::TensorInfo;

/// A float tensor of any shape.
pub(super) fn vector(checkpoint: &Checkpoint, name: &str) -> Result<Vec<f32>> {
    let tensor = checkpoint.tensor(name)?;
    let mut bytes = vec![0; tensor.bytes as usize];
    checkpoint.read(tensor, 0, &mut bytes)?;
    decode(tensor, &bytes)
}

/// A float tensor, if the checkpoint has one of that name.
pub(super) fn optional_vector(checkpoint: &Checkpoint, name: &str) -> Result<Option<Vec<f32>>> {
    let present = checkpoint.tensors.contains_key(name);
    present.then(|| vector(checkpoint, name)).transpose()
}

/// Bytes of a float tensor as numbers.
pub(super) fn decode(tensor: &TensorInfo, bytes: &[u8]) -> Result<Vec<f32>> {
    let pairs = || bytes.as_chunks::<2>().0.iter().copied();
    match tensor.dtype {
        Dtype::F32 => {
            let quads = bytes.as_chunks::<4>().0.iter().copied();
            Ok(quads.map(f32::from_le_bytes).collect())
        }
        Dtype::BF16 => Ok(pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect()),
        Dtype::F16 => Ok(pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect()),
        other => Err(ConvertError::unsupported(
            format!("tensor `{}` of type {other}", tensor.name),
            "verification reads F32, F16 and BF16",
        )),
    }
}
