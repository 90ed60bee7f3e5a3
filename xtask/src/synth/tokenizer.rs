//! A byte-level BPE of any size, with as many merges as a real one has.

use super::random::Random;
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// Tokens that stand for the bytes.
const BYTES: usize = 256;
/// Characters of the longest token.
const LONGEST: usize = 12;
/// Tokens that are no text: begin and end.
const SPECIAL: usize = 2;

/// The token that ends a text.
pub(super) fn eos(vocab: usize) -> u32 {
    vocab as u32 - 1
}

/// A `tokenizer.json` with `vocab` tokens, every one but the bytes and the special ones made by a merge.
pub(super) fn json(vocab: usize, seed: u64) -> anyhow::Result<Vec<u8>> {
    anyhow::ensure!(
        vocab > BYTES + SPECIAL,
        "a vocabulary of {vocab} is too small"
    );
    let mut random = Random::new(seed ^ 0x70_6b);
    let mut tokens: Vec<String> = byte_characters();
    // Only letters merge, so that digits and punctuation stay apart as in real vocabularies. Each with its length in characters.
    let mut parts: Vec<(String, usize)> = ('a'..='z').chain(['Ġ']).map(|c| (c.into(), 1)).collect();
    let mut seen: HashSet<String> = tokens.iter().cloned().collect();
    let mut merges = Vec::new();
    while tokens.len() < vocab - SPECIAL {
        let [(left, left_len), (right, right_len)] =
            [(); 2].map(|()| &parts[random.below(parts.len())]);
        let len = left_len + right_len;
        // Most pairs are too long: nothing is put together for these.
        if len > LONGEST || right.starts_with('Ġ') {
            continue;
        }
        let merged = format!("{left}{right}");
        if seen.insert(merged.clone()) {
            merges.push(json!([left, right]));
            tokens.push(merged.clone());
            parts.push((merged, len));
        }
    }
    let special = ["<|begin|>", "<|end|>"];
    tokens.extend(special.map(str::to_owned));
    let vocab: Map<String, Value> = tokens
        .iter()
        .zip(0..)
        .map(|(token, id)| (token.clone(), Value::from(id)))
        .collect();
    let added: Vec<Value> = special
        .iter()
        .map(|token| {
            json!({
                "id": vocab[*token], "content": token, "special": true, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false
            })
        })
        .collect();
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    Ok(serde_json::to_vec(&json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges
        }
    }))?)
}

/// The characters that byte-level tokenizers write for the bytes: printable ones for themselves, the others from
/// U+0100 on.
fn byte_characters() -> Vec<String> {
    let printable = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 0x100..;
    let character = |byte: u32| {
        if printable(byte) {
            byte
        } else {
            next.next().unwrap_or(byte)
        }
    };
    (0..BYTES as u32)
        .map(character)
        .filter_map(char::from_u32)
        .map(String::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_tokens_as_asked_for() {
        let bytes = json(1000, 1).unwrap();
        let parsed: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(parsed["model"]["vocab"].as_object().unwrap().len(), 1000);
        assert_eq!(
            parsed["model"]["merges"].as_array().unwrap().len(),
            1000 - BYTES - SPECIAL
        );
        assert_eq!(parsed["added_tokens"][1]["id"], eos(1000));
        assert!(json(100, 1).is_err());
    }
}
