//! Two ways to do the same.

use super::*;
use crate::body::ahead::tests::Nothing;

/// The same of bands of five rows, all bytes in all of them.
#[test]
fn both_ways_to_sum_a_band_agree() {
    if !missing().is_empty() || !is_x86_feature_detected!("avx512vbmi") {
        return;
    }
    let bands: [Vec<[u8; 64]>; 4] = std::array::from_fn(|r| {
        let byte = |a: usize, j: usize| (a * 64 + j * 13 + r * 85) as u8;
        (0..37)
            .map(|a| std::array::from_fn(|j| byte(a, j)))
            .collect()
    });
    let x: [Vec<[[i8; 64]; 1]>; 2] = std::array::from_fn(|t| {
        let code = |a: usize, j: usize| ((a * 64 + j) * 77 + t) as u8 as i8;
        (0..37)
            .map(|a| [std::array::from_fn(|j| code(a, j))])
            .collect()
    });
    let w = bands.each_ref().map(Vec::as_slice);
    let x = x.each_ref().map(Vec::as_slice);
    // SAFETY: the features were asked for above.
    unsafe {
        let set = Avx512::assume();
        let table = bands::by_table(set, w, Nothing, x);
        assert_eq!(table, bands::by_steps(set, w, Nothing, x));
        for (r, band) in bands_of_codes(&w).into_iter().enumerate() {
            for (p, codes) in band.iter().enumerate() {
                for t in 0..2 {
                    let x = x[t].as_flattened().as_flattened();
                    let product = |(c, x): (&u8, &i8)| i32::from(*c) * i32::from(*x);
                    let expected: i32 = codes.iter().zip(x).map(product).sum();
                    assert_eq!(table[r][p][t], expected, "band {r}, row {p}, token {t}");
                }
            }
        }
    }
}

/// The codes of the rows of some bands.
fn bands_of_codes(w: &[&[[u8; 64]]; 4]) -> [[Vec<u8>; 5]; 4] {
    w.map(|atoms| {
        let planes: Vec<_> = atoms.iter().map(crate::sets::portable::t5_planes).collect();
        std::array::from_fn(|p| planes.iter().flat_map(|planes| planes[p]).collect())
    })
}

/// Five to a byte, with and without the table of 128 bytes: every byte in every place.
#[test]
fn both_ways_to_take_a_byte_apart_agree() {
    if !missing().is_empty() || !is_x86_feature_detected!("avx512vbmi") {
        return;
    }
    let rows: [Vec<[u8; 64]>; 4] = std::array::from_fn(|r| {
        let byte = |a: usize, j: usize| (a * 64 + j * 13 + r * 85) as u8;
        (0..4)
            .map(|a| std::array::from_fn(|j| byte(a, j)))
            .collect()
    });
    let x: [[i8; 64]; 5] =
        std::array::from_fn(|p| std::array::from_fn(|j| ((p * 64 + j) * 77) as u8 as i8));
    let w = rows.each_ref().map(Vec::as_slice);
    // SAFETY: the features were asked for above.
    unsafe {
        let set = Avx512::assume();
        let table = set.block_sums(dense::rows_by_table(set, w, Nothing, [&[x; 4]]));
        let taken = int::accumulate::<Avx512, T5, _, 5, 4, 1>(set, w, Nothing, [&[x; 4]]);
        assert_eq!(table, set.block_sums(taken));
    }
}
