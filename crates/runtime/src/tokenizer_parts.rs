//! The tokenizer of the crate `tokenizers`, over either model.

use std::collections::HashSet;

use onebit_format::SharedBlob;
use onebit_tokenizer::{CompactTokenizer, class};
use serde_json::Value;
use tokenizers::{AddedToken, DecoderWrapper};

use crate::error::RuntimeError;
use crate::text_files::{COMPACT, TOKENIZER, TextFiles};

/// A tokenizer: the library's from `tokenizer.json`, or with the compact model in a packed file.
#[derive(Debug)]
pub(crate) enum Inner {
    Library(Box<tokenizers::Tokenizer>),
    Compact(Box<CompactTokenizer<SharedBlob>>),
}

/// The same expression for both.
macro_rules! either {
    ($inner:expr, $name:ident => $work:expr) => {
        match $inner {
            Inner::Library($name) => $work,
            Inner::Compact($name) => $work,
        }
    };
}

impl Inner {
    pub(crate) fn new(files: &TextFiles<'_>) -> Result<Self, RuntimeError> {
        match &files.compact {
            Some(blob) => match onebit_tokenizer::load(blob.clone()) {
                Ok(compact) => Ok(Inner::Compact(Box::new(compact))),
                Err(error) => Err(RuntimeError::TokenizerFile {
                    file: COMPACT,
                    reason: error.to_string(),
                }),
            },
            None => library(files),
        }
    }

    pub(crate) fn encode(&self, text: &str, add_special: bool) -> tokenizers::Result<Vec<u32>> {
        let encoding = either!(self, inner => inner.encode_fast(text, add_special))?;
        Ok(encoding.get_ids().to_vec())
    }

    pub(crate) fn decode(&self, ids: &[u32], skip_special: bool) -> tokenizers::Result<String> {
        either!(self, inner => inner.decode(ids, skip_special))
    }

    /// Number of tokens, added ones included.
    pub(crate) fn len(&self) -> usize {
        match self {
            Inner::Library(inner) => inner.get_vocab_size(true),
            Inner::Compact(inner) => {
                let model = inner.get_model();
                let added = inner.get_added_vocabulary().get_vocab();
                let new = |token: &&String| tokenizers::Model::token_to_id(model, token).is_none();
                model.header().tokens as usize + added.keys().filter(new).count()
            }
        }
    }

    pub(crate) fn token(&self, id: u32) -> Option<String> {
        either!(self, inner => inner.id_to_token(id))
    }

    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        either!(self, inner => inner.token_to_id(token))
    }

    pub(crate) fn decoder(&self) -> Option<&DecoderWrapper> {
        either!(self, inner => inner.get_decoder())
    }

    /// What the added tokens say, all or only the special ones.
    pub(crate) fn added(&self, only_special: bool) -> HashSet<String> {
        let added = either!(self, inner => inner.get_added_vocabulary().get_added_tokens_decoder());
        added
            .values()
            .filter(|token| token.special || !only_special)
            .map(|token| token.content.clone())
            .collect()
    }

    /// Adds tokens, in this order. Each call builds the search for added tokens again.
    pub(crate) fn add(&mut self, tokens: Vec<AddedToken>) -> tokenizers::Result<()> {
        if !tokens.is_empty() {
            either!(self, inner => inner.add_tokens(tokens))?;
        }
        Ok(())
    }
}

/// The tokenizer that `tokenizer.json` describes, without truncation and padding.
fn library(files: &TextFiles<'_>) -> Result<Inner, RuntimeError> {
    let malformed = |reason: String| RuntimeError::TokenizerFile {
        file: TOKENIZER,
        reason,
    };
    let json = of_class(files).map_err(|e| malformed(e.to_string()))?;
    let json = json.as_deref().unwrap_or(&files.tokenizer);
    let inner = tokenizers::Tokenizer::from_bytes(json);
    let mut inner = inner.map_err(|e| malformed(e.to_string()))?;
    inner
        .with_truncation(None)
        .map_err(|e| malformed(e.to_string()))?
        .with_padding(None);
    Ok(Inner::Library(Box::new(inner)))
}

/// `tokenizer.json` as the class that the config names has it; `None` where it counts as it is.
fn of_class(files: &TextFiles<'_>) -> serde_json::Result<Option<Vec<u8>>> {
    if files.class_ignored || !class::is_llama(&files.config) {
        return Ok(None);
    }
    let mut file: Value = serde_json::from_slice(&files.tokenizer)?;
    let changed = file["model"]["merges"].is_array() && class::rebuild(&mut file, &files.config);
    changed.then(|| serde_json::to_vec(&file)).transpose()
}
