//! Counting the bits in which rows differ: with the instruction for it (AVX512_VPOPCNTDQ) where the CPU
//! has it, else by a table of nibbles.

use std::arch::x86_64::*;

use super::{Avx512, load};
use crate::body::ahead::Ahead;

/// [`Set::differing`](crate::sets::Set::differing), 64 bits at a time.
///
/// # Safety
/// The CPU must have AVX-512 F, BW, VL and VPOPCNTDQ.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq")]
pub(super) unsafe fn with_instruction<A: Ahead, const R: usize, const T: usize>(
    set: Avx512,
    w: [&[[u8; 64]]; R],
    mut ahead: A,
    x: [&[[u8; 64]]; T],
    mask: &[u8; 64],
) -> [[u32; T]; R] {
    let mut acc = [[_mm512_setzero_si512(); T]; R];
    let last = w[0].len() - 1;
    for a in 0..=last {
        // SAFETY: the caller vouches for the instructions.
        let bits = unsafe { differing_bits(set, &mut ahead, &w, &x, a, mask, a == last) };
        for r in 0..R {
            for t in 0..T {
                let ones = _mm512_popcnt_epi64(bits[r][t]);
                acc[r][t] = _mm512_add_epi64(acc[r][t], ones);
            }
        }
    }
    // SAFETY: the caller vouches for the instructions.
    unsafe { totals(acc) }
}

/// [`Set::differing`](crate::sets::Set::differing), a nibble at a time.
///
/// # Safety
/// The CPU must have AVX-512 F and BW.
#[inline(always)]
pub(super) unsafe fn with_table<A: Ahead, const R: usize, const T: usize>(
    set: Avx512,
    w: [&[[u8; 64]]; R],
    mut ahead: A,
    x: [&[[u8; 64]]; T],
    mask: &[u8; 64],
) -> [[u32; T]; R] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let table = _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
        let (table, low_half) = (_mm512_broadcast_i32x4(table), _mm512_set1_epi8(15));
        let zero = _mm512_setzero_si512();
        let mut acc = [[zero; T]; R];
        let last = w[0].len() - 1;
        for a in 0..=last {
            let bits = differing_bits(set, &mut ahead, &w, &x, a, mask, a == last);
            for r in 0..R {
                for t in 0..T {
                    let low = _mm512_and_si512(bits[r][t], low_half);
                    let high = _mm512_srli_epi16::<4>(bits[r][t]);
                    let high = _mm512_and_si512(high, low_half);
                    let ones = _mm512_add_epi8(
                        _mm512_shuffle_epi8(table, low),
                        _mm512_shuffle_epi8(table, high),
                    );
                    acc[r][t] = _mm512_add_epi64(acc[r][t], _mm512_sad_epu8(ones, zero));
                }
            }
        }
        totals(acc)
    }
}

/// The exclusive or of atom `a` of each row, under `mask` where it is the last. A later line of each row's stream is asked for.
///
/// # Safety
/// The CPU must have AVX-512F.
#[inline(always)]
unsafe fn differing_bits<A: Ahead, const R: usize, const T: usize>(
    set: Avx512,
    ahead: &mut A,
    w: &[&[[u8; 64]]; R],
    x: &[&[[u8; 64]]; T],
    a: usize,
    mask: &[u8; 64],
    masked: bool,
) -> [[__m512i; T]; R] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        let mut bits = [[_mm512_setzero_si512(); T]; R];
        for r in 0..R {
            ahead.request(set, r, 64 * a);
            for t in 0..T {
                bits[r][t] = _mm512_xor_si512(load(&w[r][a]), load(&x[t][a]));
                if masked {
                    bits[r][t] = _mm512_and_si512(bits[r][t], load(mask));
                }
            }
        }
        bits
    }
}

/// The lanes of each sum added.
///
/// # Safety
/// The CPU must have AVX-512F.
#[inline(always)]
unsafe fn totals<const R: usize, const T: usize>(acc: [[__m512i; T]; R]) -> [[u32; T]; R] {
    let mut counts = [[0; T]; R];
    for r in 0..R {
        for t in 0..T {
            // SAFETY: the caller vouches for the instruction.
            counts[r][t] = unsafe { _mm512_reduce_add_epi64(acc[r][t]) } as u32;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::ahead::tests::Nothing;

    /// The table is what this machine would use without the instruction; both are tried where both run.
    #[test]
    fn the_table_counts_like_the_instruction() {
        let features = is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vpopcntdq");
        if !features {
            eprintln!("not compared: this CPU lacks AVX-512 BW or VPOPCNTDQ");
            return;
        }
        let atom = |seed: usize| std::array::from_fn(|j| ((j * 37 + seed * 101) ^ (j >> 3)) as u8);
        let w: Vec<[u8; 64]> = (0..3).map(atom).collect();
        let x: Vec<[u8; 64]> = (7..10).map(atom).collect();
        let mask = atom(20);
        #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
        fn table(w: &[[u8; 64]], x: &[[u8; 64]], mask: &[u8; 64]) -> [[u32; 1]; 1] {
            // SAFETY: this function has the features.
            unsafe { with_table(Avx512::assume(), [w], Nothing, [x], mask) }
        }
        // SAFETY: the features were detected.
        let (a, b) = unsafe {
            let set = Avx512::assume();
            let a = with_instruction(set, [&w], Nothing, [&x], &mask);
            (a, table(&w, &x, &mask))
        };
        assert_eq!(a, b);
        assert_eq!(a[0][0], crate::sets::portable::differing(&w, &x, &mask));
    }
}
