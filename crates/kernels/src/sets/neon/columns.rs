//! Ternary weights stored transposed: what some inputs contribute to the outputs of a strip.

use std::arch::aarch64::*;

use super::quarter;
use crate::body::columns::{BATCH, Batch, STRIP, Strip};

/// Adds `code * x` of the batch's inputs to the sums of a strip, a quarter of an atom (16 outputs of
/// each plane) at a time. Over a batch of 64 inputs a 16-bit lane reaches 64 * 3 * 128 = 24576 at
/// most.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
pub(in crate::sets) unsafe fn t2_columns(strip: Strip<'_>, batch: &Batch, sums: &mut [i32; STRIP]) {
    const { assert!(BATCH * 3 * 128 <= i16::MAX as usize) };
    let listed = batch.inputs.iter().zip(&batch.codes).take(batch.len);
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mask = vdupq_n_u8(3);
        for q in 0..4 {
            let mut acc = [[vdupq_n_s16(0); 2]; 4];
            for (input, code) in listed.clone() {
                let x = vdupq_n_s8(*code);
                let mut bytes = quarter(strip.atom(*input), q);
                for acc in &mut acc {
                    let codes = vreinterpretq_s8_u8(vandq_u8(bytes, mask));
                    acc[0] = vmlal_s8(acc[0], vget_low_s8(codes), vget_low_s8(x));
                    acc[1] = vmlal_high_s8(acc[1], codes, x);
                    bytes = vshrq_n_u8::<2>(bytes);
                }
            }
            for (plane, acc) in sums.as_chunks_mut::<64>().0.iter_mut().zip(acc) {
                let outputs = plane[16 * q..][..16].as_chunks_mut::<4>().0;
                let wide = [
                    vmovl_s16(vget_low_s16(acc[0])),
                    vmovl_high_s16(acc[0]),
                    vmovl_s16(vget_low_s16(acc[1])),
                    vmovl_high_s16(acc[1]),
                ];
                for (sums, wide) in outputs.iter_mut().zip(wide) {
                    vst1q_s32(sums.as_mut_ptr(), vaddq_s32(vld1q_s32(sums.as_ptr()), wide));
                }
            }
        }
    }
}
