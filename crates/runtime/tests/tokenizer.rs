//! Tokenizers against `transformers`; `fixtures/tokenizers/generate.py` makes the cases.

use std::path::PathBuf;
use std::sync::LazyLock;

use onebit_runtime::{
    ChatTemplate, ErrorKind, Message, RenderOptions, RuntimeError, StreamDecoder, TextFiles,
    Tokenizer,
};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Cases {
    encode: Vec<Encode>,
    decode: Vec<Decode>,
    chat: Vec<Chat>,
}

#[derive(Deserialize)]
struct Encode {
    text: String,
    ids: Vec<u32>,
    plain: Vec<u32>,
}

#[derive(Deserialize)]
struct Decode {
    ids: Vec<u32>,
    text: String,
    skipped: String,
}

#[derive(Deserialize)]
struct Chat {
    name: String,
    messages: Vec<Message>,
    add_generation_prompt: bool,
    text: String,
    ids: Vec<u32>,
}

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

fn folder(style: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/tokenizers")
        .join(style)
}

fn load(style: &str) -> (Tokenizer, Cases) {
    let cases = std::fs::read(folder(style).join("cases.json")).unwrap();
    let tokenizer = Tokenizer::from_dir(&folder(style)).unwrap();
    (tokenizer, serde_json::from_slice(&cases).unwrap())
}

/// The text of ids that come one by one, and that each piece is all that could be said.
fn stream(mut decoder: StreamDecoder<'_>, ids: &[u32]) -> String {
    let pieces: Vec<String> = ids.iter().map(|&id| decoder.push(id).unwrap()).collect();
    pieces.concat() + &decoder.finish().unwrap()
}

#[test]
fn ids_and_texts_are_those_of_transformers() {
    for style in STYLES {
        let (tokenizer, cases) = load(style);
        for case in cases.encode {
            let text = &case.text;
            assert_eq!(
                tokenizer.encode(text, true).unwrap(),
                case.ids,
                "{style} {text:?}"
            );
            assert_eq!(
                tokenizer.encode(text, false).unwrap(),
                case.plain,
                "{style} {text:?}"
            );
        }
        for case in cases.decode {
            let ids = &case.ids;
            assert_eq!(
                tokenizer.decode(ids, false).unwrap(),
                case.text,
                "{style} {ids:?}"
            );
            assert_eq!(
                tokenizer.decode(ids, true).unwrap(),
                case.skipped,
                "{style} {ids:?}"
            );
            let streamed = |skip| stream(StreamDecoder::new(&tokenizer, skip), ids);
            assert_eq!(streamed(false), case.text, "{style} {ids:?}");
            assert_eq!(streamed(true), case.skipped, "{style} {ids:?}");
        }
    }
}

#[test]
fn chats_have_the_ids_of_transformers() {
    for style in STYLES {
        let files = TextFiles::from_dir(&folder(style)).unwrap();
        let template = ChatTemplate::from_files(&files).unwrap().unwrap();
        let (tokenizer, cases) = load(style);
        assert!(!cases.chat.is_empty());
        for case in cases.chat {
            let options = RenderOptions {
                add_generation_prompt: case.add_generation_prompt,
                ..RenderOptions::default()
            };
            let text = template.render(&case.messages, &options).unwrap();
            assert_eq!(text, case.text, "{style} {}", case.name);
            let ids = tokenizer.encode(&text, false).unwrap();
            assert_eq!(ids, case.ids, "{style} {}", case.name);
            let bos = tokenizer.role("bos_token");
            let leading = ids.iter().take_while(|&&id| Some(id) == bos).count();
            assert!(leading <= 1, "{style} {}", case.name);
        }
    }
}

#[test]
fn special_tokens_have_roles() {
    let (tokenizer, _) = load("llama3");
    assert_eq!(
        tokenizer.role("bos_token"),
        tokenizer.id("<|begin_of_text|>")
    );
    assert!(tokenizer.is_special(tokenizer.role("eos_token").unwrap()));
    assert_eq!(tokenizer.role("pad_token"), None);
    let (tokenizer, _) = load("qwen");
    assert_eq!(tokenizer.role("bos_token"), None);
    assert!(!tokenizer.is_special(tokenizer.id("<think>").unwrap()));
    // Known to the config alone.
    let tool = tokenizer.id("<|tool|>").unwrap();
    assert!(tokenizer.is_special(tool));
    assert_eq!(tool as usize, tokenizer.len() - 1);
    assert_eq!(tokenizer.token(tool).as_deref(), Some("<|tool|>"));
    assert_eq!(tokenizer.token(tool + 1), None);
}

