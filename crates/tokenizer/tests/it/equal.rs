//! The same ids, offsets and texts for the tokenizers of the repository.

use crate::corpus::{noise, texts};
use crate::random::Random;
use crate::{Both, all, synthetic};
use tokenizers::Model;

#[test]
fn every_tokenizer_gives_the_same_ids_and_texts() {
    let (texts, all) = (&texts(), all());
    std::thread::scope(|scope| {
        for both in &all {
            scope.spawn(|| texts.iter().for_each(|text| both.check(text)));
        }
    });
}

#[test]
fn every_id_has_the_same_token() {
    for both in all() {
        let size = both.library.get_vocab_size(true) as u32;
        for id in (0..size + 2).chain([u32::MAX]) {
            let token = both.library.id_to_token(id);
            assert_eq!(both.compact.id_to_token(id), token, "{} {id}", both.name);
            if let Some(token) = token {
                let ids = [
                    both.library.token_to_id(&token),
                    both.compact.token_to_id(&token),
                ];
                assert_eq!(ids[0], ids[1], "{} {token:?}", both.name);
            }
        }
        let model = both.compact.get_model();
        assert_eq!(
            model.get_vocab(),
            both.library.get_model().get_vocab(),
            "{}",
            both.name
        );
        assert_eq!(
            both.compact.get_vocab_size(true),
            both.library.get_vocab_size(true)
        );
        assert!(model.token_to_id("").is_none() && model.token_to_id("no such token").is_none());
        let mut random = Random::new(5);
        for _ in 0..200 {
            let ids: Vec<u32> = (0..random.below(30))
                .map(|_| random.below(size as usize + 3) as u32)
                .collect();
            both.check_decoding(&ids);
        }
    }
}

#[test]
fn a_vocabulary_of_real_size_gives_the_same_ids() {
    let json = synthetic::json(128_256, 1).unwrap();
    let both = Both::new("synthetic", &json, &Default::default());
    for text in texts().iter().step_by(4) {
        both.check(text);
    }
    let mut random = Random::new(3);
    let letters: String = (0..200_000)
        .map(|_| char::from(b"abcdefghijklmnopqrstuvwxyz     "[random.below(31)]))
        .collect();
    both.check(&letters);
    both.check(&noise(&mut random, 3_000));
}

#[test]
fn a_megabyte_of_one_letter_is_encoded() {
    // By operation count in the unit tests of merging; here as a whole, against a library that does it in n log n too.
    let text = "a".repeat(1 << 20);
    for both in all() {
        let [expected, found] = [
            both.library.encode_fast(text.as_str(), true).unwrap(),
            both.compact.encode_fast(text.as_str(), true).unwrap(),
        ];
        assert_eq!(expected.get_ids(), found.get_ids(), "{}", both.name);
    }
}
