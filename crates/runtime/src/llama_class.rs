//! Tokenizers of the class `LlamaTokenizer`, of which `transformers` reads only a part.

use serde_json::{Value, json};

use crate::error::RuntimeError;
use crate::text_files::{TOKENIZER, TextFiles};

/// What U+2581 stands for in SentencePiece vocabularies.
const SPACE: &str = "\u{2581}";

/// The `tokenizer.json` that `transformers` works with where the config names this class: vocabulary,
/// merges, added tokens and post-processor of the file, but with normalizer, pre-tokenizer and decoder
/// of the class. They differ from those of most files after special tokens, where files prepend a
/// space and the class does not. `None` where the file counts as it is; so do byte-level files, which
/// are of another kind whatever their config says.
pub(crate) fn rebuild(files: &TextFiles<'_>) -> Result<Option<Vec<u8>>, RuntimeError> {
    let class = files.config.get("tokenizer_class").and_then(Value::as_str);
    if files.class_ignored || !matches!(class, Some("LlamaTokenizer" | "LlamaTokenizerFast")) {
        return Ok(None);
    }
    let malformed = |e: serde_json::Error| RuntimeError::TokenizerFile {
        file: TOKENIZER,
        reason: e.to_string(),
    };
    let mut file: Value = serde_json::from_slice(&files.tokenizer).map_err(malformed)?;
    let byte_level = ["pre_tokenizer", "decoder"]
        .iter()
        .any(|part| has_type(&file[*part], "ByteLevel"));
    if byte_level || file["model"]["type"] != "BPE" || !file["model"]["merges"].is_array() {
        return Ok(None);
    }
    let flag = |name, default| {
        files
            .config
            .get(name)
            .and_then(Value::as_bool)
            .unwrap_or(default)
    };
    let (prefix, legacy) = (flag("add_prefix_space", true), flag("legacy", false));
    file["model"] = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
        "vocab": file["model"]["vocab"].take(), "merges": file["model"]["merges"].take(),
    });
    file["normalizer"] = Value::Null;
    file["pre_tokenizer"] = json!({
        "type": "Metaspace", "replacement": SPACE, "split": false,
        "prepend_scheme": if !prefix { "never" } else if legacy { "always" } else { "first" },
    });
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    file["decoder"] = json!({"type": "Sequence", "decoders": decoders});
    serde_json::to_vec(&file).map(Some).map_err(malformed)
}

/// Whether a part of a tokenizer, or one of those it is a sequence of, has a type.
fn has_type(part: &Value, name: &str) -> bool {
    let parts = ["pretokenizers", "decoders"]
        .iter()
        .filter_map(|list| part[*list].as_array());
    part["type"] == name || parts.flatten().any(|part| has_type(part, name))
}
