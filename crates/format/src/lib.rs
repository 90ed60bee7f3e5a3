//! Packed 1-bit and ternary weights: layouts, packing, and the memory-mapped model file.

#[cfg(not(target_endian = "little"))]
compile_error!("packed files are read in place and are little-endian: this host is not");

mod bytes;
mod container;
mod contents;
mod error;
mod file;
mod index;
mod layout;
mod matrix;
mod meta;
pub mod pack;
mod place;
mod plan;
mod sink;
mod writer;

pub use bytes::{Align64, AlignedBytes};
pub use contents::TensorKind;
pub use error::{ErrorKind, FormatError};
pub use file::PackedFile;
pub use index::Index;
pub use layout::{ATOM_BYTES, I4_GROUP, Layout, SIGN_GROUP};
pub use matrix::{MatrixRef, Scales, ShapeError};
pub use meta::{
    ActivationMode, FORMAT_VERSION, GenerationDefaults, KNOWN_FEATURES, MAX_COLS, METADATA_KEY,
    MatrixMeta, Meta, Provenance, SCALES_TENSOR, ScaleMeta, SourceFile,
};
pub use plan::Plan;
pub use writer::{MatrixWriter, Writer};
