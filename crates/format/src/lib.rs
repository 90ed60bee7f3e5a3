//! Packed 1-bit and ternary weights: layouts, packing, and the memory-mapped model file.
//!
//! A *packed file* holds everything needed to run a model: weights in [layouts](Layout) that
//! kernels read in place, configuration, tokenizer, chat template and provenance. It is a valid
//! safetensors file with additional rules, specified in `docs/format.md` of the repository. This
//! crate packs rows of weights, writes such files, validates them and hands out borrowed views. It
//! knows no instruction set and starts no thread.
//!
//! # Tutorial
//!
//! A [`Plan`] says what a file will contain, and a [`Writer`] takes the tensors in that order, row
//! by row, so that a model of any size passes through little memory:
//!
//! ```
//! use onebit_format::{
//!     ActivationMode, FormatError, Layout, PackedFile, Plan, Provenance, Scales, Writer, pack,
//! };
//!
//! # fn main() -> Result<(), FormatError> {
//! # let dir = tempfile::tempdir().expect("a temporary directory");
//! let path = dir.path().join("model.onebit");
//! let weights = [[1, 0, -1], [0, 1, 1]];
//! let scale = 0.25;
//!
//! let provenance = Provenance { source: "example".into(), ..Provenance::default() };
//! let mut plan = Plan::new(serde_json::json!({ "hidden": 3 }), provenance);
//! plan.vector("norm", 3).matrix("q", Layout::T2, 2, 3, ActivationMode::I8Token);
//!
//! let mut writer = Writer::create(&path, plan)?;
//! writer.write_vector("norm", &[1.0, 1.0, 0.5])?;
//! let mut matrix = writer.write_matrix("q")?;
//! let mut row = vec![0; Layout::T2.row_bytes(3).expect("a small row")];
//! for codes in &weights {
//!     pack::ternary_row(codes, &mut row);
//!     matrix.rows(&row)?;
//! }
//! matrix.finish(Scales::Tensor(scale))?;
//! writer.finish()?; // only now is there a file at `path`
//! # let path = path.as_path();
//! # read(path)?;
//! # Ok(())
//! # }
//! # fn read(path: &std::path::Path) -> Result<(), FormatError> {
//!
//! // Opening maps the file and validates it once; after that everything is a view.
//! let file = PackedFile::open(path)?;
//! let q = file.matrix("q")?;
//! assert_eq!((q.rows(), q.cols()), (2, 3));
//! assert_eq!(q.code(0, 2), -1);
//! assert_eq!(q.value(0, 2), -0.25);
//! assert_eq!(file.vector("norm")?, [1.0, 1.0, 0.5]);
//! assert_eq!(file.meta().model["hidden"], 3);
//! file.check_hashes()?; // reads everything, so it is not part of opening
//! # Ok(())
//! # }
//! ```
//!
//! [`MatrixRef`] is the one type that kernels need: bytes, shape and scales, from a file or from
//! anywhere else. Its [`code`](MatrixRef::code) *defines* each layout. [`Index::parse`] works on any
//! `&[u8]` for programs that do not want a mapping, and every [`FormatError`] has a
//! [`kind`](FormatError::kind) that tells a damaged file from an unsupported one.

#[cfg(not(target_endian = "little"))]
compile_error!("packed files are read in place and are little-endian: this host is not");

mod advice;
mod binary;
mod blocks;
mod bytes;
mod container;
mod contents;
mod dense;
mod error;
mod file;
mod index;
pub mod json;
mod layout;
mod matrix;
mod meta;
pub mod pack;
mod place;
mod plan;
mod sink;
mod ternary;
mod writer;

pub use advice::Advice;
pub use bytes::{Align64, AlignedBytes};
pub use contents::TensorKind;
pub use error::{ErrorKind, FormatError};
pub use file::{PackedFile, SharedBlob};
pub use index::{Index, blob_sha256};
pub use layout::{ATOM_BYTES, I4_GROUP, Layout, Packs, SIGN_GROUP};
pub use matrix::{Band, MatrixRef, Scales, ShapeError};
pub use meta::{
    ActivationMode, FORMAT_VERSION, GenerationDefaults, KNOWN_FEATURES, MAX_COLS, METADATA_KEY,
    MatrixMeta, Meta, Provenance, SCALES_TENSOR, ScaleMeta, SourceFile,
};
pub use plan::Plan;
pub use writer::{MatrixWriter, Sealed, Writer};
