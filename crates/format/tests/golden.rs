//! A complete file, byte for byte: files written by earlier versions must stay readable, and the
//! writer must not change unnoticed. `ONEBIT_BLESS=1` writes it anew after an intended change.

mod common;

use std::fs;
use std::path::Path;

use common::{
    SIDE_ROWS, name_of, sample, side_by_side_codes, ternary, write_dense, write_grouped,
    write_side_by_side,
};
use onebit_format::{ActivationMode, Layout, PackedFile};

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
    let temporary = tempfile::tempdir().unwrap();
    let again = temporary.path().join("grouped.onebit");
    write_grouped(&again).unwrap();
    if std::env::var_os("ONEBIT_BLESS").is_some() {
        fs::copy(&again, &path).unwrap();
    }
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
fn the_files_with_dense_weights_have_not_changed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/layouts");
    for (layout, name) in [
        (Layout::T5, "dense.onebit"),
        (Layout::T5R5, "dense_bands.onebit"),
    ] {
        let path = dir.join(name);
        let temporary = tempfile::tempdir().unwrap();
        let again = temporary.path().join(name);
        write_dense(&again, layout).unwrap();
        if std::env::var_os("ONEBIT_BLESS").is_some() {
            fs::copy(&again, &path).unwrap();
        }
        let file = PackedFile::open(&path).unwrap();
        file.check_hashes().unwrap();
        let matrix = file.matrix(&name_of(layout)).unwrap();
        assert_eq!(matrix.layout(), layout);
        for (k, weight) in ternary(1).into_iter().enumerate() {
            assert_eq!(matrix.code(1, k), i32::from(weight));
        }
        assert!(fs::read(&path).unwrap() == fs::read(&again).unwrap());
    }
}

#[test]
fn the_files_with_rows_side_by_side_have_not_changed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/layouts");
    for (layout, name) in [
        (Layout::T2R16, "side_by_side_ternary.onebit"),
        (Layout::B1R64, "side_by_side.onebit"),
    ] {
        let path = dir.join(name);
        let temporary = tempfile::tempdir().unwrap();
        let again = temporary.path().join(name);
        write_side_by_side(&again, layout).unwrap();
        if std::env::var_os("ONEBIT_BLESS").is_some() {
            fs::copy(&again, &path).unwrap();
        }
        let file = PackedFile::open(&path).unwrap();
        file.check_hashes().unwrap();
        let [one, groups] = ["one", "groups"].map(|name| file.matrix(name).unwrap());
        assert_eq!(one.layout(), layout);
        for row in 0..SIDE_ROWS {
            let codes = side_by_side_codes(layout, row);
            for (k, code) in codes.into_iter().enumerate() {
                let scale = (1 + row) as f32 / 64.0 + 2.0 * (k / 128) as f32;
                assert_eq!(one.value(row, k), f32::from(code) * 0.125);
                assert_eq!(groups.value(row, k), f32::from(code) * scale);
            }
        }
        assert!(fs::read(&path).unwrap() == fs::read(&again).unwrap());
    }
}

#[test]
fn the_specification_quotes_the_reader_that_is_tried() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    assert!(text("docs/format.md").contains(&text("fixtures/layouts/read.py")));
}
