//! Bytes that are no compact tokenizer, or one with wrong tables.

use crate::fixtures;
use crate::random::Random;
use onebit_tokenizer::{CompactError, Header, Origin, build, load};
use tokenizers::Model;

fn good() -> Vec<u8> {
    let json = std::fs::read(fixtures().join("tokenizers/llama2_class/tokenizer.json")).unwrap();
    build(&json, &Default::default(), &Origin::default()).unwrap()
}

#[test]
fn wrong_headers_are_named() {
    let good = good();
    assert!(matches!(load(&good[..7]), Err(CompactError::Magic)));
    assert!(matches!(
        load(&b"{\"version\": 1}"[..]),
        Err(CompactError::Magic)
    ));
    for len in [8, 127, 128, 200, good.len() - 1] {
        assert!(
            matches!(load(&good[..len]), Err(CompactError::Length { .. })),
            "{len}"
        );
    }
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        load(bytes).err()
    };
    assert!(matches!(
        changed(8, 2),
        Some(CompactError::Version { version: 2, .. })
    ));
    assert!(matches!(
        changed(12, 0xff),
        Some(CompactError::Version { .. })
    ));
    assert!(matches!(
        changed(27, 0xff),
        Some(CompactError::Counts { .. })
    ));
    for count in [20, 28, 32, 36] {
        assert!(
            matches!(changed(count + 3, 0xff), Some(CompactError::Length { .. })),
            "{count}"
        );
    }
    let last = good.len() - 1;
    assert!(matches!(changed(last, b'x'), Some(CompactError::Parts(_))));
}

#[test]
fn changed_tables_neither_panic_nor_hang() {
    const TEXT: &str = " Once upon a time, the fox 123 \u{1f999} e\u{301} aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let good = good();
    // Behind tables and texts there is JSON, which is the library's to judge.
    let end = good.len() - Header::parse(&good).unwrap().parts as usize;
    let mut random = Random::new(9);
    for _ in 0..1000 {
        let mut bytes = good.clone();
        for _ in 0..1 + random.below(200) {
            let at = 128 + random.below(end - 128);
            bytes[at] = match random.below(3) {
                0 => 0xff,
                1 => 0,
                _ => random.bits() as u8,
            };
        }
        let tokenizer = load(bytes).unwrap();
        if let Ok(encoding) = tokenizer.encode_fast(TEXT, true) {
            drop(tokenizer.decode(encoding.get_ids(), false));
        }
        drop(tokenizer.decode(&[0, 1, 5, u32::MAX], true));
        drop(tokenizer.get_model().get_vocab());
    }
}

#[test]
fn an_empty_model_has_no_tokens() {
    let json = br#"{"model": {"type": "BPE", "vocab": {}, "merges": []}}"#;
    let tokenizer = load(build(json, &Default::default(), &Origin::default()).unwrap()).unwrap();
    assert!(
        tokenizer
            .encode_fast("abc", true)
            .unwrap()
            .get_ids()
            .is_empty()
    );
    assert_eq!(tokenizer.get_model().get_vocab_size(), 0);
    assert_eq!(tokenizer.id_to_token(0), None);
}
