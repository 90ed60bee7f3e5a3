//! What the byte products can do at best: registers only.

use std::arch::asm;
use std::arch::x86_64::*;

/// Sums that stand in registers beside the factors.
const SUMS: usize = 24;

/// Products of a turn, of 64 bytes to a register.
const PRODUCTS: u64 = SUMS as u64 * 64;

/// Does at least so many products with `vpdpbusd`. Returns a number that depends on all of them.
///
/// # Safety
/// The CPU must have AVX-512 F, BW and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn fours(products: u64) -> i32 {
    let (mut w, x) = (_mm512_set1_epi8(1), _mm512_set1_epi8(1));
    let mut sums = [_mm512_setzero_si512(); SUMS];
    for _ in 0..products.div_ceil(PRODUCTS) {
        for sum in &mut sums {
            // The same register, of which the compiler does not know that: equal products would be done once.
            // SAFETY: there is no instruction.
            unsafe {
                asm!("/* {} */", inout(zmm_reg) w, options(pure, nomem, nostack, preserves_flags))
            }
            *sum = _mm512_dpbusd_epi32(*sum, w, x);
        }
    }
    let mut all = sums[0];
    for sum in &sums[1..] {
        all = _mm512_xor_si512(all, *sum);
    }
    _mm512_reduce_add_epi32(all)
}
