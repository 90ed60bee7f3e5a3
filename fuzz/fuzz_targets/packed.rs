//! Parses arbitrary bytes as a packed file and views every tensor of those that are valid.
//!
//! The header is hard to hit by chance, so start from a valid file:
//!
//! ```text
//! mkdir -p fuzz/corpus/packed && cp fixtures/layouts/tiny.onebit fuzz/corpus/packed/
//! cargo +nightly fuzz run packed -- -max_total_time=60
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use onebit_format::{AlignedBytes, Index};

fuzz_target!(|data: &[u8]| {
    let Ok(index) = Index::parse(data) else { return };
    let bytes = AlignedBytes::from(data);
    for name in index.meta().matrices.keys() {
        let matrix = index.matrix(&bytes, name).expect("a valid file has its matrices");
        let mut row = vec![0.0; matrix.cols()];
        matrix.decode_row(matrix.rows() - 1, &mut row);
    }
    for name in index.meta().vectors.keys() {
        index.vector(&bytes, name).expect("a valid file has its vectors");
    }
    for name in index.meta().blobs.keys() {
        index.blob(&bytes, name).expect("a valid file has its blobs");
    }
    drop(index.check_hashes(&bytes));
});
