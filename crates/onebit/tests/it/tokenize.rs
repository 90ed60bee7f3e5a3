//! `onebit tokenize`, on folders that hold only tokenizer files.

use crate::{fixture, fixture_arg, onebit};
use serde_json::Value;
use std::fs;

/// The folders of tokenizers and what transformers says about them.
fn tokenizers() -> Vec<(String, Value)> {
    let folders = fs::read_dir(fixture("tokenizers"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let cases = folders.filter_map(|folder| {
        let json = fs::read(folder.join("cases.json")).ok()?;
        Some((
            folder.to_str().unwrap().to_owned(),
            serde_json::from_slice(&json).unwrap(),
        ))
    });
    cases.collect()
}

#[test]
fn ids_are_those_of_transformers() {
    let tokenizers = tokenizers();
    assert!(tokenizers.len() >= 3);
    for (model, cases) in tokenizers {
        for case in cases["encode"].as_array().unwrap().iter().take(12) {
            let text = case["text"].as_str().unwrap();
            // A text that begins with a dash is an argument only after `--`.
            let ids = onebit(&["tokenize", &model, "--json", "--", text]).json();
            assert_eq!(ids["ids"], case["ids"], "{model}: {text:?}");
            let plain = onebit(&["tokenize", &model, "--json", "--no-special", "--", text]).json();
            assert_eq!(plain["ids"], case["plain"], "{model}: {text:?}");
        }
    }
}

#[test]
fn conversations_are_those_of_transformers() {
    let folder = tempfile::tempdir().unwrap();
    let messages = folder.path().join("messages.json");
    let path = messages.to_str().unwrap();
    for (model, cases) in tokenizers() {
        for case in cases["chat"].as_array().unwrap() {
            fs::write(&messages, case["messages"].to_string()).unwrap();
            let mut args = vec!["tokenize", &model, "--chat", path];
            if case["add_generation_prompt"] == false {
                args.push("--no-generation-prompt");
            }
            let found = onebit(&args).json();
            assert_eq!(found["text"], case["text"], "{model}: {}", case["name"]);
            assert_eq!(found["ids"], case["ids"], "{model}: {}", case["name"]);
        }
    }
}

#[test]
fn packed_files_tokenize_as_their_folders_do() {
    for (tokenizer, checkpoint) in [("mistral", "mistral_window"), ("llama2_class", "falcon3")] {
        let folder = tempfile::tempdir().unwrap();
        for (from, name) in [
            (fixture("tokenizers").join(tokenizer), "tokenizer.json"),
            (
                fixture("tokenizers").join(tokenizer),
                "tokenizer_config.json",
            ),
            (fixture("checkpoints").join(checkpoint), "config.json"),
            (fixture("checkpoints").join(checkpoint), "model.safetensors"),
        ] {
            fs::copy(from.join(name), folder.path().join(name)).unwrap();
        }
        let packed = folder.path().join("model.onebit");
        let (source, packed) = (folder.path().to_str().unwrap(), packed.to_str().unwrap());
        onebit(&["convert", source, "-o", packed]).ok();
        let cases = fs::read(fixture("tokenizers").join(tokenizer).join("cases.json")).unwrap();
        let cases: Value = serde_json::from_slice(&cases).unwrap();
        // The last texts are those with special tokens in them.
        for case in cases["encode"].as_array().unwrap().iter().rev().take(4) {
            for model in [source, packed] {
                let text = case["text"].as_str().unwrap();
                let found = onebit(&["tokenize", model, "--json", "--", text]).json();
                assert_eq!(found["ids"], case["ids"], "{model} {text:?}");
            }
        }
    }
}

#[test]
fn ids_go_back_to_text() {
    let (model, _) = tokenizers().remove(0);
    let ids = onebit(&["tokenize", &model, "--no-special", "Hello, world! 123"]).ok();
    let text = onebit(&["tokenize", &model, "--decode", ids.trim(), "--json"]).json();
    assert_eq!(text["text"], "Hello, world! 123");
    assert_eq!(onebit(&["tokenize", &model, "--no-special", ""]).ok(), "\n");
    onebit(&["tokenize", &model, "--decode", "99999999"]).refused(2, &["99999999"]);
    onebit(&["tokenize", &fixture_arg("chat"), "a"]).refused(3, &["tokenizer.json"]);
}

#[test]
fn messages_that_are_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let messages = folder.path().join("messages.json");
    let (model, path) = (fixture_arg("demo/demo.onebit"), messages.to_str().unwrap());
    for broken in ["", "{}", "[1]", r#"[{"content": "no role"}]"#, "[]"] {
        fs::write(&messages, broken).unwrap();
        onebit(&["tokenize", &model, "--chat", path]).refused(2, &["messages"]);
    }
    onebit(&["tokenize", &model, "--chat", "/no/such/file"]).refused(2, &["/no/such/file"]);
}
