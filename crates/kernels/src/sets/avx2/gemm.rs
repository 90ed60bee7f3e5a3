//! Panels of unpacked weights: two registers are a unit, four columns of 16 rows. `vpmaddubsw` adds two
//! products in 16 bits, and so many of these are added there as surely fit before `vpmaddwd` widens
//! them. Where the CPU has AVX-VNNI, `vpdpbusd` adds four products in 32 bits.

use std::arch::x86_64::*;

use super::{Avx2, half};
use crate::body::gemm::panel::{Begin, GROUPS, Groups, Line, Outputs, Panels, UNIT, Unit};

impl Panels for Avx2 {
    type Unit = [__m256i; 2];
    const UNITS: usize = 1;
    const TOKENS: usize = 5;
    const COLS: usize = 1024;
    const MANY: usize = 24;
    const MANY_GROUPED: usize = 3;
    const MANY_IN_LANES: usize = 9;
    const MANY_LOOKED_UP: usize = 8;
    /// The sum of two products of codes up to 255 does not fit 16 bits.
    const WIDE_CODES: bool = false;
    const FEW: bool = false;

    #[inline(always)]
    fn loaded(self, bytes: &[u8; 64]) -> Self::Unit {
        // SAFETY: the token proves the features.
        unsafe { [half::<u8, 0>(bytes), half::<u8, 1>(bytes)] }
    }

    #[inline(always)]
    fn interleaved(self, rows: [&[u8; 64]; UNIT]) -> [Self::Unit; UNIT] {
        // SAFETY: the token proves the features.
        unsafe {
            let (upper, lower) = (&rows.as_chunks::<8>().0[0], &rows.as_chunks::<8>().0[1]);
            let low = [transposed::<0>(upper), transposed::<0>(lower)];
            let high = [transposed::<1>(upper), transposed::<1>(lower)];
            let mut units = [low[0][0]; 2 * UNIT];
            for c in 0..8 {
                (units[2 * c], units[2 * c + 1]) = (low[0][c], low[1][c]);
                (units[16 + 2 * c], units[17 + 2 * c]) = (high[0][c], high[1][c]);
            }
            let mut out = [[low[0][0]; 2]; UNIT];
            out.copy_from_slice(units.as_chunks::<2>().0);
            out
        }
    }

    #[inline(always)]
    fn side_by_side(self, atoms: [&[u8; 64]; 4]) -> [Self::Unit; 4] {
        // SAFETY: the token proves the features.
        unsafe {
            let [a, b] = in_order(super::products::side_by_side(halves::<0>(&atoms)));
            let [c, d] = in_order(super::products::side_by_side(halves::<1>(&atoms)));
            [a, b, c, d]
        }
    }

    #[inline(always)]
    fn field<const BITS: usize>(self, packed: Self::Unit, p: usize) -> Self::Unit {
        let mut codes = packed;
        for code in &mut codes {
            // SAFETY: the token proves the features.
            unsafe {
                let mask = _mm256_set1_epi8(((1u16 << BITS) - 1) as i8);
                let count = _mm_cvtsi32_si128((BITS * p) as i32);
                *code = _mm256_and_si256(_mm256_srl_epi16(*code, count), mask);
            }
        }
        codes
    }

    #[inline(always)]
    fn flipped(self, bytes: Self::Unit) -> Self::Unit {
        let mut flipped = bytes;
        for bytes in &mut flipped {
            // SAFETY: the token proves the features.
            *bytes = unsafe { _mm256_xor_si256(*bytes, _mm256_set1_epi8(-128)) };
        }
        flipped
    }

    #[inline(always)]
    fn doubled(self, bytes: Self::Unit) -> Self::Unit {
        let mut doubled = bytes;
        for bytes in &mut doubled {
            // SAFETY: the token proves the features.
            *bytes = unsafe { _mm256_add_epi8(*bytes, *bytes) };
        }
        doubled
    }

