//! Panels of unpacked weights: a register is a unit, four columns of 16 rows, and one `vpdpbusd`
//! multiplies it with four activations of a token, broadcast. A tile of 4 units and 6 tokens keeps 24
//! registers of sums, and loads 10 registers for 24 products.

use std::arch::x86_64::*;

use super::shuffles::{in_order, transposed};
use super::{Avx512, load, load_rows};
use crate::body::gemm::few::Few;
use crate::body::gemm::panel::{
    Begin, GROUPS, Groups, Line, MAX_UNITS, Outputs, Panels, UNIT, Unit,
};

impl Panels for Avx512 {
    type Unit = __m512i;
    const UNITS: usize = MAX_UNITS;
    const TOKENS: usize = 6;
    const COLS: usize = 512;
    const MANY: usize = 32;
    const MANY_GROUPED: usize = 7;
    const MANY_IN_LANES: usize = 20;
    const MANY_LOOKED_UP: usize = 16;
    const WIDE_CODES: bool = true;
    const FEW: bool = true;

    #[inline(always)]
    fn loaded(self, bytes: &[u8; 64]) -> __m512i {
        // SAFETY: the token proves the features.
        unsafe { load(bytes) }
    }

    #[inline(always)]
    fn interleaved(self, rows: [&[u8; 64]; UNIT]) -> [__m512i; UNIT] {
        // SAFETY: the token proves the features.
        unsafe { transposed(load_rows(rows)) }
    }

    #[inline(always)]
    fn side_by_side(self, atoms: [&[u8; 64]; 4]) -> [__m512i; 4] {
        // SAFETY: the token proves the features.
        unsafe { in_order(super::shuffles::side_by_side(load_rows(atoms))) }
    }

    #[inline(always)]
    fn field<const BITS: usize>(self, packed: __m512i, p: usize) -> __m512i {
        // SAFETY: the token proves the features.
        unsafe {
            let mask = _mm512_set1_epi8(((1u16 << BITS) - 1) as i8);
            let count = _mm_cvtsi32_si128((BITS * p) as i32);
            _mm512_and_si512(_mm512_srl_epi16(packed, count), mask)
        }
    }

    #[inline(always)]
    fn flipped(self, bytes: __m512i) -> __m512i {
        // SAFETY: the token proves the features.
        unsafe { _mm512_xor_si512(bytes, _mm512_set1_epi8(-128)) }
    }

    #[inline(always)]
    fn doubled(self, bytes: __m512i) -> __m512i {
        // SAFETY: the token proves the features.
        unsafe { _mm512_add_epi8(bytes, bytes) }
    }

    #[inline(always)]
    fn less(self, bytes: __m512i, offset: u8) -> __m512i {
        // SAFETY: the token proves the features.
        unsafe { _mm512_sub_epi8(bytes, _mm512_set1_epi8(offset as i8)) }
    }

    #[inline(always)]
    fn dense(self, bytes: __m512i) -> [__m512i; 5] {
        // SAFETY: the token proves the features.
        unsafe { super::dense::planes(bytes) }
    }

    #[inline(always)]
    fn spread(self, atom: &[u8; 64], m: usize, n: usize) -> __m512i {
        // SAFETY: the token proves the features.
        unsafe {
            let lanes = _mm512_set4_epi32(0x0c0c_0c0c, 0x0808_0808, 0x0404_0404, 0);
            let bytes = _mm512_add_epi8(lanes, _mm512_set1_epi8(m as i8));
            // Bits 1 to 4 of bytes added to themselves are their bits 0 to 3; all these are at least 2.
            let bits = _mm512_set1_epi32([0x1008_0402, 0x8040_2010_u32 as i32][n]);
            let atom = match n {
                0 => self.doubled(load(atom)),
                _ => load(atom),
            };
            let set = _mm512_and_si512(_mm512_shuffle_epi8(atom, bytes), bits);
            _mm512_min_epu8(set, _mm512_set1_epi8(2))
        }
    }

    #[inline(always)]
    fn store(self, unit: __m512i, out: &mut Unit) {
        // SAFETY: the token proves the features; `out` is 64 bytes.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), unit) }
    }

    #[inline(always)]
    fn tile<const T: usize>(
        self,
        _max: u8,
        panel: &[Unit],
        x: &[&[[i8; 4]]; T],
        begin: Begin<'_, T>,
        out: &Outputs<'_, i32, T>,
    ) {
        // SAFETY: the token proves the features.
        unsafe { tile(panel, x, begin, out) }
    }

