//! The tokenizer of a packed file, in its compact form and without.

mod common;

use common::tokenizer_folder;
use onebit_format::{PackedFile, Plan, Provenance, Writer, blob_sha256};
use onebit_runtime::{ErrorKind, TextFiles, Tokenizer};
use onebit_tokenizer::{Origin, build};
use std::fs;

const STYLES: [&str; 8] = [
    "falcon3",
    "mistral",
    "qwen_class",
    "llama3",
    "qwen",
    "llama2_legacy",
    "llama2_metaspace",
    "llama2_class",
];

/// A packed file with blobs and nothing else.
fn packed(architecture: &str, blobs: &[(&str, &[u8])]) -> PackedFile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.onebit");
    let model = serde_json::json!({"architecture": architecture});
    let mut plan = Plan::new(model, Provenance::default());
    for (name, bytes) in blobs {
        plan.blob(*name, bytes.len());
    }
    let mut writer = Writer::create(&path, plan).unwrap();
    for (name, bytes) in blobs {
        writer.write_blob(name, bytes).unwrap();
    }
    writer.finish().unwrap();
    PackedFile::read_to_heap(&path).unwrap()
}

/// `tokenizer.json`, `tokenizer_config.json`, the compact form made of them, and the architecture.
fn files(style: &str) -> (Vec<u8>, Vec<u8>, Vec<u8>, &'static str) {
    let read = |name| fs::read(tokenizer_folder(style).join(name)).unwrap();
    let (json, config) = (read("tokenizer.json"), read("tokenizer_config.json"));
    let ignored = TextFiles::from_dir(&tokenizer_folder(style))
        .unwrap()
        .class_ignored;
    let origin = Origin {
        tokenizer: blob_sha256(&json),
        config: blob_sha256(&config),
        class_ignored: ignored,
    };
    let compact = build(&json, &serde_json::from_slice(&config).unwrap(), &origin).unwrap();
    let architecture = if ignored {
        "MistralForCausalLM"
    } else {
        "LlamaForCausalLM"
    };
    (json, config, compact, architecture)
}

#[test]
fn the_compact_form_is_the_same_tokenizer() {
    for style in STYLES {
        let (json, config, compact, architecture) = files(style);
        let both = [
            ("tokenizer.json", &json[..]),
            ("tokenizer_config.json", &config[..]),
        ];
        let small = packed(
            architecture,
            &[both[0], both[1], ("tokenizer.bpe", &compact)],
        );
        let (old, new) = (packed(architecture, &both), small);
        let [old, new] = [&old, &new].map(|file| Tokenizer::from_packed(file).unwrap());
        let debug = format!("{new:?}");
        assert!(debug.contains("CompactBpe"), "{style}: {debug}");
        assert_eq!(
            (old.len(), old.roles()),
            (new.len(), new.roles()),
            "{style}"
        );
        for id in 0..old.len() as u32 + 2 {
            assert_eq!(old.token(id), new.token(id), "{style} {id}");
            assert_eq!(old.is_special(id), new.is_special(id), "{style} {id}");
        }
        let cases: serde_json::Value =
            serde_json::from_slice(&fs::read(tokenizer_folder(style).join("cases.json")).unwrap())
                .unwrap();
        for case in cases["encode"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            for special in [false, true] {
                let ids = new.encode(text, special).unwrap();
                assert_eq!(ids, old.encode(text, special).unwrap(), "{style} {text:?}");
                assert_eq!(
                    new.decode(&ids, special).unwrap(),
                    old.decode(&ids, special).unwrap()
                );
            }
        }
    }
}

#[test]
fn the_json_counts_where_the_compact_form_is_of_another() {
    let (json, config, compact, architecture) = files("llama3");
    let library = |architecture, json: &[u8], compact: &[u8]| {
        let blobs = [
            ("tokenizer.json", json),
            ("tokenizer_config.json", &config[..]),
            ("tokenizer.bpe", compact),
        ];
        let file = packed(architecture, &blobs);
        !format!("{:?}", Tokenizer::from_packed(&file).unwrap()).contains("CompactBpe")
    };
    assert!(!library(architecture, &json, &compact));
    let spaced = [&json[..], b" "].concat();
    assert!(
        library(architecture, &spaced, &compact),
        "another tokenizer.json"
    );
    assert!(
        library("MistralForCausalLM", &json, &compact),
        "another class"
    );
    let mut newer = compact.clone();
    newer[8] = 2;
    assert!(library(architecture, &json, &newer), "another version");
}

#[test]
fn a_broken_compact_form_is_named() {
    let (json, _, compact, architecture) = files("qwen");
    for broken in [&b"nothing"[..], &compact[..compact.len() - 1]] {
        let file = packed(
            architecture,
            &[("tokenizer.json", &json[..]), ("tokenizer.bpe", broken)],
        );
        let error = Tokenizer::from_packed(&file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(error.to_string().starts_with("tokenizer.bpe: "), "{error}");
    }
}
