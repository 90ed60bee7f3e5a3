//! The bodies of the fuzz targets over seeds and deterministic changes of them, so that every machine runs them.

#[path = "../../../../fuzz/bodies.rs"]
mod bodies;
mod change;

use change::Changes;
use std::fs;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name)
}

/// The files of this name in the folders of a folder of the fixtures.
fn each(folder: &str, name: &str) -> Vec<Vec<u8>> {
    let mut folders: Vec<PathBuf> = fs::read_dir(fixture(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    let seeds: Vec<_> = folders
        .iter()
        .filter_map(|folder| fs::read(folder.join(name)).ok())
        .collect();
    assert!(!seeds.is_empty(), "{folder}/*/{name}");
    seeds
}

fn templates() -> Vec<Vec<u8>> {
    let cases: serde_json::Value =
        serde_json::from_slice(&fs::read(fixture("chat/cases.json")).unwrap()).unwrap();
    let cases = cases["cases"].as_array().unwrap();
    cases
        .iter()
        .map(|case| case["template"].as_str().unwrap().into())
        .collect()
}

/// A small model as a packed file.
fn tiny_model() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("tiny.onebit");
    let source = fixture("checkpoints/llama_bitlinear");
    onebit_convert::convert(&source, &out, &Default::default(), &mut ()).unwrap();
    fs::read(out).unwrap()
}

/// Runs a body over the seeds, and over `count` changes of them.
fn run(name: &str, seeds: &[Vec<u8>], count: usize) {
    let (_, body) = bodies::ALL.iter().find(|(body, _)| *body == name).unwrap();
    seeds.iter().for_each(|seed| body(seed));
    let mut changes = Changes::new(name);
    for number in 0..count {
        let input = changes.of(&seeds[number % seeds.len()], seeds);
        let done = std::panic::catch_unwind(|| body(&input));
        if done.is_err() {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{number}"));
            fs::write(&kept, &input).unwrap();
            panic!("{name}, change {number}: see {}", kept.display());
        }
    }
}

#[test]
fn packed_files() {
    run(
        "packed",
        &[fs::read(fixture("layouts/tiny.onebit")).unwrap()],
        3000,
    );
    run("packed", &[tiny_model()], 1000);
}

#[test]
fn checkpoints() {
    run(
        "checkpoint",
        &each("checkpoints", "model.safetensors")[..6],
        300,
    );
}

#[test]
fn configs() {
    run("config", &each("checkpoints", "config.json"), 5000);
}

#[test]
fn indexes() {
    run(
        "index_json",
        &each("checkpoints", "model.safetensors.index.json"),
        3000,
    );
}

#[test]
fn tokenizers() {
    run("tokenizer", &each("tokenizers", "tokenizer.json"), 300);
    run(
        "tokenizer_config",
        &each("tokenizers", "tokenizer_config.json"),
        300,
    );
}

#[test]
fn compact_tokenizers() {
    let compact = |json: Vec<u8>| {
        onebit_tokenizer::build(&json, &Default::default(), &Default::default()).unwrap()
    };
    let seeds: Vec<_> = each("tokenizers", "tokenizer.json")
        .into_iter()
        .map(compact)
        .collect();
    run("tokenizer_compact", &seeds, 3000);
}

#[test]
fn templates_and_messages() {
    run("template", &templates(), 1000);
    let message = br#"[{"role": "user", "content": "hi \u00e9"}, {"role": "assistant", "content": null, "tool_calls": [{"a": [1.5]}]}]"#;
    run("messages", &[message.to_vec()], 3000);
    run(
        "ids",
        &[b"1, 2,3 4294967295".to_vec(), b"[7 , 8]".to_vec()],
        3000,
    );
}

#[test]
fn states() {
    let (engine, options) = bodies::saved();
    let state = |len: u32| {
        let mut session = engine.session(options).unwrap();
        let ids: Vec<u32> = (0..len).collect();
        session.prefill(&ids).unwrap();
        let mut bytes = Vec::new();
        session.write_state(&mut bytes, &[1; 32]).unwrap();
        bytes
    };
    let seeds = [state(3), state(200)];
    run("state", &seeds, 300);
    // Only the start says how much is read.
    let mut changes = Changes::new("state headers");
    for number in 0..1000 {
        let seed = &seeds[number % 2];
        let (start, rest) = seed.split_at(160);
        let starts = [start.to_vec()];
        bodies::state(&[&changes.of(&starts[0], &starts), rest].concat());
    }
}

#[test]
fn every_target_has_its_file() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
    let mut files: Vec<String> = fs::read_dir(targets)
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let mut names: Vec<&str> = bodies::ALL.iter().map(|(name, _)| *name).collect();
    files.sort();
    names.sort();
    assert_eq!(files, names);
}
