use onebit_format::{Layout, MatrixRef, Scales};

use super::pack::{Right, Weights};
use super::*;
use crate::AlignedVec;
use crate::body::int::{B1, I8, T2, T5, T5R5};

/// A matrix unit in plain code.
struct Model;

impl Unit for Model {
    fn transpose(&self, rows: [&[u8; 64]; TILE]) -> [[u8; 64]; TILE] {
        let mut out = [[0; 64]; TILE];
        for (n, line) in out.iter_mut().enumerate() {
            for (j, word) in line.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                word.copy_from_slice(&rows[j][4 * n..][..4]);
            }
        }
        out
    }

    fn multiply<const N: usize>(
        &self,
        left: [&[i8]; N],
        stride: usize,
        right: &[[Right; 2]],
        sums: &mut [Sums; N],
        fresh: bool,
    ) {
        for (left, sums) in left.into_iter().zip(sums) {
            if fresh {
                *sums = [[0; ROWS]; TILE];
            }
            for (step, pair) in right.iter().enumerate() {
                for (m, sums) in sums.iter_mut().enumerate() {
                    let left = left[m * stride + step * STEP..].first_chunk().unwrap();
                    for (right, sums) in pair.iter().zip(sums.as_chunks_mut().0) {
                        tdpbssd(sums, left, right);
                    }
                }
            }
        }
    }

    fn prefetch(&self, _: *const u8) {}
}

/// A row of the instruction of this name: `sums[n] += left[4 k + i] * right[k][4 n + i]`.
fn tdpbssd(sums: &mut [i32; TILE], left: &[i8; 64], right: &Right) {
    for (k, line) in right.iter().enumerate() {
        for (n, sum) in sums.iter_mut().enumerate() {
            for i in 0..4 {
                *sum += i32::from(left[4 * k + i]) * i32::from(line[4 * n + i]);
            }
        }
    }
}

/// Reproducible bytes.
fn bytes(seed: u32) -> impl Iterator<Item = u8> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
}

/// Compares the sums of `rows` of a matrix of random bytes, for some tokens whose rows are not
/// aligned and lie further apart than they need, with sums over the codes in order.
fn check<U: Unit, L: Weights<P>, const P: usize>(
    unit: &U,
    (layout, scales): (Layout, Scales<'_>),
    (rows, cols, tokens): (Range<usize>, usize, usize),
) {
    let count = rows.end + 2;
    let mut weights = AlignedVec::<u8>::zeroed(layout.byte_len(count, cols).unwrap());
    weights
        .iter_mut()
        .zip(bytes(1 + cols as u32))
        .for_each(|(to, from)| *to = from);
    let scales = match scales {
        Scales::Rows(scales) => Scales::Rows(&scales[..count]),
        scales => scales,
    };
    let w = MatrixRef::new(layout, count, cols, &weights, scales).unwrap();

    let stride = w.padded_cols() + 3;
    let mut codes: Vec<i8> = bytes(7).take(tokens * stride).map(|x| x as i8).collect();
    for row in codes.chunks_mut(stride) {
        row[cols..w.padded_cols()].fill(0);
    }
    let (scale, sum) = (vec![1.0; tokens], vec![0; tokens]);
    let x = I8Rows::new(&codes, stride, &scale, &sum);

    let mut found = vec![i32::MIN; tokens * rows.len()];
    let mut out = TileMut::whole(&mut found, tokens, rows.len());
    let job = Product::new(&w, rows.clone(), x, &out);
    sums::<U, L, P>(unit, &job, &mut out);
    for t in 0..tokens {
        for (i, row) in rows.clone().enumerate() {
            let expected = crate::oracle::sum(&w, row, x.row(t));
            let found = i64::from(found[t * rows.len() + i]);
            assert_eq!(
                found, expected,
                "{layout} row {row} of {rows:?}, {cols} columns, token {t} of {tokens}"
            );
        }
    }
}

/// All layouts and sizes around the edges of tiles, blocks and panels.
fn check_all<U: Unit>(unit: &U) {
    let scales = [1.0; 512];
    for (rows, cols, tokens) in [
        (0..32, 512, 32),
        (0..1, 1, 16),
        (3..36, 513, 17),
        (1..65, 300, 31),
        (5..20, 1500, 33),
        (0..33, 64, 48),
        (2..34, 129, 64),
        (0..31, 1024, 65),
        (0..7, 63, 257),
        (4..4, 100, 20),
        (0..2, 32_900, 70),
    ] {
        let size = (rows, cols, tokens);
        check::<U, T2, 4>(unit, (Layout::T2, Scales::Tensor(1.0)), size.clone());
        check::<U, T5, 5>(unit, (Layout::T5, Scales::Tensor(1.0)), size.clone());
        check::<U, T5R5, 1>(unit, (Layout::T5R5, Scales::Tensor(1.0)), size.clone());
        check::<U, B1, 8>(unit, (Layout::B1, Scales::Tensor(1.0)), size.clone());
        check::<U, I8, 1>(unit, (Layout::I8, Scales::Rows(&scales)), size);
    }
}

#[test]
fn sums_are_exact() {
    check_all(&Model);
}

#[test]
fn panels_cover_all_tokens() {
    for cols in [64, 2560, 6912, 1 << 16] {
        for tokens in 16..1100 {
            let size = panel_size(tokens, cols);
            assert!(size.is_multiple_of(2 * TILE) && size <= TOKENS);
            let last = (tokens - 1) / size * size..tokens;
            assert_eq!(tiles_of(last, tokens).last(), Some(tokens - TILE));
        }
    }
}

/// Extremes of both sides add up in 32 bits at every length that fits.
#[test]
fn a_step_of_extremes() {
    let mut sums = [i32::MIN / 2; TILE];
    tdpbssd(&mut sums, &[-128; 64], &[[-128; 64]; TILE]);
    assert_eq!(sums, [i32::MIN / 2 + 64 * 128 * 128; TILE]);
}
