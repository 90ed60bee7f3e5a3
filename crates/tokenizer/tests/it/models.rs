//! Random small models against the library's BPE.

use crate::Both;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const ALPHABET: [&str; 12] = ["a", "b", "c", "d", "é", "ß", "▁", "你", "🦊", "<", "0", "x"];

/// A model: characters of the alphabet, tokens that merges of known tokens make, and the switches.
#[derive(Clone, Debug)]
struct Recipe {
    chars: Vec<bool>,
    merges: Vec<(u16, u16)>,
    extra: Vec<String>,
    unk: bool,
    flags: [bool; 3],
    bytes: u16,
    shuffle: u64,
    lines: bool,
}

impl Recipe {
    fn json(&self) -> Vec<u8> {
        let chars = ALPHABET.iter().zip(&self.chars).filter(|(_, used)| **used);
        let mut tokens: Vec<String> = chars.map(|(text, _)| (*text).to_owned()).collect();
        tokens.push("a".into());
        tokens.extend((0..self.bytes.min(256)).map(|byte| format!("<0x{byte:02X}>")));
        tokens.push("[unk]".into());
        let mut merges: Vec<(String, String)> = Vec::new();
        for (left, right) in &self.merges {
            let [left, right] =
                [left, right].map(|at| tokens[usize::from(*at) % tokens.len()].clone());
            tokens.push(format!("{left}{right}"));
            merges.push((left, right));
        }
        tokens.extend(self.extra.iter().filter(|text| !text.is_empty()).cloned());
        tokens.sort();
        tokens.dedup();
        // Ids in another order than texts, with one hole.
        let count = tokens.len() as u64;
        tokens.sort_by_key(|token| {
            let sum: u64 = token
                .bytes()
                .map(u64::from)
                .fold(self.shuffle, |h, b| h.wrapping_mul(31) ^ b);
            (sum.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20, token.clone())
        });
        let vocab: Map<String, Value> = tokens
            .into_iter()
            .zip(0..)
            .map(|(token, id)| {
                (
                    token,
                    Value::from(if id == count - 1 { id + 1 } else { id }),
                )
            })
            .collect();
        let merges: Vec<Value> = merges
            .iter()
            .map(|(left, right)| match self.lines {
                true => json!(format!("{left} {right}")),
                false => json!([left, right]),
            })
            .collect();
        let [fuse_unk, byte_fallback, ignore_merges] = self.flags;
        let model = json!({
            "type": "BPE", "dropout": null, "unk_token": self.unk.then_some("[unk]"), "continuing_subword_prefix": null,
            "end_of_word_suffix": "", "fuse_unk": fuse_unk, "byte_fallback": byte_fallback, "ignore_merges": ignore_merges,
            "vocab": vocab, "merges": merges,
        });
        serde_json::to_vec(&json!({"version": "1.0", "added_tokens": [], "model": model})).unwrap()
    }
}

fn recipe() -> impl Strategy<Value = Recipe> {
    (
        prop::collection::vec(prop::bool::weighted(0.7), ALPHABET.len()),
        prop::collection::vec((0u16..60, 0u16..60), 0..60),
        prop::collection::vec("[abcdx<0é🦊]{0,6}", 0..4),
        any::<bool>(),
        any::<[bool; 3]>(),
        prop_oneof![Just(0u16), Just(256), 0u16..256],
        any::<u64>(),
        any::<bool>(),
    )
        .prop_map(
            |(chars, merges, extra, unk, flags, bytes, shuffle, lines)| Recipe {
                chars,
                merges,
                extra,
                unk,
                flags,
                bytes,
                shuffle,
                lines,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_model_gives_the_same_ids(
        recipe in recipe(), texts in prop::collection::vec("[abcdéß▁你🦊<0x1A>yz\u{301}]{0,80}", 1..6),
    ) {
        let both = Both::new("random", &recipe.json(), &Map::new());
        for text in &texts {
            both.check(text);
        }
        both.check(&texts.concat().repeat(4));
    }
}
