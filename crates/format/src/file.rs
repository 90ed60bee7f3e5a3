//! A packed file in memory.

use std::path::Path;

use memmap2::Mmap;

use crate::bytes::AlignedBytes;
use crate::error::FormatError;
use crate::index::Index;
use crate::layout::Layout;
use crate::matrix::MatrixRef;
use crate::meta::{ActivationMode, Meta};

#[derive(Debug)]
enum Storage {
    Mapped(Mmap),
    Heap(AlignedBytes),
    Static(&'static [u8]),
}

/// What a tensor is for.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorKind {
    /// A matrix of weights.
    Matrix(Layout),
    /// The scales of one matrix, or the gathered scales of several.
    Scales,
    /// A vector of `f32`.
    Vector,
    /// A byte string.
    Blob,
}

/// A validated packed file: its bytes and its index.
#[derive(Debug)]
pub struct PackedFile {
    storage: Storage,
    index: Index,
}

impl PackedFile {
    /// Maps a file.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let _ = path;
        todo!()
    }

    /// Reads a file into memory.
    pub fn read_to_heap(path: &Path) -> Result<Self, FormatError> {
        let _ = path;
        todo!()
    }

    /// Uses bytes built into the program.
    pub fn from_static(bytes: &'static [u8]) -> Result<Self, FormatError> {
        Ok(Self {
            index: Index::parse(bytes)?,
            storage: Storage::Static(bytes),
        })
    }

    /// Uses bytes in memory.
    pub fn from_bytes(bytes: impl Into<AlignedBytes>) -> Result<Self, FormatError> {
        let bytes = bytes.into();
        Ok(Self {
            index: Index::parse(&bytes)?,
            storage: Storage::Heap(bytes),
        })
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.storage {
            Storage::Mapped(map) => map,
            Storage::Heap(bytes) => bytes,
            Storage::Static(bytes) => bytes,
        }
    }

    /// The metadata.
    pub fn meta(&self) -> &Meta {
        self.index.meta()
    }

    /// The header.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// A matrix by name.
    pub fn matrix(&self, name: &str) -> Result<MatrixRef<'_>, FormatError> {
        let _ = name;
        todo!()
    }

    /// Whether there is a matrix, vector or blob of this name.
    pub fn has(&self, name: &str) -> bool {
        let _ = name;
        todo!()
    }

    /// A vector by name, without its padding.
    pub fn vector(&self, name: &str) -> Result<&[f32], FormatError> {
        let _ = name;
        todo!()
    }

    /// A byte string by name, without its padding.
    pub fn blob(&self, name: &str) -> Result<&[u8], FormatError> {
        let _ = name;
        todo!()
    }

    /// What the inputs of a matrix are turned into.
    pub fn activation(&self, name: &str) -> Result<ActivationMode, FormatError> {
        let _ = name;
        todo!()
    }

    /// Length of the file in bytes.
    pub fn file_len(&self) -> u64 {
        self.bytes().len() as u64
    }

    /// Whether the bytes are mapped from a file.
    pub fn is_mapped(&self) -> bool {
        matches!(self.storage, Storage::Mapped(_))
    }

    /// Compares every tensor with its hash, which reads the whole file.
    pub fn check_hashes(&self) -> Result<(), FormatError> {
        todo!()
    }

    /// Every tensor in file order: name, kind, bytes with padding.
    pub fn tensor_sizes(&self) -> impl Iterator<Item = (&str, TensorKind, usize)> {
        std::iter::empty()
    }
}
