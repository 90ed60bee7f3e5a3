//! The model over its tables.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tokenizers::models::bpe::BpeTrainer;
use tokenizers::{Model, Result, Token};

use crate::error::CompactError;
use crate::layout::{Header, Places};
use crate::merge::{Symbol, merge};
use crate::tables::Tables;

/// Characters below this are looked up in a table of their own: ASCII, and what byte-level tokenizers write for bytes.
const FIRST_CHARS: usize = 0x180;
/// No id. Tables have fewer.
const NONE: u32 = u32::MAX;

/// A BPE model whose tables stay where they are.
///
/// As a [`Model`] it gives the ids and offsets of `tokenizers`' BPE; the text of a [`Token`] is left empty, since
/// nothing that makes ids needs it.
pub struct CompactBpe<B> {
    bytes: B,
    header: Header,
    places: Places,
    first_chars: Box<[u32; FIRST_CHARS]>,
    /// The tokens of the bytes, where the model falls back to them.
    fallback: Option<Box<[u32; 256]>>,
}

impl<B> std::fmt::Debug for CompactBpe<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CompactBpe").field(&self.header).finish()
    }
}

impl<B: AsRef<[u8]>> CompactBpe<B> {
    /// Reads the header, and looks up the tokens of the first characters.
    ///
    /// # Errors
    /// As [`Header::parse`].
    pub fn new(bytes: B) -> std::result::Result<Self, CompactError> {
        let header = Header::parse(bytes.as_ref())?;
        let places = header.places();
        let tables = Tables::new(bytes.as_ref(), &header, &places);
        let mut first_chars = Box::new([NONE; FIRST_CHARS]);
        for (id, c) in first_chars.iter_mut().zip('\0'..) {
            *id = tables.id(c.encode_utf8(&mut [0; 4])).unwrap_or(NONE);
        }
        let fallback = header.byte_fallback.then(|| {
            let mut ids = Box::new([NONE; 256]);
            for (id, byte) in ids.iter_mut().zip(0u8..=255) {
                *id = tables.id(&format!("<{byte:#04X}>")).unwrap_or(NONE);
            }
            ids
        });
        Ok(Self {
            bytes,
            header,
            places,
            first_chars,
            fallback,
        })
    }

    /// What stands before the tables.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The JSON of the parts beside the model.
    pub fn parts(&self) -> &[u8] {
        let parts = self.bytes.as_ref().get(self.places.parts.clone());
        parts.unwrap_or_default()
    }

    fn tables(&self) -> Tables<'_> {
        Tables::new(self.bytes.as_ref(), &self.header, &self.places)
    }

    fn char_id(&self, tables: &Tables<'_>, c: char, text: &str) -> Option<u32> {
        match self.first_chars.get(c as usize) {
            Some(&id) => (id != NONE).then_some(id),
            None => tables.id(text),
        }
    }

    /// The tokens of a character's bytes, where all of them have one.
    fn byte_ids<'a>(&'a self, text: &'a str) -> Option<impl Iterator<Item = u32> + use<'a, B>> {
        let fallback = self.fallback.as_deref()?;
        let ids = text.bytes().map(|byte| fallback[usize::from(byte)]);
        ids.clone().all(|id| id != NONE).then_some(ids)
    }

    /// The word's characters as symbols. Unknown ones are held back until a known one comes, as `tokenizers` does,
    /// which lets the tokens of bytes overtake them.
    fn symbols(&self, tables: &Tables<'_>, word: &str) -> Vec<Symbol> {
        let mut symbols = Vec::with_capacity(word.len());
        let mut unknown: Option<Symbol> = None;
        for (at, c) in word.char_indices() {
            let len = c.len_utf8();
            let text = &word[at..at + len];
            if let Some(id) = self.char_id(tables, c, text) {
                symbols.extend(unknown.take());
                symbols.push(Symbol { id, len });
            } else if let Some(ids) = self.byte_ids(text) {
                symbols.extend(ids.map(|id| Symbol { id, len: 1 }));
            } else if let Some(id) = self.header.unk {
                match &mut unknown {
                    Some(held) if self.header.fuse_unk => held.len += len,
                    held => symbols.extend(held.replace(Symbol { id, len })),
                }
            }
        }
        symbols.extend(unknown);
        symbols
    }
}

impl<B: AsRef<[u8]>> Model for CompactBpe<B> {
    type Trainer = BpeTrainer;

    fn tokenize(&self, word: &str) -> Result<Vec<Token>> {
        let tables = self.tables();
        if self.header.ignore_merges
            && let Some(id) = tables.id(word)
        {
            return Ok(vec![Token::new(id, String::new(), (0, word.len()))]);
        }
        let mut symbols = self.symbols(&tables, word);
        merge(&mut symbols, |left, right| tables.merge(left, right));
        let mut end = 0;
        let token = |symbol: Symbol| {
            let start = end;
            end += symbol.len;
            Token::new(symbol.id, String::new(), (start, end))
        };
        Ok(symbols.into_iter().map(token).collect())
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.tables().id(token)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.tables().text(id).map(str::to_owned)
    }

    /// Copies all tokens; nothing that loads or uses a tokenizer asks for it.
    fn get_vocab(&self) -> HashMap<String, u32> {
        let tables = self.tables();
        let text = |id| Some((tables.text(id)?.to_owned(), id));
        (0..self.header.ids).filter_map(text).collect()
    }

    fn get_vocab_size(&self) -> usize {
        self.header.tokens as usize
    }

    /// Refused: the model was made from the files that this would write.
    fn save(&self, _folder: &Path, _name: Option<&str>) -> Result<Vec<PathBuf>> {
        Err("a compact tokenizer is not written as vocabulary and merges".into())
    }

    fn get_trainer(&self) -> BpeTrainer {
        BpeTrainer::default()
    }
}
