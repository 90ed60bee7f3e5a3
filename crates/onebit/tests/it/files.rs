//! Packed files that are not what they should be.

use crate::{TINY, onebit, pack};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// A packed file, changed by `change`.
fn damaged(change: impl FnOnce(&mut Vec<u8>)) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let packed = pack(TINY.0, folder.path());
    let mut bytes = fs::read(&packed).unwrap();
    change(&mut bytes);
    fs::write(&packed, bytes).unwrap();
    (folder, packed)
}

/// Replaces text in the header by text of the same length.
fn replace(bytes: &mut [u8], from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let at = bytes
        .windows(from.len())
        .position(|window| window == from.as_bytes())
        .expect(from);
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
}

#[test]
fn truncated_files_are_malformed() {
    for keep in [0, 7, 8, 100, 5000] {
        let (_folder, packed) = damaged(|bytes| bytes.truncate(keep));
        for load in ["mmap", "heap"] {
            onebit(&[
                "run",
                packed.to_str().unwrap(),
                "--ids",
                "1",
                "--load",
                load,
            ])
            .refused(3, &["model.onebit"]);
        }
    }
    let (_folder, packed) = damaged(|bytes| bytes.truncate(bytes.len() - 1));
    onebit(&["info", packed.to_str().unwrap()]).refused(3, &["model.onebit"]);
}

#[test]
fn files_of_another_kind_are_malformed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onebit");
    for bytes in [
        &b"This is a text about llamas, and no model at all.".repeat(9)[..],
        &[0; 4096],
        &[0xff; 4096],
    ] {
        fs::write(&path, bytes).unwrap();
        onebit(&["run", path.to_str().unwrap(), "--ids", "1"]).refused(3, &["a.onebit"]);
    }
    fs::write(&path, b"GGUF\x03\0\0\0").unwrap();
    onebit(&["run", path.to_str().unwrap(), "--ids", "1"]).refused(4, &["GGUF"]);
}

#[test]
fn a_plain_safetensors_file_is_no_model() {
    let model = crate::fixture_arg("checkpoints/llama_bitlinear/model.safetensors");
    onebit(&["run", &model, "--ids", "1"]).refused(3, &["model.safetensors"]);
}

#[test]
fn unknown_layouts_and_versions_are_unsupported_by_name() {
    let (_folder, packed) = damaged(|bytes| replace(bytes, "t2.r1k256", "t9.r1k256"));
    onebit(&["run", packed.to_str().unwrap(), "--ids", "1"]).refused(4, &["t9.r1k256"]);
    let (_folder, packed) =
        damaged(|bytes| replace(bytes, r#"format_version\":1"#, r#"format_version\":7"#));
    onebit(&["run", packed.to_str().unwrap(), "--ids", "1"]).refused(4, &["version 7"]);
}

#[test]
fn configs_that_contradict_the_tensors_are_malformed() {
    let (_folder, packed) = damaged(|bytes| replace(bytes, r#"\"heads\":4"#, r#"\"heads\":3"#));
    onebit(&["run", packed.to_str().unwrap(), "--ids", "1"]).refused(3, &["heads"]);
    let (_folder, packed) = damaged(|bytes| replace(bytes, r#"\"layers\":2"#, r#"\"layers\":0"#));
    onebit(&["run", packed.to_str().unwrap(), "--ids", "1"]).refused(3, &["layers"]);
    let (_folder, packed) = damaged(|bytes| replace(bytes, r#"\"layers\":2"#, r#"\"layers\":3"#));
    onebit(&["run", packed.to_str().unwrap(), "--ids", "1"]).refused(3, &["layers.2"]);
}

#[test]
fn flipped_weights_are_found_by_check() {
    let (_folder, packed) = damaged(|_| ());
    onebit(&["info", "--check", packed.to_str().unwrap()]).ok();
    let (_folder, packed) = damaged(|bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    onebit(&["info", packed.to_str().unwrap()]).ok();
    onebit(&["info", "--check", packed.to_str().unwrap()]).refused(3, &["tensor", "sha256"]);
}
