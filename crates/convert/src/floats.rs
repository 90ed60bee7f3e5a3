//! Little-endian float bytes of a checkpoint into `f32`, exactly.

use half::{bf16, f16};
use onebit_format::Layout;

use crate::error::{ConvertError, Result};

/// Decodes `out.len()` numbers of a float `layout`.
pub(crate) fn decode(layout: Layout, bytes: &[u8], out: &mut [f32]) {
    match layout {
        Layout::F16 => each(bytes, out, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Layout::BF16 => each(bytes, out, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        Layout::F32 => each(bytes, out, f32::from_le_bytes),
        other => unreachable!("{other} is not the type of a source tensor"),
    }
}

fn each<const N: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    let (numbers, rest) = bytes.as_chunks::<N>();
    assert!(
        rest.is_empty() && numbers.len() == out.len(),
        "bytes and numbers differ in length"
    );
    for (out, bytes) in out.iter_mut().zip(numbers) {
        *out = value(*bytes);
    }
}

/// Fails on the first number that is infinite or not a number; `first` is the index of
/// `values[0]` in the tensor, whose rows are `cols` long.
pub(crate) fn check_finite(tensor: &str, values: &[f32], first: u64, cols: usize) -> Result<()> {
    if values.iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    let at = values
        .iter()
        .position(|value| !value.is_finite())
        .unwrap_or_default();
    let (row, col) = position(first + at as u64, cols);
    Err(ConvertError::malformed(
        format!("tensor `{tensor}`"),
        format!(
            "{} at row {row}, column {col}, expected finite numbers",
            values[at]
        ),
    ))
}

/// Row and column of element `index`.
pub(crate) fn position(index: u64, cols: usize) -> (u64, u64) {
    let cols = cols.max(1) as u64;
    (index / cols, index % cols)
}
