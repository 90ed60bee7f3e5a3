//! NEON with the dot product extension (Armv8.2 `dotprod`, as on the Cortex-A76): `sdot` adds four
//! products of signed bytes to each of four `i32` lanes, without rounding or saturation.
//!
//! Codes of up to four bits are small positive signed bytes, so that the signed product serves all
//! layouts.

use std::arch::aarch64::*;
use std::arch::asm;

use super::Set;
use super::neon::products::codes;
use super::neon::{prefetch, quarter, quarter_i8};
use crate::body::grouped::MAX_GROUPS;
use crate::body::rows16::{ATOMS, BAND, Fours, Step};

crate::sets::kernel_set!(
    "neon-dotprod",
    NeonDotprod,
    target_feature(enable = "neon,dotprod")
);

/// The features this CPU lacks.
pub(crate) fn missing() -> Vec<&'static str> {
    super::lacking(&[(
        "dotprod",
        std::arch::is_aarch64_feature_detected!("dotprod"),
    )])
}

/// Proof that the CPU has this set's features.
#[derive(Clone, Copy)]
pub(crate) struct NeonDotprod(());

impl NeonDotprod {
    /// # Safety
    /// The CPU must have NEON and its dot products.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

/// Adds the dot products of four bytes each.
///
/// # Safety
/// The CPU must have `dotprod`.
#[inline(always)]
unsafe fn sdot(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the caller vouches for the instruction, which works on registers alone.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {a:v}.16b, {b:v}.16b",
            acc = inout(vreg) acc,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

/// Adds the products of atoms of `P` planes of codes of `BITS` bits: each code is unpacked once for
/// `T` tokens, each activation loaded once for `R` rows.
///
/// # Safety
/// The CPU must have `dotprod`.
#[inline(always)]
pub(super) unsafe fn planes<const P: usize, const BITS: i32, const R: usize, const T: usize>(
    acc: &mut [[int32x4_t; T]; R],
    w: [&[u8; 64]; R],
    x: [&[[i8; 64]; P]; T],
) {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mask = vdupq_n_u8(0xff >> (8 - BITS));
        for q in 0..4 {
            let mut bytes = [vdupq_n_u8(0); R];
            for r in 0..R {
                bytes[r] = quarter(w[r], q);
            }
            for p in 0..P {
                let mut parts = [vdupq_n_s8(0); T];
                for t in 0..T {
                    parts[t] = quarter_i8(&x[t][p], q);
                }
                for r in 0..R {
                    let codes = vreinterpretq_s8_u8(vandq_u8(bytes[r], mask));
                    bytes[r] = vshrq_n_u8::<BITS>(bytes[r]);
                    for t in 0..T {
                        acc[r][t] = sdot(acc[r][t], codes, parts[t]);
                    }
                }
            }
        }
    }
}

/// The sums of `code * x` of each group of an atom.
///
/// # Safety
/// The CPU must have `dotprod`.
#[inline(always)]
pub(super) unsafe fn group_dots<const BITS: usize, const R: usize, const T: usize>(
    w: [&[u8; 64]; R],
    x: [&[[i8; 64]]; T],
) -> [[[i32; R]; MAX_GROUPS]; T] {
    let (planes, group_planes) = (8 / BITS, if BITS == 4 { 1 } else { 2 });
    let mut dots = [[[0; R]; MAX_GROUPS]; T];
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        for r in 0..R {
            for g in 0..planes / group_planes {
                let mut sums = [vdupq_n_s32(0); T];
                for q in 0..4 {
                    for p in g * group_planes..(g + 1) * group_planes {
                        let codes = codes::<BITS>(w[r], q, p);
                        for t in 0..T {
                            sums[t] = sdot(sums[t], codes, quarter_i8(&x[t][p], q));
                        }
                    }
                }
                for t in 0..T {
                    dots[t][g][r] = vaddvq_s32(sums[t]);
                }
            }
        }
    }
    dots
}

