//! `tokenizer.json`, with vocabulary and merges kept apart from the rest.

use std::collections::HashMap;
use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use tokenizers::{PaddingParams, TruncationParams};

use crate::error::Unfit;

/// The whole file. Vocabulary and merges are read straight into place, since they are nearly all of it.
#[derive(Deserialize)]
pub(crate) struct Source {
    pub(crate) model: Model,
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

/// The model.
#[derive(Deserialize)]
pub(crate) struct Model {
    pub(crate) vocab: HashMap<String, u32>,
    pub(crate) merges: Vec<Merge>,
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

/// The fields of a BPE model beside vocabulary and merges.
#[derive(Deserialize)]
pub(crate) struct Options {
    r#type: String,
    dropout: Option<f32>,
    pub(crate) unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    pub(crate) fuse_unk: Option<bool>,
    pub(crate) byte_fallback: Option<bool>,
    pub(crate) ignore_merges: Option<bool>,
}

/// One merge: a pair, or in older files a line with one space.
pub(crate) enum Merge {
    Pair(String, String),
    Line(String),
}

impl Source {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Unfit> {
        serde_json::from_slice(json).map_err(malformed)
    }

    /// What `tokenizers` reads of the file beside the model, judged as it does.
    pub(crate) fn check_rest(&self) -> Result<(), Unfit> {
        let version = self.rest.get("version");
        if version.is_some_and(|version| version != "1.0") {
            return Err(Unfit::new("its version is not 1.0"));
        }
        let part = |name| self.rest.get(name).cloned().unwrap_or_default();
        let truncation = serde_json::from_value::<Option<TruncationParams>>(part("truncation"));
        let padding = serde_json::from_value::<Option<PaddingParams>>(part("padding"));
        truncation.map_err(malformed)?;
        padding.map_err(malformed)?;
        Ok(())
    }
}

impl Model {
    /// The other fields of a model that the compact form can stand for.
    pub(crate) fn options(&self) -> Result<Options, Unfit> {
        let options: Options =
            serde_json::from_value(Value::Object(self.rest.clone())).map_err(malformed)?;
        let empty = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
        let unfit = [
            (options.r#type != "BPE", "its model is not BPE"),
            (options.dropout.is_some(), "its model drops merges out"),
            (
                !empty(&options.continuing_subword_prefix),
                "its tokens have a prefix inside of words",
            ),
            (
                !empty(&options.end_of_word_suffix),
                "its tokens have a suffix at the end of words",
            ),
        ];
        match unfit.iter().find(|(unfit, _)| *unfit) {
            Some((_, reason)) => Err(Unfit::new(*reason)),
            None => Ok(options),
        }
    }

    /// The merges as pairs, in the order of their ranks.
    pub(crate) fn pairs(&self) -> Result<Vec<(&str, &str)>, Unfit> {
        let pairs = self
            .merges
            .iter()
            .filter(|merge| matches!(merge, Merge::Pair(..)));
        if ![0, self.merges.len()].contains(&pairs.count()) {
            return Err(Unfit::new("some of its merges are pairs, others lines"));
        }
        let comment =
            |merge: &&Merge| matches!(merge, Merge::Line(line) if line.starts_with("#version"));
        let merges = self.merges.iter().filter(|merge| !comment(merge));
        merges.map(Merge::pair).collect()
    }
}

impl Merge {
    fn pair(&self) -> Result<(&str, &str), Unfit> {
        match self {
            Merge::Pair(left, right) => Ok((left, right)),
            Merge::Line(line) => match line.split_once(' ') {
                Some((left, right)) if !right.contains(' ') => Ok((left, right)),
                _ => Err(Unfit::new(format!("the merge {line:?} is no pair"))),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Merge;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a merge: two tokens, or one line")
            }

            fn visit_str<E: de::Error>(self, line: &str) -> Result<Merge, E> {
                Ok(Merge::Line(line.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merge, A::Error> {
                let mut next = || seq.next_element::<String>();
                match (next()?, next()?, next()?) {
                    (Some(left), Some(right), None) => Ok(Merge::Pair(left, right)),
                    _ => Err(de::Error::custom("a merge is of two tokens")),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

pub(crate) fn malformed(error: serde_json::Error) -> Unfit {
    Unfit::new(error.to_string())
}
