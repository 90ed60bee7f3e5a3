//! What has no compact form.

use onebit_tokenizer::{Origin, build};
use serde_json::{Value, json};

fn model() -> Value {
    json!({"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}})
}

fn reason(file: &Value) -> String {
    let json = serde_json::to_vec(file).unwrap();
    build(&json, &Default::default(), &Origin::default())
        .unwrap_err()
        .to_string()
}

#[test]
fn what_is_not_represented_is_refused_with_a_reason() {
    let cases = [
        ("/model/type", json!("WordPiece"), "not BPE"),
        ("/model/dropout", json!(0.1), "drops merges out"),
        ("/model/continuing_subword_prefix", json!("##"), "prefix"),
        ("/model/end_of_word_suffix", json!("</w>"), "suffix"),
        ("/model/unk_token", json!("[unk]"), "unknown token"),
        (
            "/model/vocab",
            json!({"a": 0, "b": 0, "ab": 2}),
            "have the id 0",
        ),
        (
            "/model/vocab",
            json!({"a": 0, "b": 1, "ab": 2, "": 3}),
            "empty token",
        ),
        (
            "/model/vocab",
            json!({"a": 0, "b": 1, "ab": 4_000_000_000u32}),
            "far apart",
        ),
        ("/model/vocab", json!([["a", 0.5]]), "expected a map"),
        ("/model/merges", json!([["a", "c"]]), "unknown token \"c\""),
        ("/model/merges", json!([["b", "a"]]), "unknown token \"ba\""),
        ("/model/merges", json!(["a b", ["a", "b"]]), "others lines"),
        ("/model/merges", json!(["a b c"]), "no pair"),
        ("/model/merges", json!([["a"]]), "two tokens"),
        ("/version", json!("2.0"), "version"),
        ("/padding", json!(5), "struct"),
        ("/normalizer", json!({"type": "Unheard"}), "parts"),
        ("/added_tokens", json!([{"id": 0}]), "missing field"),
    ];
    for (place, value, expected) in cases {
        let mut file = model();
        let (parent, name) = place.rsplit_once('/').unwrap();
        file.pointer_mut(parent).unwrap()[name] = value;
        let reason = reason(&file);
        assert!(reason.contains(expected), "{place}: {reason}");
    }
    reason(&json!([]));
    assert!(reason(&json!({"version": "1.0"})).contains("model"));
}

#[test]
fn other_models_are_refused() {
    for model in [
        json!({"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}),
        json!({"type": "Unigram", "unk_id": 0, "vocab": [["a", -1.0]], "byte_fallback": false}),
        json!({"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "a", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100}),
    ] {
        reason(&json!({"version": "1.0", "model": model}));
    }
}
