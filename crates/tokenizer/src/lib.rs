//! BPE tokenizers in a compact form that is used where it lies.
//!
//! The structures that the crate `tokenizers` builds from a `tokenizer.json` of 128,000 tokens take some 90 MB
//! and a good part of a second (the example `cost` measures both). Here the vocabulary and the merges become flat
//! tables once, when a model is converted ([`build`]); [`load`] reads a header and the small JSON that describes the
//! other parts, and [`CompactBpe`] looks tokens and merges up in the bytes, which may be a mapped file. Normalizers,
//! pre-tokenizers, post-processors, decoders and added tokens remain those of `tokenizers`, and so are the ids.
//!
//! The bytes are specified in `docs/format.md`. Reading is safe for any bytes: everything is bounds-checked where it
//! is used, and no table can make a loop endless.
//!
//! What the compact form does not represent exactly is refused by [`build`] with a reason; such tokenizers are loaded
//! by `tokenizers` from their `tokenizer.json`.
//!
//! ```
//! use onebit_tokenizer::{Origin, build, load};
//!
//! let json = br#"{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2},
//!     "merges": [["a", "b"]]}}"#;
//! let compact = build(json, &Default::default(), &Origin::default())?;
//! let tokenizer = load(compact)?;
//! let encoding = tokenizer.encode_fast("aabb", false).map_err(|e| e.to_string())?;
//! assert_eq!(encoding.get_ids(), [0, 2, 1]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod bpe;
mod build;
pub mod class;
mod error;
mod hash;
mod layout;
mod merge;
mod parts;
mod source;
mod tables;

pub use bpe::CompactBpe;
pub use build::build;
pub use error::{CompactError, Unfit};
pub use layout::{Header, MAGIC, Origin, VERSION};
pub use parts::{CompactTokenizer, load};