    #[inline(always)]
    fn less(self, bytes: Self::Unit, offset: u8) -> Self::Unit {
        let mut less = bytes;
        for bytes in &mut less {
            // SAFETY: the token proves the features.
            *bytes = unsafe { _mm256_sub_epi8(*bytes, _mm256_set1_epi8(offset as i8)) };
        }
        less
    }

    #[inline(always)]
    fn dense(self, bytes: Self::Unit) -> [Self::Unit; 5] {
        // SAFETY: the token proves the features.
        let halves = unsafe {
            [
                super::dense::planes(bytes[0]),
                super::dense::planes(bytes[1]),
            ]
        };
        let mut planes = [bytes; 5];
        for (p, plane) in planes.iter_mut().enumerate() {
            *plane = [halves[0][p], halves[1][p]];
        }
        planes
    }

    #[inline(always)]
    fn spread(self, atom: &[u8; 64], m: usize, n: usize) -> Self::Unit {
        // Bits 1 to 4 of bytes added to themselves are their bits 0 to 3; all these are at least 2.
        let mut unit = match n {
            0 => self.doubled(self.loaded(atom)),
            _ => self.loaded(atom),
        };
        for half in &mut unit {
            // SAFETY: the token proves the features.
            unsafe {
                let lanes = _mm_setr_epi32(0, 0x0404_0404, 0x0808_0808, 0x0c0c_0c0c);
                let bytes = _mm_add_epi8(lanes, _mm_set1_epi8(m as i8));
                let bits = _mm256_set1_epi32([0x1008_0402, 0x8040_2010_u32 as i32][n]);
                let spread = _mm256_shuffle_epi8(*half, _mm256_broadcastsi128_si256(bytes));
                let set = _mm256_and_si256(spread, bits);
                *half = _mm256_min_epu8(set, _mm256_set1_epi8(2));
            }
        }
        unit
    }

    #[inline(always)]
    fn store(self, unit: Self::Unit, out: &mut Unit) {
        // SAFETY: the token proves the features; each half is 32 bytes.
        unsafe {
            let out = out.as_mut_ptr().cast::<__m256i>();
            _mm256_storeu_si256(out, unit[0]);
            _mm256_storeu_si256(out.add(1), unit[1]);
        }
    }

    #[inline(always)]
    fn tile<const T: usize>(
        self,
        max: u8,
        panel: &[Unit],
        x: &[&[[i8; 4]]; T],
        begin: Begin<'_, T>,
        out: &Outputs<'_, i32, T>,
    ) {
        if is_x86_feature_detected!("avxvnni") {
            // SAFETY: the token proves the set's features, the line above the one more.
            unsafe { vnni::tile(max, panel, x, begin, out) }
        } else {
            // SAFETY: the token proves the features.
            unsafe { plain::tile(max, panel, x, begin, out) }
        }
    }

