//! What the tokenizer of a packed file takes.

use onebit_format::PackedFile;
use onebit_tokenizer::Header;

use crate::text_files::{TOKENIZER, TOKENIZER_CONFIG, compact};

/// Bytes that a tokenizer loaded from `tokenizer.json` takes per byte of it, as measured with
/// vocabularies of 2,000 to 128,000 tokens.
const LIBRARY_FACTOR: u64 = 14;
/// What one in the compact form takes whatever its size, and per byte of the JSON beside the tables: expressions,
/// their caches, and the search for added tokens. The tables are in the file.
const COMPACT: u64 = 512 << 10;
const COMPACT_FACTOR: u64 = 16;

/// Where a tokenizer's bytes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenizerBytes {
    /// The process's own.
    pub(crate) anonymous: u64,
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
                anonymous: COMPACT
                    + COMPACT_FACTOR * (u64::from(header.parts) + len(TOKENIZER_CONFIG)),
                untouched: len(TOKENIZER),
            },
            None => Self {
                anonymous: LIBRARY_FACTOR * len(TOKENIZER),
                untouched: 0,
            },
        }
    }
}
