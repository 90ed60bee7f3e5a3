//! What the tokenizer of a packed file takes.

use onebit_format::PackedFile;
use onebit_tokenizer::Header;

use crate::text_files::{TOKENIZER, TOKENIZER_CONFIG, compact};

/// Bytes that a tokenizer loaded from `tokenizer.json` takes per byte of it, as measured with
/// vocabularies of 2,000 to 152,000 tokens.
const LIBRARY_KEPT: u64 = 9;
/// The same for what the heap has grown to once it is loaded; the session is made in what was freed of it.
const LIBRARY_LOADING: u64 = 18;
/// What one in the compact form takes whatever its size, and per byte of the JSON beside the tables: expressions,
/// their caches, and the search for added tokens. The tables are in the file.
const COMPACT: u64 = 512 << 10;
const COMPACT_FACTOR: u64 = 16;
/// Bytes of the tables per token, where there is no file yet.
const COMPACT_TABLES: u64 = 44;

/// Where a tokenizer's bytes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenizerBytes {
    /// The process's own.
    pub(crate) kept: u64,
    /// What the heap has grown to when it is loaded.
    loading: u64,
    /// Those of the file that loading and using the tokenizer leaves alone.
    pub(crate) untouched: u64,
}

impl TokenizerBytes {
    /// Before the tokenizer is loaded.
    pub(crate) fn of(file: &PackedFile) -> Self {
        let len = |name| file.blob(name).map_or(0, <[u8]>::len) as u64;
        let header = compact(file)
            .ok()
            .flatten()
            .and_then(|blob| Header::parse(blob.as_ref()).ok());
        match header {
            Some(header) => Self {
                untouched: len(TOKENIZER),
                ..Self::compact(u64::from(header.parts) + len(TOKENIZER_CONFIG))
            },
            None => Self {
                kept: LIBRARY_KEPT * len(TOKENIZER),
                loading: LIBRARY_LOADING * len(TOKENIZER),
                untouched: 0,
            },
        }
    }

    /// Of a vocabulary of which there is no file yet, and the bytes that its tables take there.
    pub(crate) fn of_vocab(vocab: usize) -> (Self, u64) {
        (Self::compact(0), vocab as u64 * COMPACT_TABLES)
    }

    /// In the compact form, with so many bytes of JSON beside the tables.
    fn compact(json: u64) -> Self {
        let kept = COMPACT + COMPACT_FACTOR * json;
        Self {
            kept,
            loading: kept,
            untouched: 0,
        }
    }

    /// What stays in the heap unused when a session of `session` bytes has been made in it.
    pub(crate) fn freed_beside(&self, session: u64) -> u64 {
        self.loading.saturating_sub(self.kept + session)
    }
}
