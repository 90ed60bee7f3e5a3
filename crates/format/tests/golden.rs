//! A complete file, byte for byte: files written by earlier versions must stay readable, and the
//! writer must not change unnoticed. `ONEBIT_BLESS=1` writes it anew after an intended change.

mod common;

use std::fs;
use std::path::Path;

use common::{sample, ternary, write_dense, write_grouped};
use onebit_format::{ActivationMode, PackedFile};

#[test]
fn the_file_of_version_1_has_not_changed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/layouts");
    let path = dir.join("tiny.onebit");
    if std::env::var_os("ONEBIT_BLESS").is_some() {
        fs::write(&path, sample()).unwrap();
    }
    PackedFile::open(&path).unwrap().check_hashes().unwrap();
    assert!(
        fs::read(&path).unwrap() == sample(),
        "the bytes differ from {}",
        path.display()
    );
}

#[test]
fn the_file_with_group_scales_has_not_changed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/layouts");
    let path = dir.join("grouped.onebit");
    if std::env::var_os("ONEBIT_BLESS").is_some() {
        write_grouped(&path).unwrap();
    }
    let temporary = tempfile::tempdir().unwrap();
    let again = temporary.path().join("grouped.onebit");
    write_grouped(&again).unwrap();
    let file = PackedFile::open(&path).unwrap();
    file.check_hashes().unwrap();
    assert_eq!(
        file.activation("layers.2.b1").unwrap(),
        ActivationMode::SignToken
    );
    let matrix = file.matrix("layers.2.b1").unwrap();
    assert_eq!(matrix.scale(1, 0), 0.75);
    assert_eq!(matrix.value(1, 299).abs(), 1.25);
    assert!(fs::read(&path).unwrap() == fs::read(&again).unwrap());
}

#[test]
fn the_file_with_dense_weights_has_not_changed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/layouts");
    let path = dir.join("dense.onebit");
    if std::env::var_os("ONEBIT_BLESS").is_some() {
        write_dense(&path).unwrap();
    }
    let temporary = tempfile::tempdir().unwrap();
    let again = temporary.path().join("dense.onebit");
    write_dense(&again).unwrap();
    let file = PackedFile::open(&path).unwrap();
    file.check_hashes().unwrap();
    let matrix = file.matrix("layers.0.t5").unwrap();
    for (k, weight) in ternary(1).into_iter().enumerate() {
        assert_eq!(matrix.code(1, k), i32::from(weight));
    }
    assert!(fs::read(&path).unwrap() == fs::read(&again).unwrap());
}

#[test]
fn the_specification_quotes_the_reader_that_is_tried() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    assert!(text("docs/format.md").contains(&text("fixtures/layouts/read.py")));
}