/// Adds the dot products of four bytes each with bytes `4 P..4 P + 4` of `b`.
///
/// # Safety
/// The CPU must have `dotprod`.
#[inline(always)]
unsafe fn sdot_lane<const P: usize>(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the caller vouches for the instruction, which works on registers alone.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {a:v}.16b, {b:v}.4b[{p}]",
            acc = inout(vreg) acc,
            a = in(vreg) a,
            b = in(vreg) b,
            p = const P,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

/// [`Set::lane_sums`] of a band, four rows to a register.
///
/// # Safety
/// The CPU must have `dotprod`.
#[inline(always)]
pub(super) unsafe fn lane_sums<const T: usize>(
    step: &Step,
    x: [&Fours; T],
    ahead: *const u8,
) -> [[i32; BAND]; T] {
    let mut sums = [[0; BAND]; T];
    (0..ATOMS).for_each(|a| prefetch(ahead.wrapping_add(64 * a)));
    // SAFETY: the caller vouches for the instructions; four sums are 16 bytes.
    unsafe {
        let mut acc = [[vdupq_n_s32(0); 4]; T];
        for a in 0..ATOMS {
            let mut fours = [vdupq_n_s8(0); T];
            for t in 0..T {
                let x: &[[i8; 16]; ATOMS] = bytemuck::cast_ref(x[t]);
                fours[t] = vld1q_s8(x[a].as_ptr());
            }
            for q in 0..4 {
                let atom = quarter(&step[a], q);
                let bits = [
                    atom,
                    vshrq_n_u8::<2>(atom),
                    vshrq_n_u8::<4>(atom),
                    vshrq_n_u8::<6>(atom),
                ];
                let mut codes = [vdupq_n_s8(0); 4];
                for p in 0..4 {
                    codes[p] = vreinterpretq_s8_u8(vandq_u8(bits[p], vdupq_n_u8(3)));
                }
                for t in 0..T {
                    let mut sum = sdot_lane::<0>(acc[t][q], codes[0], fours[t]);
                    sum = sdot_lane::<1>(sum, codes[1], fours[t]);
                    sum = sdot_lane::<2>(sum, codes[2], fours[t]);
                    acc[t][q] = sdot_lane::<3>(sum, codes[3], fours[t]);
                }
            }
        }
        for t in 0..T {
            for q in 0..4 {
                vst1q_s32(sums[t].as_chunks_mut::<4>().0[q].as_mut_ptr(), acc[t][q]);
            }
        }
    }
    sums
}

/// [`Set::lane_sums`] of the sets that have `dotprod`, to be written into their `impl Set`.
macro_rules! in_lanes {
    () => {
        #[inline(always)]
        fn lane_sums<const R: usize, const T: usize>(
            self,
            steps: [&$crate::body::rows16::Step; R],
            x: [&$crate::body::rows16::Fours; T],
            ahead: [$crate::body::ahead::Lines; R],
        ) -> $crate::body::rows16::LaneSums<R, T> {
            let mut sums = [[[0; $crate::body::rows16::BAND]; T]; R];
            for r in 0..R {
                // SAFETY: the token proves the features.
                sums[r] =
                    unsafe { $crate::sets::neon_dotprod::lane_sums(steps[r], x, ahead[r][0]) };
            }
            sums
        }
    };
}
pub(super) use in_lanes;

impl Set for NeonDotprod {
    const MANY_REGISTERS: bool = true;
    super::neon::shared!();
    super::neon::differing!();
    in_lanes!();

    #[inline(always)]
    fn t2<const R: usize, const T: usize>(
        self,
        acc: &mut [[int32x4_t; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 4]; T],
    ) {
        // SAFETY: the token proves the features.
        unsafe { planes::<4, 2, R, T>(acc, w, x) }
    }

    #[inline(always)]
    fn b1<const R: usize, const T: usize>(
        self,
        acc: &mut [[int32x4_t; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 8]; T],
    ) {
        // SAFETY: the token proves the features.
        unsafe { planes::<8, 1, R, T>(acc, w, x) }
    }

    #[inline(always)]
    fn i8<const R: usize, const T: usize>(
        self,
        acc: &mut [[int32x4_t; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 1]; T],
    ) {
        // SAFETY: the token proves the features.
        unsafe { planes::<1, 8, R, T>(acc, w, x) }
    }

    #[inline(always)]
    fn group_dots<const BITS: usize, const R: usize, const T: usize>(
        self,
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]]; T],
    ) -> [[[i32; R]; MAX_GROUPS]; T] {
        // SAFETY: the token proves the features.
        unsafe { group_dots::<BITS, R, T>(w, x) }
    }
}
