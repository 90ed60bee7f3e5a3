//! The same ternary weights in every layout that holds them: the same bits out.

use std::ops::Range;

use onebit_format::{Layout, MatrixRef, Scales, pack};
use onebit_kernels::{F32Rows, I8Rows, Input, TileMut, padded_stride};
use proptest::prelude::*;

use crate::chosen::sets;
use crate::common::{Random, assert_same};
use crate::memory::{Bytes, assert_exact};

/// The codes of `rows` rows, packed.
fn packed(layout: Layout, codes: &[i8], rows: usize) -> Bytes {
    let cols = codes.len() / rows;
    let mut bytes = Bytes::zeroed(layout.byte_len(rows, cols).unwrap());
    pack::code_rows(layout, codes, cols, &mut bytes);
    bytes
}

/// Compares the products of `rows` of `size` in all layouts and sets, for int8 and float activations.
fn check(size: [usize; 2], rows: Range<usize>, tokens: usize, random: &mut Random) {
    let [count, cols] = size;
    let codes: Vec<i8> = (0..count * cols)
        .map(|_| (random.next() % 3) as i8 - 1)
        .collect();
    let stride = padded_stride(cols);
    let mut x = vec![0i8; tokens * stride];
    for row in x.chunks_mut(stride) {
        row[..cols].fill_with(|| random.next() as i8);
    }
    let row_sum = |row: &[i8]| row.iter().map(|x| i32::from(*x)).sum();
    let sums: Vec<i32> = x.chunks(stride).map(row_sum).collect();
    let scales: Vec<f32> = (0..tokens).map(|t| 0.7 + t as f32).collect();
    let floats = random.floats(tokens * stride);
    assert_exact(&x);
    assert_exact(&sums);
    assert_exact(&floats);
    let inputs = [
        Input::I8(I8Rows::new(&x, stride, &scales, &sums)),
        Input::F32(F32Rows::new(&floats, stride, tokens)),
    ];
    for input in inputs {
        let mut expected: Option<Vec<f32>> = None;
        for layout in [Layout::T2, Layout::T2R16, Layout::T5, Layout::T5R5] {
            let bytes = packed(layout, &codes, count);
            assert_exact(&bytes);
            let w = MatrixRef::new(layout, count, cols, &bytes, Scales::Tensor(0.37)).unwrap();
            for set in sets() {
                let mut out = vec![f32::NAN; tokens * rows.len()];
                let mut tile = TileMut::whole(&mut out, tokens, rows.len());
                set.matmul(&w, rows.clone(), input, &mut tile);
                let what = format!("{} {layout} {size:?} rows {rows:?} x {tokens}", set.name());
                assert_same(&out, expected.get_or_insert_with(|| out.clone()), what);
            }
        }
    }
}

#[test]
fn layouts_agree_wherever_rows_are_cut() {
    let mut random = Random(31);
    for tokens in [1, 2, 3, 4, 7, 16, 32, 33] {
        for rows in [0..23, 1..22, 4..5, 5..10, 3..17, 22..23, 9..9] {
            check([23, 130], rows, tokens, &mut random);
        }
    }
    for tokens in [1, 4, 40] {
        check([333, 2048], 0..333, tokens, &mut random);
        check([333, 1100], 129..301, tokens, &mut random);
    }
}

/// A partition into ranges that do not know of bands gives what the whole gives.
#[test]
fn parts_make_the_whole() {
    let mut random = Random(32);
    let (rows, cols, stride) = (157, 700, 768);
    let codes: Vec<i8> = (0..rows * cols)
        .map(|_| (random.next() % 3) as i8 - 1)
        .collect();
    let x: Vec<i8> = (0..stride)
        .map(|k| if k < cols { (k * 77) as i8 } else { 0 })
        .collect();
    let sum = [x.iter().map(|x| i32::from(*x)).sum()];
    let x = I8Rows::new(&x, stride, &[1.0], &sum);
    for layout in [Layout::T2R16, Layout::T5R5] {
        let bytes = packed(layout, &codes, rows);
        let w = MatrixRef::new(layout, rows, cols, &bytes, Scales::Tensor(1.0)).unwrap();
        for set in sets() {
            let mut whole = vec![0; rows];
            set.sums(&w, 0..rows, x, &mut TileMut::whole(&mut whole, 1, rows));
            for part in [1, 2, 3, 7, 16, 64, 100] {
                let mut out = vec![i32::MIN; rows];
                for (i, out) in out.chunks_mut(part).enumerate() {
                    let len = out.len();
                    let range = part * i..part * i + len;
                    set.sums(&w, range, x, &mut TileMut::whole(out, 1, len));
                }
                assert_eq!(out, whole, "{} {layout} in parts of {part}", set.name());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_ternary_matrix(
        rows in 1usize..70,
        cols in 1usize..900,
        cut in (0usize..70, 0usize..70),
        tokens in 1usize..45,
        seed: u64,
    ) {
        let start = cut.0.min(rows);
        let end = start + cut.1.min(rows - start);
        check([rows, cols], start..end, tokens, &mut Random(seed));
    }
}
