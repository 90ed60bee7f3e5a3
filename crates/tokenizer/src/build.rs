//! From `tokenizer.json` to the compact form.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::class;
use crate::error::Unfit;
use crate::hash;
use crate::layout::{Header, MAX_BUCKET, Origin};
use crate::parts::load;
use crate::source::{Source, malformed};

/// Ids that are no token, for each that is one, up to which the tables may have holes.
const MAX_HOLES: u64 = 4;
/// The parts of `tokenizer.json` that are kept as JSON.
const PARTS: [&str; 5] = [
    "added_tokens",
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
];

/// The compact form of a `tokenizer.json`, as `transformers` works with it where `config` (`tokenizer_config.json`)
/// names a class that reads only a part of it. The same input gives the same bytes.
///
/// # Errors
/// [`Unfit`] where there is no compact form with the same output, and for files that `tokenizers` would refuse.
pub fn build(json: &[u8], config: &Map<String, Value>, origin: &Origin) -> Result<Vec<u8>, Unfit> {
    let mut source = Source::parse(json)?;
    source.check_rest()?;
    apply_class(&mut source, config, origin.class_ignored);
    let options = source.model.options()?;
    let vocab = &source.model.vocab;
    let tokens = Tokens::new(vocab)?;
    let merges = merges(&source.model.pairs()?, vocab)?;
    let unk = options.unk_token.map(|unk| {
        let id = vocab.get(&unk).copied();
        id.ok_or_else(|| Unfit::new("its unknown token is not in the vocabulary"))
    });
    let parts: Map<String, Value> = PARTS
        .iter()
        .filter_map(|name| {
            source
                .rest
                .get(*name)
                .map(|part| ((*name).to_owned(), part.clone()))
        })
        .collect();
    let parts = serde_json::to_vec(&parts).map_err(malformed)?;
    let header = Header {
        fuse_unk: options.fuse_unk.unwrap_or(false),
        byte_fallback: options.byte_fallback.unwrap_or(false),
        ignore_merges: options.ignore_merges.unwrap_or(false),
        unk: unk.transpose()?,
        ids: count(tokens.texts.len())?,
        tokens: count(vocab.len())?,
        merges: count(merges.len())?,
        text: count(tokens.texts.iter().map(|text| text.len()).sum())?,
        parts: count(parts.len())?,
        origin: origin.clone(),
    };
    let mut out = header.bytes().to_vec();
    tokens.write(&mut out, header.tokens)?;
    write_merges(&mut out, merges)?;
    out.extend(tokens.texts.concat().bytes());
    out.extend(parts);
    load(out.as_slice()).map_err(|e| Unfit::new(e.to_string()))?;
    Ok(out)
}

/// Changes the file as the class that the config names does.
fn apply_class(source: &mut Source, config: &Map<String, Value>, ignored: bool) {
    if ignored || !class::is_llama(config) {
        return;
    }
    let model = Value::Object(std::mem::take(&mut source.model.rest));
    let mut file = Value::Object(std::mem::take(&mut source.rest));
    file["model"] = model;
    class::rebuild(&mut file, config);
    if let Value::Object(mut file) = file {
        if let Some(Value::Object(model)) = file.remove("model") {
            source.model.rest = model;
        }
        source.rest = file;
    }
}

/// The texts by id; empty where there is no token.
struct Tokens<'a> {
    texts: Vec<&'a str>,
}

impl<'a> Tokens<'a> {
    fn new(vocab: &'a HashMap<String, u32>) -> Result<Self, Unfit> {
        let ids = vocab.values().max().map_or(0, |max| u64::from(*max) + 1);
        if ids > (vocab.len() as u64 + 256) * MAX_HOLES {
            return Err(Unfit::new("its ids are far apart"));
        }
        let mut texts = vec![""; ids as usize];
        for (text, &id) in vocab {
            if text.is_empty() {
                return Err(Unfit::new("it has an empty token"));
            }
            let place = &mut texts[id as usize];
            if !place.is_empty() {
                return Err(Unfit::new(format!("two tokens have the id {id}")));
            }
            *place = text;
        }
        Ok(Self { texts })
    }

    /// Where the texts begin, and the ids by bucket.
    fn write(&self, out: &mut Vec<u8>, count: u32) -> Result<(), Unfit> {
        let mut end = 0u32;
        push(out, end);
        for text in &self.texts {
            end += text.len() as u32;
            push(out, end);
        }
        let ids = self
            .texts
            .iter()
            .zip(0u32..)
            .filter(|(text, _)| !text.is_empty());
        let placed = ids
            .map(|(text, id)| (hash::of_text(text, count), [id]))
            .collect();
        write_buckets(out, placed, count)
    }
}

/// The merges as left, right, rank and result. Of a pair that comes twice, the last counts.
fn merges(pairs: &[(&str, &str)], vocab: &HashMap<String, u32>) -> Result<Vec<[u32; 4]>, Unfit> {
    let id = |text: &str| {
        let id = vocab.get(text).copied();
        id.ok_or_else(|| Unfit::new(format!("a merge has the unknown token {text:?}")))
    };
    let mut merges = HashMap::new();
    let mut joined = String::new();
    for (rank, (left, right)) in (0u32..).zip(pairs) {
        joined.clear();
        joined.extend([*left, *right]);
        merges.insert([id(left)?, id(right)?], (rank, id(&joined)?));
    }
    let rows = merges.into_iter();
    Ok(rows
        .map(|([left, right], (rank, new))| [left, right, rank, new])
        .collect())
}

fn write_merges(out: &mut Vec<u8>, merges: Vec<[u32; 4]>) -> Result<(), Unfit> {
    let count = count(merges.len())?;
    let placed = merges
        .into_iter()
        .map(|merge| (hash::of_pair(merge[0], merge[1], count), merge));
    write_buckets(out, placed.collect(), count)
}

/// Where each bucket begins, counted in entries, then the entries by bucket and value.
fn write_buckets<const N: usize>(
    out: &mut Vec<u8>,
    mut placed: Vec<(u32, [u32; N])>,
    buckets: u32,
) -> Result<(), Unfit> {
    placed.sort_unstable();
    let mut rest = placed.as_slice();
    push(out, 0);
    for bucket in 0..buckets {
        let size = rest.partition_point(|(of, _)| *of == bucket);
        if size > MAX_BUCKET {
            return Err(Unfit::new("too many of its entries have the same hash"));
        }
        rest = &rest[size..];
        push(out, (placed.len() - rest.len()) as u32);
    }
    for word in placed.iter().flat_map(|(_, entry)| entry) {
        push(out, *word);
    }
    Ok(())
}

fn push(out: &mut Vec<u8>, word: u32) {
    out.extend(word.to_le_bytes());
}

/// A count of the header. Texts and counts are kept below 2^31, so that no sum overflows.
fn count(number: usize) -> Result<u32, Unfit> {
    let number = u32::try_from(number)
        .ok()
        .filter(|number| *number < 1 << 31);
    number.ok_or_else(|| Unfit::new("it is too large"))
}