#[test]
fn ids_without_a_token_stand_for_nothing() {
    for style in STYLES {
        let (tokenizer, _) = load(style);
        let id = tokenizer.encode("fox", false).unwrap();
        let padded: Vec<u32> = [999_999]
            .into_iter()
            .chain(id.iter().copied())
            .chain([888_888])
            .collect();
        assert_eq!(tokenizer.decode(&padded, false).unwrap(), "fox");
        assert_eq!(
            stream(StreamDecoder::new(&tokenizer, false), &padded),
            "fox"
        );
    }
}

#[test]
fn continuations_keep_their_leading_space() {
    for style in STYLES {
        let (tokenizer, _) = load(style);
        let all = tokenizer.encode("once upon a time", true).unwrap();
        for cut in 0..all.len() {
            let (before, after) = all.split_at(cut);
            let decoder = StreamDecoder::after(&tokenizer, true, before).unwrap();
            let text = tokenizer.decode(before, true).unwrap() + &stream(decoder, after);
            assert_eq!(text, "once upon a time", "{style} {cut}");
        }
    }
}

#[test]
fn characters_are_whole() {
    for style in STYLES {
        let (tokenizer, _) = load(style);
        let text = "a 🦊 ünï 你好 x";
        let mut decoder = StreamDecoder::new(&tokenizer, false);
        for id in tokenizer.encode(text, false).unwrap() {
            assert!(!decoder.push(id).unwrap().contains('\u{fffd}'));
        }
    }
}

/// The tokenizers, loaded once for all cases.
static ALL: LazyLock<[Tokenizer; STYLES.len()]> =
    LazyLock::new(|| STYLES.map(|style| load(style).0));

proptest! {
    #[test]
    fn streams_say_what_decoding_says(
        style in 0..STYLES.len(), skip: bool, seeds in prop::collection::vec((0u32..820, any::<bool>()), 0..40),
    ) {
        let tokenizer = &ALL[style];
        // Half of the ids are among the first, where the bytes are.
        let ids: Vec<u32> = seeds.iter().map(|&(id, low)| if low { id % 260 } else { id }).collect();
        let expected = tokenizer.decode(&ids, skip).unwrap();
        prop_assert_eq!(stream(StreamDecoder::new(tokenizer, skip), &ids), expected);
    }

    #[test]
    fn texts_survive_both_ways(style in 0..STYLES.len(), text in "[a-z0-9é你🦊 \n'.]{0,30}") {
        let tokenizer = &ALL[style];
        let ids = tokenizer.encode(&text, false).unwrap();
        // These styles do not prepend a space to a text that has one, yet take one away.
        let text = match STYLES[style] {
            "llama2_metaspace" | "llama2_class" => text.strip_prefix(' ').unwrap_or(&text),
            _ => &text,
        };
        prop_assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
        prop_assert_eq!(stream(StreamDecoder::new(tokenizer, false), &ids), text);
    }
}

#[test]
fn malformed_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let load = || Tokenizer::from_dir(dir.path()).unwrap_err();
    assert!(matches!(load(), RuntimeError::NoTokenizer { .. }));
    std::fs::write(dir.path().join("tokenizer.json"), "{\"version\"").unwrap();
    assert!(matches!(
        load(),
        RuntimeError::TokenizerFile {
            file: "tokenizer.json",
            ..
        }
    ));
    std::fs::copy(
        folder("qwen").join("tokenizer.json"),
        dir.path().join("tokenizer.json"),
    )
    .unwrap();
    for config in [
        "[1]",
        "{\"added_tokens_decoder\": {\"x\": {}}}",
        "{\"added_tokens_decoder\": 3}",
    ] {
        std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
        let error = load();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(
            error.to_string().starts_with("tokenizer_config.json"),
            "{error}"
        );
    }
    std::fs::remove_file(dir.path().join("tokenizer_config.json")).unwrap();
    assert!(Tokenizer::from_dir(dir.path()).unwrap().roles().is_empty());
    #[cfg(unix)]
    {
        // Reading it would not end.
        std::os::unix::fs::symlink("/dev/zero", dir.path().join("config.json")).unwrap();
        assert!(Tokenizer::from_dir(dir.path()).is_ok());
    }
    std::fs::create_dir(dir.path().join("special_tokens_map.json")).unwrap();
    assert!(matches!(load(), RuntimeError::Read { .. }));
}

#[test]
fn padding_and_truncation_in_the_file_do_not_count() {
    let bytes = std::fs::read(folder("qwen").join("tokenizer.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    json["truncation"] = serde_json::json!(
        {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = serde_json::json!({"strategy": {"Fixed": 9}, "direction": "Right",
        "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "!"});
    let files = TextFiles::new(json.to_string().into_bytes(), None, None, None).unwrap();
    let tokenizer = Tokenizer::new(&files).unwrap();
    let ids = tokenizer
        .encode("once upon a time there was", true)
        .unwrap();
    assert_eq!(
        tokenizer.decode(&ids, false).unwrap(),
        "once upon a time there was"
    );
}
