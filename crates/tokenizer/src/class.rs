//! Tokenizers of the class `LlamaTokenizer`, of which `transformers` reads only a part.

use serde_json::{Map, Value, json};

/// What U+2581 stands for in SentencePiece vocabularies.
const SPACE: &str = "\u{2581}";
/// `model_type` and architecture for which `transformers` ignores the named class.
const IGNORED_FOR: [&str; 2] = ["mistral", "MistralForCausalLM"];

/// Whether `tokenizer.json` counts as it is, whatever class the config names: so it is for the models that
/// `transformers` has no class of tokenizers of their own for. `model` is the `model_type` or the architecture.
pub fn is_ignored_for(model: &str) -> bool {
    IGNORED_FOR.contains(&model)
}

/// Whether a `tokenizer_config.json` names this class.
pub fn is_llama(config: &Map<String, Value>) -> bool {
    let class = config.get("tokenizer_class").and_then(Value::as_str);
    matches!(class, Some("LlamaTokenizer" | "LlamaTokenizerFast"))
}

/// Changes a `tokenizer.json` to what `transformers` works with where the config names this class: vocabulary,
/// merges, added tokens and post-processor of the file, but with normalizer, pre-tokenizer and decoder
/// of the class. They differ from those of most files after special tokens, where files prepend a
/// space and the class does not. Byte-level files, which are of another kind whatever their config
/// says, and other models than BPE are left alone; the result says whether it was changed.
pub fn rebuild(file: &mut Value, config: &Map<String, Value>) -> bool {
    let byte_level = ["pre_tokenizer", "decoder"]
        .iter()
        .any(|part| has_type(&file[*part], "ByteLevel"));
    if byte_level || file["model"]["type"] != "BPE" {
        return false;
    }
    let flag = |name, default| config.get(name).and_then(Value::as_bool).unwrap_or(default);
    let (prefix, legacy) = (flag("add_prefix_space", true), flag("legacy", false));
    let mut model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
    });
    for part in ["vocab", "merges"] {
        if let Some(found) = file["model"].get_mut(part) {
            model[part] = found.take();
        }
    }
    file["model"] = model;
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
    true
}

/// Whether a part of a tokenizer, or one of those it is a sequence of, has a type.
fn has_type(part: &Value, name: &str) -> bool {
    let parts = ["pretokenizers", "decoders"]
        .iter()
        .filter_map(|list| part[*list].as_array());
    part["type"] == name || parts.flatten().any(|part| has_type(part, name))
}
