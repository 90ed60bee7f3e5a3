//! Looking up the sums of fours of activations: one `tbl` for 16 rows. See
//! [`lookup`](crate::body::lookup).

use std::arch::aarch64::*;

use super::quarter;
use crate::body::lookup::{BAND, STEP, Table};

/// 16-bit sums of the bytes of 16 rows: of all, each with 256 times its odd neighbour, and of the odd ones.
#[derive(Clone, Copy)]
struct Pairs {
    all: uint16x8_t,
    odd: uint16x8_t,
}

impl Pairs {
    /// Adds unsigned bytes.
    ///
    /// # Safety
    /// The CPU must have NEON.
    #[inline(always)]
    unsafe fn add(&mut self, bytes: uint8x16_t) {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let pairs = vreinterpretq_u16_u8(bytes);
            self.all = vaddq_u16(self.all, pairs);
            self.odd = vsraq_n_u16::<8>(self.odd, pairs);
        }
    }

    /// The sums of the even bytes, which wrap right however often `all` has.
    ///
    /// # Safety
    /// The CPU must have NEON.
    #[inline(always)]
    unsafe fn even(self) -> uint16x8_t {
        // SAFETY: the caller vouches for the instructions.
        unsafe { vsubq_u16(self.all, vshlq_n_u16::<8>(self.odd)) }
    }
}

/// [`Set::looked_up`](crate::sets::Set::looked_up). A function of its own: inlined into a loop over bands, the tables of a step would all be loaded before
/// the loop, into more registers than there are.
///
/// # Safety
/// The CPU must have NEON.
#[inline(never)]
#[target_feature(enable = "neon")]
pub(in crate::sets) unsafe fn looked_up(
    atoms: &[[u8; 64]; STEP],
    tables: &[Table; STEP],
    ahead: *const u8,
    sums: &mut [i32; BAND],
) {
    // SAFETY: the caller vouches for the instructions; four sums are 16 bytes.
    unsafe {
        for q in 0..4 {
            let zero = vdupq_n_u16(0);
            let none = Pairs {
                all: zero,
                odd: zero,
            };
            let (mut low, mut high) = (none, none);
            for half in 0..2 {
                let mut rest = vdupq_n_u8(0);
                for pair in 4 * half..4 * half + 4 {
                    if pair % 2 == 0 {
                        super::prefetch(ahead.wrapping_add(64 * (4 * q + pair / 2)));
                    }
                    let [a, b] = [2 * pair, 2 * pair + 1];
                    let a = atom(&atoms[a], &tables[a], q);
                    let b = atom(&atoms[b], &tables[b], q);
                    low.add(vaddq_u8(a[0], b[0]));
                    rest = vaddq_u8(rest, vaddq_u8(a[1], b[1]));
                }
                high.add(rest);
            }
            let even = vaddq_u16(low.even(), vshlq_n_u16::<6>(high.even()));
            let odd = vaddq_u16(low.odd, vshlq_n_u16::<6>(high.odd));
            let (even, odd) = (vreinterpretq_s32_u16(even), vreinterpretq_s32_u16(odd));
            // Byte m of a lane is row 16 m and after.
            let rows = [
                vshrq_n_s32::<16>(vshlq_n_s32::<16>(even)),
                vshrq_n_s32::<16>(vshlq_n_s32::<16>(odd)),
                vshrq_n_s32::<16>(even),
                vshrq_n_s32::<16>(odd),
            ];
            for (sums, rows) in sums.as_chunks_mut::<16>().0.iter_mut().zip(rows) {
                vst1q_s32(sums.as_chunks_mut::<4>().0[q].as_mut_ptr(), rows);
            }
        }
    }
}

/// What quarter `q` of an atom adds to each row: low 6 bits, and the rest.
///
/// # Safety
/// The CPU must have NEON.
#[inline(always)]
unsafe fn atom(atom: &[u8; 64], Table(table): &Table, q: usize) -> [uint8x16_t; 2] {
    // SAFETY: the caller vouches for the instructions; each part of a table is 16 bytes.
    unsafe {
        let bits = quarter(atom, q);
        let first = vandq_u8(bits, vdupq_n_u8(15));
        let last = vshrq_n_u8::<4>(bits);
        let mut found = [vdupq_n_u8(0); 2];
        for (j, found) in found.iter_mut().enumerate() {
            let first = vqtbl1q_u8(vld1q_u8(table[j].as_ptr()), first);
            let last = vqtbl1q_u8(vld1q_u8(table[2 + j].as_ptr()), last);
            *found = vaddq_u8(first, last);
        }
        found
    }
}