    #[inline(always)]
    fn grouped_tile<const T: usize>(
        self,
        _max: u8,
        panel: &[Unit],
        lines: &[Line<'_>; T],
        groups: &Groups<'_, T>,
        out: Option<&Outputs<'_, f32, T>>,
    ) {
        // SAFETY: the token proves the features.
        unsafe { grouped_tile(panel, lines, groups, out) }
    }

    #[inline(always)]
    fn few<const BITS: usize, const T: usize>(self, few: &Few<'_, T>) -> [[f32; UNIT]; T] {
        // SAFETY: the token proves the features.
        unsafe { super::few::few::<BITS, T>(few) }
    }
}

/// Adds the sums of `code * x` over the columns of a panel to `acc`.
///
/// # Safety
/// The CPU must have AVX-512 F and VNNI.
#[inline(always)]
unsafe fn dots<const T: usize>(
    panel: &[[Unit; MAX_UNITS]],
    x: &[&[[i8; 4]]; T],
    mut acc: [[__m512i; MAX_UNITS]; T],
) -> [[__m512i; MAX_UNITS]; T] {
    let mut x = *x;
    for t in 0..T {
        x[t] = &x[t][..panel.len()];
    }
    for (k, units) in panel.iter().enumerate() {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let mut codes = [_mm512_setzero_si512(); MAX_UNITS];
            for u in 0..MAX_UNITS {
                codes[u] = load(&units[u]);
            }
            for t in 0..T {
                let x = _mm512_set1_epi32(bytemuck::cast(x[t][k]));
                for u in 0..MAX_UNITS {
                    acc[t][u] = _mm512_dpbusd_epi32(acc[t][u], codes[u], x);
                }
            }
        }
    }
    acc
}

/// [`Panels::tile`].
///
/// # Safety
/// The CPU must have this set's features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile<const T: usize>(
    panel: &[Unit],
    x: &[&[[i8; 4]]; T],
    begin: Begin<'_, T>,
    out: &Outputs<'_, i32, T>,
) {
    // SAFETY: this function has the features; outputs of a unit are 64 bytes, and there are as many units of each token.
    unsafe {
        let mut sums = [[_mm512_setzero_si512(); MAX_UNITS]; T];
        if let Begin::Less(offsets) = begin {
            for t in 0..T {
                sums[t] = [_mm512_set1_epi32(offsets[t].wrapping_neg()); MAX_UNITS];
            }
        }
        let sums = dots(panel.as_chunks().0, x, sums);
        for t in 0..T {
            let out = out.token(t).cast::<__m512i>();
            for u in 0..MAX_UNITS {
                // Added last: nothing but the store waits for what comes from further away.
                let sums = match begin {
                    Begin::Less(_) => sums[t][u],
                    Begin::With(begin) => {
                        let begin = _mm512_loadu_si512(begin.token(t).cast::<__m512i>().add(u));
                        _mm512_add_epi32(sums[t][u], begin)
                    }
                };
                _mm512_storeu_si512(out.add(u), sums);
            }
        }
    }
}

/// [`Panels::grouped_tile`].
///
/// # Safety
/// The CPU must have this set's features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn grouped_tile<const T: usize>(
    panel: &[Unit],
    lines: &[Line<'_>; T],
    groups: &Groups<'_, T>,
    out: Option<&Outputs<'_, f32, T>>,
) {
    let panel = panel.as_chunks::<MAX_UNITS>().0;
    // SAFETY: this function has the features; a unit's sums and scales are 64 bytes, and there are as many units of each token.
    unsafe {
        // Addresses, not slices: these might change with what is stored through them, for all that the compiler knows.
        let mut kept = [std::ptr::null_mut::<f32>(); T];
        for t in 0..T {
            kept[t] = groups.kept.token(t);
            for u in 0..MAX_UNITS {
                if groups.first {
                    _mm512_storeu_ps(kept[t].add(UNIT * u), _mm512_setzero_ps());
                }
            }
        }
        for g in 0..groups.count.min(GROUPS) {
            let (start, len) = (g * groups.fours, groups.fours);
            let mut sums = [[_mm512_setzero_si512(); MAX_UNITS]; T];
            for t in 0..T {
                sums[t] =
                    [_mm512_set1_epi32(-groups.offset * lines[t].sums[groups.first_group + g]);
                        MAX_UNITS];
            }
            let mut part: [&[[i8; 4]]; T] = [&[]; T];
            for t in 0..T {
                part[t] = &lines[t].x[groups.first_four + start..][..len];
            }
            let sums = dots(&panel[start..][..len], &part, sums);
            let scales = &groups.scales[g].as_chunks::<MAX_UNITS>().0[groups.unit / MAX_UNITS];
            let mut factors = [_mm512_setzero_ps(); MAX_UNITS];
            for u in 0..MAX_UNITS {
                factors[u] = _mm512_loadu_ps(scales[u].as_ptr());
            }
            for t in 0..T {
                let multiplier = _mm512_set1_ps(lines[t].multipliers[groups.first_group + g]);
                for u in 0..MAX_UNITS {
                    let factor = _mm512_mul_ps(factors[u], multiplier);
                    let dots = _mm512_cvtepi32_ps(sums[t][u]);
                    let y = kept[t].add(UNIT * u);
                    _mm512_storeu_ps(y, _mm512_fmadd_ps(dots, factor, _mm512_loadu_ps(y)));
                }
            }
        }
        let Some(out) = out else { return };
        for t in 0..T {
            let factor = _mm512_set1_ps(lines[t].factor);
            let out = out.token(t);
            for u in 0..MAX_UNITS {
                let y = _mm512_loadu_ps(kept[t].add(UNIT * u));
                _mm512_storeu_ps(out.add(UNIT * u), _mm512_mul_ps(y, factor));
            }
        }
    }
}