    #[inline(always)]
    fn grouped_tile<const T: usize>(
        self,
        max: u8,
        panel: &[Unit],
        lines: &[Line<'_>; T],
        groups: &Groups<'_, T>,
        out: Option<&Outputs<'_, f32, T>>,
    ) {
        if is_x86_feature_detected!("avxvnni") {
            // SAFETY: the token proves the set's features, the line above the one more.
            unsafe { vnni::grouped_tile(max, panel, lines, groups, out) }
        } else {
            // SAFETY: the token proves the features.
            unsafe { plain::grouped_tile(max, panel, lines, groups, out) }
        }
    }
}

/// Sums of the rows of a unit for `T` tokens.
type Acc<const T: usize> = [[__m256i; 2]; T];

/// The two tiles, compiled with `$features`, over the loop `$dots`.
macro_rules! tiles {
    ($module:ident, $features:literal, $dots:ident) => {
        mod $module {
            use super::*;

            /// [`Panels::tile`].
            ///
            /// # Safety
            /// The CPU must have the features.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn tile<const T: usize>(
                max: u8,
                panel: &[Unit],
                x: &[&[[i8; 4]]; T],
                begin: Begin<'_, T>,
                out: &Outputs<'_, i32, T>,
            ) {
                // SAFETY: this function has the features; half a unit's sums are 32 bytes, and there is a unit of each token.
                unsafe {
                    let mut sums = [[_mm256_setzero_si256(); 2]; T];
                    if let Begin::Less(offsets) = begin {
                        for t in 0..T {
                            sums[t] = [_mm256_set1_epi32(offsets[t].wrapping_neg()); 2];
                        }
                    }
                    let mut sums = $dots(max, panel, x, sums);
                    for t in 0..T {
                        let out = out.token(t).cast::<__m256i>();
                        for h in 0..2 {
                            // Added last: nothing but the store waits for what comes from further away.
                            if let Begin::With(begin) = begin {
                                let begin = begin.token(t).cast::<__m256i>();
                                let begin = _mm256_loadu_si256(begin.add(h));
                                sums[t][h] = _mm256_add_epi32(sums[t][h], begin);
                            }
                            _mm256_storeu_si256(out.add(h), sums[t][h]);
                        }
                    }
                }
            }

            /// [`Panels::grouped_tile`].
            ///
            /// # Safety
            /// The CPU must have the features.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn grouped_tile<const T: usize>(
                max: u8,
                panel: &[Unit],
                lines: &[Line<'_>; T],
                groups: &Groups<'_, T>,
                out: Option<&Outputs<'_, f32, T>>,
            ) {
                // SAFETY: this function has the features; half a unit's numbers are 32 bytes, and there is a unit of each token.
                unsafe {
                    // Of each token, where its results are added up.
                    let mut kept = [std::ptr::null_mut(); T];
                    for t in 0..T {
                        kept[t] = groups.kept.token(t);
                        if groups.first {
                            _mm256_storeu_ps(kept[t], _mm256_setzero_ps());
                            _mm256_storeu_ps(kept[t].add(8), _mm256_setzero_ps());
                        }
                    }
                    for g in 0..groups.count.min(GROUPS) {
                        let (start, len) = (g * groups.fours, groups.fours);
                        let mut offsets = [[_mm256_setzero_si256(); 2]; T];
                        for t in 0..T {
                            offsets[t] = [_mm256_set1_epi32(
                                -groups.offset * lines[t].sums[groups.first_group + g],
                            ); 2];
                        }
                        let mut part: [&[[i8; 4]]; T] = [&[]; T];
                        for t in 0..T {
                            part[t] = &lines[t].x[groups.first_four + start..][..len];
                        }
                        let dots = $dots(max, &panel[start..][..len], &part, offsets);
                        let scales = groups.scales[g][groups.unit].as_ptr();
                        let scales = [_mm256_loadu_ps(scales), _mm256_loadu_ps(scales.add(8))];
                        for t in 0..T {
                            let multiplier =
                                _mm256_set1_ps(lines[t].multipliers[groups.first_group + g]);
                            for h in 0..2 {
                                let factor = _mm256_mul_ps(scales[h], multiplier);
                                let dots = _mm256_cvtepi32_ps(dots[t][h]);
                                let y = kept[t].add(8 * h);
                                let sum = _mm256_fmadd_ps(dots, factor, _mm256_loadu_ps(y));
                                _mm256_storeu_ps(y, sum);
                            }
                        }
                    }
                    let Some(out) = out else { return };
                    for t in 0..T {
                        let factor = _mm256_set1_ps(lines[t].factor);
                        let out = out.token(t);
                        for h in 0..2 {
                            let y = _mm256_loadu_ps(kept[t].add(8 * h));
                            _mm256_storeu_ps(out.add(8 * h), _mm256_mul_ps(y, factor));
                        }
                    }
                }
            }
        }
    };
}

tiles!(plain, "avx2,fma", dots);
tiles!(vnni, "avx2,fma,avxvnni", dots_vnni);

