//! Texts of many kinds.

use crate::fixtures;
use crate::random::Random;
use std::path::Path;

/// Characters that tokenizers treat in ways of their own.
const ODD: &[&str] = &[
    " ",
    "  ",
    "\n",
    "\n\n",
    "\t",
    "\r\n",
    "\u{a0}",
    "\u{2003}",
    "\u{3000}",
    "\u{200b}",
    "\u{feff}",
    "\u{0}",
    "\u{7f}",
    "\u{ad}",
    "\u{301}",
    "e\u{301}",
    "\u{1100}\u{1161}",
    "\u{fb01}",
    "\u{2581}",
    "\u{2581}\u{2581}",
    "Ġ",
    "Ċ",
    "é",
    "ß",
    "ſ",
    "ǅ",
    "你",
    "好",
    "🦊",
    "👩\u{200d}👩\u{200d}👧",
    "🏳\u{fe0f}\u{200d}🌈",
    "🇩🇪",
    "\u{10ffff}",
    "\u{fffd}",
    "\u{e000}",
    "١٢٣",
    "1234567",
    "3.14",
    "'s",
    "'LL",
    "n't",
    "<",
    ">",
    "<|",
    "|>",
    "<s>",
    "</s>",
    "<unk>",
    "<0x41>",
    "<0x",
    "<|end|>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<think>",
    "[INST]",
    "[/INST]",
    "<mask>",
    "a",
    "A",
    "the",
    "The",
    "once",
    "fox",
    "ing",
    "zzz",
    "_",
    "__init__",
    "{}",
    "=>",
    "//",
    "\\u0041",
    "\"",
    "`",
    "$",
    "%d",
];

/// Pieces of odd and random characters, as many as asked for.
pub(crate) fn noise(random: &mut Random, pieces: usize) -> String {
    let mut text = String::new();
    for _ in 0..pieces {
        match random.below(8) {
            0 => text.extend(char::from_u32(random.below(0x11_0000) as u32)),
            1 => text.extend(char::from_u32(random.below(0x300) as u32)),
            2 => text.extend(std::iter::repeat_n(
                ODD[random.below(ODD.len())],
                random.below(40),
            )),
            _ => text.push_str(ODD[random.below(ODD.len())]),
        }
    }
    text
}

/// What a tokenizer may be given: stories, code, JSON, noise, runs, invalid UTF-8 made valid.
pub(crate) fn texts() -> Vec<String> {
    let mut texts = vec![String::new()];
    texts.push(std::fs::read_to_string(fixtures().join("demo/heldout.txt")).unwrap());
    let sources = sources(&fixtures().join("../crates"));
    texts.extend(sources.into_iter().step_by(3));
    let cases = std::fs::read_to_string(fixtures().join("chat/cases.json")).unwrap();
    texts.push(cases.chars().take(20_000).collect());
    texts.extend(ODD.iter().map(|text| (*text).to_owned()));
    let mut random = Random::new(11);
    texts.extend((0..200).map(|round| noise(&mut random, 1 + round / 4)));
    for byte in ["a", " ", "\n", "é", "🦊", "ab", "\u{301}", "-"] {
        texts.extend([1, 2, 3, 31, 32, 33, 64, 1000, 5000].map(|times| byte.repeat(times)));
    }
    let bytes: Vec<u8> = (0..4000).map(|_| random.bits() as u8).collect();
    texts.push(String::from_utf8_lossy(&bytes).into_owned());
    texts
}

/// The Rust files of a folder.
fn sources(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(std::fs::read_to_string(path).unwrap());
        }
    }
    found
}
