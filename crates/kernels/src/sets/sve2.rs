//! SVE2: registers of 16 to 256 bytes, whose length the code never names.
//!
//! Rust has no vectors of unknown length, so the loops over whole rows are inline assembly (see
//! [`rows`]) and everything else, floats above all, is that of NEON: 16 virtual lanes are four of its
//! registers, whatever the length of the others.
//!
//! The set asks for `i8mm` too, the matrix products of [`neon_i8mm`](super::neon_i8mm) in every 16
//! bytes of a register. No CPU is known that has SVE2 without them.

use std::arch::aarch64::*;

use super::Set;
use super::neon_dotprod::{group_dots, planes};
use crate::body::ahead::Ahead;
use crate::body::grouped::MAX_GROUPS;
use crate::body::int::Codes;

mod popcount;
mod rows;

crate::sets::kernel_set!(
    "sve2",
    Sve2,
    target_feature(enable = "neon,dotprod,i8mm,sve2")
);

/// The features this CPU lacks.
pub(crate) fn missing() -> Vec<&'static str> {
    super::lacking(&[
        (
            "dotprod",
            std::arch::is_aarch64_feature_detected!("dotprod"),
        ),
        ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
        ("sve2", std::arch::is_aarch64_feature_detected!("sve2")),
    ])
}

/// Proof that the CPU has this set's features.
#[derive(Clone, Copy)]
pub(crate) struct Sve2(());

impl Sve2 {
    /// # Safety
    /// The CPU must have SVE2, dot products and matrix products.
    #[inline(always)]
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

impl Set for Sve2 {
    const MANY_REGISTERS: bool = true;
    super::neon::shared!();
    super::neon_dotprod::in_lanes!();

    #[inline(always)]
    fn row_sums<L: Codes<P>, A: Ahead, const P: usize, const R: usize, const T: usize>(
        self,
        w: [&[[u8; 64]]; R],
        _ahead: A,
        x: [&[[[i8; 64]; P]]; T],
    ) -> [[i32; T]; R] {
        let mut sums = [[0; T]; R];
        let mut t = 0;
        // SAFETY: the token proves the features.
        unsafe {
            while R == 4 && T - t >= 4 {
                let x = [x[t], x[t + 1], x[t + 2], x[t + 3]];
                write(&mut sums, t, rows::tiles_4x4::<P>(four(w), x));
                t += 4;
            }
            while R == 4 && T - t >= 2 {
                write(
                    &mut sums,
                    t,
                    rows::tiles_4x2::<P>(four(w), [x[t], x[t + 1]]),
                );
                t += 2;
            }
            while t < T {
                write(
                    &mut sums,
                    t,
                    rows::dots::<P>(four(w), x[t]).map(|sum| [sum]),
                );
                t += 1;
            }
        }
        sums
    }

    #[inline(always)]
    fn differing<A: Ahead, const R: usize, const T: usize>(
        self,
        w: [&[[u8; 64]]; R],
        _ahead: A,
        x: [&[[u8; 64]]; T],
        mask: &[u8; 64],
    ) -> [[u32; T]; R] {
        let mut counts = [[0; T]; R];
        let last = w[0].len() - 1;
        for t in 0..T {
            let (rows, ends) = (w.map(|row| &row[..last]), w.map(|row| &row[last..]));
            // SAFETY: the token proves the features.
            let (rows, ends) = unsafe {
                (
                    popcount::differing(four(rows), &x[t][..last], &[0xff; 64]),
                    popcount::differing(four(ends), &x[t][last..], mask),
                )
            };
            for r in 0..R {
                counts[r][t] = rows[r] + ends[r];
            }
        }
        counts
    }

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

/// Four rows; where there are fewer, the last again.
#[inline(always)]
fn four<T: Copy, const R: usize>(rows: [T; R]) -> [T; 4] {
    [
        rows[0],
        rows[1.min(R - 1)],
        rows[2.min(R - 1)],
        rows[3.min(R - 1)],
    ]
}

/// Sums of the rows there are, for the tokens from `t` on.
#[inline(always)]
fn write<const R: usize, const T: usize, const N: usize>(
    sums: &mut [[i32; T]; R],
    t: usize,
    found: [[i32; N]; 4],
) {
    for (sums, found) in sums.iter_mut().zip(found) {
        sums[t..t + N].copy_from_slice(&found);
    }
}
