//! A complete file, byte for byte: files written by earlier versions must stay readable, and the
//! writer must not change unnoticed. `ONEBIT_BLESS=1` writes it anew after an intended change.

mod common;

use std::fs;
use std::path::Path;

use common::sample;
use onebit_format::PackedFile;

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
fn the_specification_quotes_the_reader_that_is_tried() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap();
    assert!(text("docs/format.md").contains(&text("fixtures/layouts/read.py")));
}
