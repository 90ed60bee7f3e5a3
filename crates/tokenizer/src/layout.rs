//! The header and the order of the tables; `docs/format.md` specifies them.

use std::ops::Range;

use crate::error::CompactError;

/// What a compact tokenizer begins with.
pub const MAGIC: [u8; 8] = *b"1bit-bpe";
/// The version that this program writes and reads.
pub const VERSION: u32 = 1;

/// Bytes of the header.
pub(crate) const HEADER: usize = 128;
/// Entries of a bucket that are looked at. [`build`](crate::build) refuses to write a fuller one.
pub(crate) const MAX_BUCKET: usize = 64;
/// Bytes of a merge: left, right, rank, result.
pub(crate) const MERGE: usize = 16;

const FUSE_UNK: u32 = 1;
const BYTE_FALLBACK: u32 = 2;
const IGNORE_MERGES: u32 = 4;
const HAS_UNK: u32 = 8;
const CLASS_IGNORED: u32 = 16;
const KNOWN_FLAGS: u32 = 31;

/// Of which files a compact tokenizer was made, to tell whether it still belongs to those beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// SHA-256 of the blob of `tokenizer.json`, with its padding.
    pub tokenizer: [u8; 32],
    /// The same for `tokenizer_config.json`; zeros where there is none.
    pub config: [u8; 32],
    /// Whether the class that the config names did not count, see [`class`](crate::class).
    pub class_ignored: bool,
}

/// What stands before the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Consecutive unknown characters become one unknown token.
    pub fuse_unk: bool,
    /// Unknown characters become the tokens of their bytes where there are such.
    pub byte_fallback: bool,
    /// A word that is a token is not merged from its characters.
    pub ignore_merges: bool,
    /// The token of unknown characters; without one they are left out.
    pub unk: Option<u32>,
    /// The highest id and one.
    pub ids: u32,
    /// Tokens, each with one id below `ids`.
    pub tokens: u32,
    /// Merges.
    pub merges: u32,
    /// Bytes of all tokens.
    pub text: u32,
    /// Bytes of the JSON of the other parts.
    pub parts: u32,
    /// What it was made of.
    pub origin: Origin,
}

/// Where the tables are, in bytes from the beginning.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// Where each token's text begins: `u32` times ids + 1.
    pub(crate) starts: Range<usize>,
    /// Where each bucket of tokens begins: `u32` times tokens + 1.
    pub(crate) token_buckets: Range<usize>,
    /// Ids by bucket: `u32` times tokens.
    pub(crate) token_ids: Range<usize>,
    /// Where each bucket of merges begins: `u32` times merges + 1.
    pub(crate) merge_buckets: Range<usize>,
    /// Merges by bucket.
    pub(crate) merges: Range<usize>,
    /// The texts.
    pub(crate) text: Range<usize>,
    /// The JSON.
    pub(crate) parts: Range<usize>,
}

impl Header {
    /// Reads the header and compares the sizes it announces with the number of bytes.
    ///
    /// # Errors
    /// [`CompactError`] for anything but a header of this version and as many bytes as it announces.
    pub fn parse(bytes: &[u8]) -> Result<Self, CompactError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(CompactError::Magic);
        }
        let short = CompactError::Length {
            expected: HEADER as u64,
            found: bytes.len() as u64,
        };
        let head: &[u8; HEADER] = bytes.first_chunk().ok_or(short)?;
        let word =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (version, flags) = (word(8), word(12));
        if version != VERSION || flags & !KNOWN_FLAGS != 0 {
            return Err(CompactError::Version { version, flags });
        }
        let hash = |at: usize| {
            let mut hash = [0; 32];
            hash.copy_from_slice(&head[at..at + 32]);
            hash
        };
        let header = Self {
            fuse_unk: flags & FUSE_UNK != 0,
            byte_fallback: flags & BYTE_FALLBACK != 0,
            ignore_merges: flags & IGNORE_MERGES != 0,
            unk: (flags & HAS_UNK != 0).then(|| word(16)),
            ids: word(20),
            tokens: word(24),
            merges: word(28),
            text: word(32),
            parts: word(36),
            origin: Origin {
                tokenizer: hash(40),
                config: hash(72),
                class_ignored: flags & CLASS_IGNORED != 0,
            },
        };
        if header.tokens > header.ids {
            return Err(CompactError::Counts {
                tokens: header.tokens,
                ids: header.ids,
            });
        }
        let (expected, found) = (header.file_len(), bytes.len() as u64);
        if expected != found {
            return Err(CompactError::Length { expected, found });
        }
        Ok(header)
    }

    /// The header's bytes.
    pub(crate) fn bytes(&self) -> [u8; HEADER] {
        let flag = |set, flag| if set { flag } else { 0 };
        let flags = flag(self.fuse_unk, FUSE_UNK)
            | flag(self.byte_fallback, BYTE_FALLBACK)
            | flag(self.ignore_merges, IGNORE_MERGES)
            | flag(self.unk.is_some(), HAS_UNK)
            | flag(self.origin.class_ignored, CLASS_IGNORED);
        let words = [
            VERSION,
            flags,
            self.unk.unwrap_or(0),
            self.ids,
            self.tokens,
            self.merges,
            self.text,
            self.parts,
        ];
        let mut head = [0; HEADER];
        head[..8].copy_from_slice(&MAGIC);
        for (place, word) in head[8..40].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        head[40..72].copy_from_slice(&self.origin.tokenizer);
        head[72..104].copy_from_slice(&self.origin.config);
        head
    }

    /// The lengths of the tables in their order. No sum of them overflows.
    fn lengths(&self) -> [u64; 7] {
        let [ids, tokens, merges] = [self.ids, self.tokens, self.merges].map(u64::from);
        [
            4 * (ids + 1),
            4 * (tokens + 1),
            4 * tokens,
            4 * (merges + 1),
            MERGE as u64 * merges,
            u64::from(self.text),
            u64::from(self.parts),
        ]
    }

    fn file_len(&self) -> u64 {
        HEADER as u64 + self.lengths().iter().sum::<u64>()
    }

    /// Where the tables of a parsed header are: within its bytes.
    pub(crate) fn places(&self) -> Places {
        let mut end = HEADER;
        let [
            starts,
            token_buckets,
            token_ids,
            merge_buckets,
            merges,
            text,
            parts,
        ] = self.lengths().map(|len| {
            let begin = end;
            end += len as usize;
            begin..end
        });
        Places {
            starts,
            token_buckets,
            token_ids,
            merge_buckets,
            merges,
            text,
            parts,
        }
    }
}