/// Adds the sums of `code * x` over the columns of a panel to `acc`. A 16-bit lane takes two products
/// of at most `max * 128` per four columns.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn dots<const T: usize>(
    max: u8,
    panel: &[Unit],
    x: &[&[[i8; 4]]; T],
    mut acc: Acc<T>,
) -> Acc<T> {
    let steps = i16::MAX as usize / (2 * 128 * usize::from(max));
    let mut x = *x;
    for t in 0..T {
        x[t] = &x[t][..panel.len()];
    }
    let mut start = 0;
    while start < panel.len() {
        let end = panel.len().min(start + steps);
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let mut pairs = [[_mm256_setzero_si256(); 2]; T];
            for k in start..end {
                let codes = [half::<u8, 0>(&panel[k]), half::<u8, 1>(&panel[k])];
                for t in 0..T {
                    let x = _mm256_set1_epi32(bytemuck::cast(x[t][k]));
                    for h in 0..2 {
                        let product = _mm256_maddubs_epi16(codes[h], x);
                        pairs[t][h] = _mm256_add_epi16(pairs[t][h], product);
                    }
                }
            }
            for t in 0..T {
                for h in 0..2 {
                    let wide = _mm256_madd_epi16(pairs[t][h], _mm256_set1_epi16(1));
                    acc[t][h] = _mm256_add_epi32(acc[t][h], wide);
                }
            }
        }
        start = end;
    }
    acc
}

/// The same with `vpdpbusd`, which does not saturate.
///
/// # Safety
/// The CPU must have AVX2 and AVX-VNNI.
#[inline(always)]
unsafe fn dots_vnni<const T: usize>(
    _max: u8,
    panel: &[Unit],
    x: &[&[[i8; 4]]; T],
    mut acc: Acc<T>,
) -> Acc<T> {
    let mut x = *x;
    for t in 0..T {
        x[t] = &x[t][..panel.len()];
    }
    for (k, unit) in panel.iter().enumerate() {
        // SAFETY: the caller vouches for the instructions.
        unsafe {
            let codes = [half::<u8, 0>(unit), half::<u8, 1>(unit)];
            for t in 0..T {
                let x = _mm256_set1_epi32(bytemuck::cast(x[t][k]));
                for h in 0..2 {
                    acc[t][h] = _mm256_dpbusd_avx_epi32(acc[t][h], codes[h], x);
                }
            }
        }
    }
    acc
}

/// Half `H` of four atoms.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn halves<const H: usize>([a, b, c, d]: &[&[u8; 64]; 4]) -> [__m256i; 4] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        [
            half::<u8, H>(a),
            half::<u8, H>(b),
            half::<u8, H>(c),
            half::<u8, H>(d),
        ]
    }
}

/// Transposes half `H` of eight atoms as 8 times 32 bits.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn transposed<const H: usize>(rows: &[&[u8; 64]; 8]) -> [__m256i; 8] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        // Of four rows, vector c gets column c of each 128-bit lane.
        let mut fours = [[_mm256_setzero_si256(); 4]; 2];
        for (four, rows) in fours.iter_mut().zip(rows.as_chunks::<4>().0) {
            let [a, b, c, d] = halves::<H>(rows);
            let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
            let (ab2, cd2) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
            *four = [
                _mm256_unpacklo_epi64(ab, cd),
                _mm256_unpackhi_epi64(ab, cd),
                _mm256_unpacklo_epi64(ab2, cd2),
                _mm256_unpackhi_epi64(ab2, cd2),
            ];
        }
        let mut out = [_mm256_setzero_si256(); 8];
        for c in 0..4 {
            out[c] = _mm256_permute2x128_si256::<0x20>(fours[0][c], fours[1][c]);
            out[4 + c] = _mm256_permute2x128_si256::<0x31>(fours[0][c], fours[1][c]);
        }
        out
    }
}

/// The two units that the vectors of `side_by_side` make.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
unsafe fn in_order(q: [__m256i; 4]) -> [[__m256i; 2]; 2] {
    // SAFETY: the caller vouches for the instructions.
    unsafe {
        [
            [
                _mm256_permute2x128_si256::<0x20>(q[0], q[1]),
                _mm256_permute2x128_si256::<0x20>(q[2], q[3]),
            ],
            [
                _mm256_permute2x128_si256::<0x31>(q[0], q[1]),
                _mm256_permute2x128_si256::<0x31>(q[2], q[3]),
            ],
        ]
    }
}
