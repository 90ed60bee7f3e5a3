//! The tokens that both sides are given: the same for the same model and the same number.

use crate::tokenizer::Text;

/// A text of our own. Its tokens are repeated where more are asked for.
const TEXT: &str = "On the first morning of spring Mira opened the small window above her desk, and the noise of the \
    street came in with the cold air: two carts, a dog, and somebody who was counting boxes (\"thirty-one, thirty-two\") \
    as if nothing in the world could be more important. She wrote down the date, 21 March, and asked herself: what \
    should a machine do when it is not sure? Perhaps it should say so, she thought, and then look again.\n";

/// Where the tokens come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TokenSource {
    /// A built-in English text, encoded by the tokenizer of the model, behind its first token where it has one.
    Text,
    /// Pseudo-random ids: there is no tokenizer, or not one for this vocabulary.
    Random,
}

/// What the tokens are chosen by.
pub(super) struct Choice<'a> {
    pub(super) text: &'a Text,
    pub(super) vocab: usize,
    /// The token that begins a sequence.
    pub(super) bos: Option<u32>,
    /// The tokens that end one.
    pub(super) eos: &'a [u32],
}

impl Choice<'_> {
    /// `count` tokens.
    pub(super) fn tokens(&self, count: usize) -> (TokenSource, Vec<u32>) {
        match self.of_text() {
            Some(ids) => {
                let bos = self.bos.filter(|bos| (*bos as usize) < self.vocab);
                let ids = bos.into_iter().chain(ids.into_iter().cycle());
                (TokenSource::Text, ids.take(count).collect())
            }
            None => (TokenSource::Random, self.random().take(count).collect()),
        }
    }

    /// The ids of the text, if there are some and all of them are in the vocabulary.
    fn of_text(&self) -> Option<Vec<u32>> {
        let (_, json) = self
            .text
            .blobs
            .iter()
            .find(|(name, _)| *name == crate::tokenizer::TOKENIZER)?;
        let tokenizer = tokenizers::Tokenizer::from_bytes(json).ok()?;
        let encoding = tokenizer.encode_fast(TEXT, false).ok()?;
        let ids = encoding.get_ids();
        let known = ids.iter().all(|id| (*id as usize) < self.vocab);
        (known && !ids.is_empty()).then(|| ids.to_vec())
    }

    /// Ids over the whole vocabulary but those that begin or end a sequence, if others are left: the upper bits of
    /// a linear congruential sequence with Knuth's multiplier.
    fn random(&self) -> impl Iterator<Item = u32> {
        let special = |id: &u32| self.bos == Some(*id) || self.eos.contains(id);
        let vocab = self.vocab as u64;
        let any_plain = (0..self.vocab as u32).any(|id| !special(&id));
        let mut state = 0x0001_b175_u64;
        let ids = std::iter::repeat_with(move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (((state >> 33) * vocab) >> 31) as u32
        });
        ids.filter(move |id| !any_plain || !special(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(text: &Text, vocab: usize) -> Choice<'_> {
        Choice {
            text,
            vocab,
            bos: Some(1),
            eos: &[2, 3],
        }
    }

    #[test]
    fn random_ids_cover_the_vocabulary_but_the_special_ones() {
        let text = Text::default();
        let (source, ids) = choice(&text, 40).tokens(2000);
        assert_eq!(source, TokenSource::Random);
        assert!(ids.iter().all(|id| *id < 40 && ![1, 2, 3].contains(id)));
        assert!((0..40).filter(|id| ids.contains(id)).count() == 37);
        assert_eq!(
            choice(&text, 40).tokens(10).1,
            ids[..10],
            "a prefix of the longer sequence"
        );
        let only = Choice {
            eos: &[0],
            ..choice(&text, 2)
        };
        assert_eq!(only.tokens(5).1.len(), 5, "even if every id is special");
    }

    #[test]
    fn a_broken_tokenizer_and_one_of_another_vocabulary_are_not_used() {
        for json in [
            "{}",
            r#"{"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 99}, "unk_token": "a"}}"#,
        ] {
            let text = Text {
                blobs: vec![(crate::tokenizer::TOKENIZER, json.into())],
                ..Text::default()
            };
            assert_eq!(choice(&text, 40).tokens(3).0, TokenSource::Random, "{json}");
        }
    }
}
