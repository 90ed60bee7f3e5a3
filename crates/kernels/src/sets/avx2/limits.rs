//! What the byte products can do at best: registers only.

use std::arch::asm;
use std::arch::x86_64::*;

/// Sums that stand in registers beside the factors.
const SUMS: usize = 12;

/// Products of a turn, of 32 bytes to a register.
const PRODUCTS: u64 = SUMS as u64 * 32;

/// Does at least so many products with `vpmaddubsw` and `vpaddw`. Returns a number that depends on all of them.
///
/// # Safety
/// The CPU must have AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn pairs(products: u64) -> i32 {
    let (mut w, x) = (_mm256_set1_epi8(1), _mm256_set1_epi8(1));
    let mut sums = [_mm256_setzero_si256(); SUMS];
    for _ in 0..products.div_ceil(PRODUCTS) {
        for sum in &mut sums {
            w = another(w);
            *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(w, x));
        }
    }
    folded(sums)
}

/// The same with the `vpdpbusd` of AVX-VNNI.
///
/// # Safety
/// The CPU must have AVX2 and AVX-VNNI.
#[target_feature(enable = "avx2,avxvnni")]
pub(super) unsafe fn fours(products: u64) -> i32 {
    let (mut w, x) = (_mm256_set1_epi8(1), _mm256_set1_epi8(1));
    let mut sums = [_mm256_setzero_si256(); SUMS];
    for _ in 0..products.div_ceil(PRODUCTS) {
        for sum in &mut sums {
            w = another(w);
            *sum = _mm256_dpbusd_avx_epi32(*sum, w, x);
        }
    }
    folded(sums)
}

/// The same register, of which the compiler does not know that: equal products would be done once.
#[target_feature(enable = "avx2")]
fn another(mut w: __m256i) -> __m256i {
    // SAFETY: there is no instruction.
    unsafe { asm!("/* {} */", inout(ymm_reg) w, options(pure, nomem, nostack, preserves_flags)) }
    w
}

#[target_feature(enable = "avx2")]
fn folded(sums: [__m256i; SUMS]) -> i32 {
    let mut all = sums[0];
    for sum in &sums[1..] {
        all = _mm256_xor_si256(all, *sum);
    }
    _mm_cvtsi128_si32(_mm256_castsi256_si128(all))
}
