//! Ternary weights of 16 rows side by side. Codes need not be shifted to the bottom of their bytes: `vpdpbusd` takes them where they
//! are, and one shift of 16 sums makes up for it. See [`rows16`](crate::body::rows16).

use std::arch::x86_64::*;

use super::load;
use crate::body::ahead::Lines;
use crate::body::rows16::{ATOMS, BAND, Fours, LaneSums, Step};

/// [`Set::lane_sums`](crate::sets::Set::lane_sums).
///
/// # Safety
/// The CPU must have this set's features.
#[inline(always)]
pub(super) unsafe fn lane_sums<const R: usize, const T: usize>(
    steps: [&Step; R],
    x: [&Fours; T],
    ahead: [Lines; R],
) -> LaneSums<R, T> {
    let mut sums = [[[0; BAND]; T]; R];
    // SAFETY: the caller vouches for the features.
    unsafe {
        if T == 1 {
            let all = abreast(steps, x[0], ahead);
            for r in 0..R {
                sums[r][0] = all[r];
            }
            return sums;
        }
        for r in (0..R / 2 * 2).step_by(2) {
            let both = shared([steps[r], steps[r + 1]], &x, [ahead[r], ahead[r + 1]]);
            [sums[r], sums[r + 1]] = both;
        }
        if !R.is_multiple_of(2) {
            sums[R - 1] = alone(steps[R - 1], &x, ahead[R - 1]);
        }
    }
    sums
}

/// One token, whose bands take turns atom by atom, so that memory is read evenly. The sums of field `p` are multiples of `4^p`, of at
/// most `32 * 192 * 128`.
///
/// # Safety
/// The CPU must have this set's features.
#[inline(always)]
unsafe fn abreast<const R: usize>(
    steps: [&Step; R],
    x: &Fours,
    ahead: [Lines; R],
) -> [[i32; BAND]; R] {
    let mut sums = [[0; BAND]; R];
    // SAFETY: the caller vouches for the instructions; 16 sums are 64 bytes.
    unsafe {
        let mut acc = [[_mm512_setzero_si512(); 4]; R];
        for a in 0..ATOMS {
            let mut fours = [_mm512_setzero_si512(); 4];
            for p in 0..4 {
                fours[p] = _mm512_set1_epi32(bytemuck::cast(x[4 * a + p]));
            }
            for r in 0..R {
                let atom = load(&steps[r][a]);
                request(ahead[r], a);
                for p in 0..4 {
                    let codes = _mm512_and_si512(atom, fields(p));
                    acc[r][p] = _mm512_dpbusd_epi32(acc[r][p], codes, fours[p]);
                }
            }
        }
        for r in 0..R {
            put(acc[r], &mut sums[r]);
        }
    }
    sums
}

/// The sums of the fields of a band added up.
///
/// # Safety
/// The CPU must have AVX-512F.
#[inline(always)]
unsafe fn put(acc: [__m512i; 4], sums: &mut [i32; BAND]) {
    // SAFETY: the caller vouches for the instructions; 16 sums are 64 bytes.
    unsafe {
        let low = _mm512_add_epi32(acc[0], _mm512_srai_epi32::<2>(acc[1]));
        let high = _mm512_add_epi32(
            _mm512_srai_epi32::<4>(acc[2]),
            _mm512_srai_epi32::<6>(acc[3]),
        );
        _mm512_storeu_si512(sums.as_mut_ptr().cast(), _mm512_add_epi32(low, high));
    }
}

/// One band. The sums of field `p` are multiples of `4^p`, of at most `32 * 192 * 128`.
///
/// # Safety
/// The CPU must have this set's features.
#[inline(always)]
unsafe fn alone<const T: usize>(step: &Step, x: &[&Fours; T], ahead: Lines) -> [[i32; BAND]; T] {
    let mut sums = [[0; BAND]; T];
    // SAFETY: the caller vouches for the instructions; 16 sums are 64 bytes.
    unsafe {
        let mut acc = [[_mm512_setzero_si512(); 4]; T];
        for a in 0..ATOMS {
            let atom = load(&step[a]);
            request(ahead, a);
            for p in 0..4 {
                let codes = _mm512_and_si512(atom, fields(p));
                for t in 0..T {
                    let four = _mm512_set1_epi32(bytemuck::cast(x[t][4 * a + p]));
                    acc[t][p] = _mm512_dpbusd_epi32(acc[t][p], codes, four);
                }
            }
        }
        for t in 0..T {
            put(acc[t], &mut sums[t]);
        }
    }
    sums
}

/// Two bands, which share the activations: with several tokens their loads would take longer than the products. The upper two fields
/// are shifted to the place of the lower, so that there are half as many sums.
///
/// # Safety
/// The CPU must have this set's features.
#[inline(always)]
unsafe fn shared<const T: usize>(
    steps: [&Step; 2],
    x: &[&Fours; T],
    ahead: [Lines; 2],
) -> [[[i32; BAND]; T]; 2] {
    let mut sums = [[[0; BAND]; T]; 2];
    // SAFETY: the caller vouches for the instructions; 16 sums are 64 bytes.
    unsafe {
        let mut acc = [[[_mm512_setzero_si512(); 2]; T]; 2];
        for a in 0..ATOMS {
            let mut atoms = [_mm512_setzero_si512(); 2];
            for r in 0..2 {
                atoms[r] = load(&steps[r][a]);
                request(ahead[r], a);
            }
            for p in 0..4 {
                let mut codes = atoms;
                for r in 0..2 {
                    codes[r] = _mm512_and_si512(atoms[r], fields(p % 2));
                    if p == 1 {
                        atoms[r] = _mm512_srli_epi16::<4>(atoms[r]);
                    }
                }
                for t in 0..T {
                    let four = _mm512_set1_epi32(bytemuck::cast(x[t][4 * a + p]));
                    for r in 0..2 {
                        acc[r][t][p % 2] = _mm512_dpbusd_epi32(acc[r][t][p % 2], codes[r], four);
                    }
                }
            }
        }
        for r in 0..2 {
            for t in 0..T {
                let all = _mm512_add_epi32(acc[r][t][0], _mm512_srai_epi32::<2>(acc[r][t][1]));
                _mm512_storeu_si512(sums[r][t].as_mut_ptr().cast(), all);
            }
        }
    }
    sums
}

/// The mask of field `p` of every byte.
///
/// # Safety
/// The CPU must have AVX-512F.
#[inline(always)]
unsafe fn fields(p: usize) -> __m512i {
    // SAFETY: the caller vouches for the instruction.
    unsafe { _mm512_set1_epi8((3u8 << (2 * p)) as i8) }
}

/// Asks for line `a` of what is needed later, and of what is needed later still.
///
/// # Safety
/// The CPU must have AVX-512F.
#[inline(always)]
unsafe fn request([near, far]: Lines, a: usize) {
    // SAFETY: a prefetch takes any address.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(near.wrapping_add(64 * a).cast());
        _mm_prefetch::<_MM_HINT_T1>(far.wrapping_add(64 * a).cast());
    }
}
