//! Bytes on a 64-byte boundary.

use std::ops::{Deref, DerefMut};

use bytemuck::{Pod, Zeroable};

use crate::layout::ATOM_BYTES;

/// Puts a value on a 64-byte boundary, so that a file built into the program can be used in place:
///
/// ```
/// use onebit_format::{Align64, PackedFile};
///
/// static MODEL: &Align64<[u8]> = &Align64(*b"include_bytes!(\"model.onebit\")");
/// assert!(PackedFile::from_static(&MODEL.0).is_err());
/// ```
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct Align64<T: ?Sized>(pub T);

#[repr(C, align(64))]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Atom([u8; ATOM_BYTES]);

/// A byte string of fixed length that starts on a 64-byte boundary.
#[derive(Default)]
pub struct AlignedBytes {
    atoms: Vec<Atom>,
    len: usize,
}

impl AlignedBytes {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        Self {
            atoms: vec![Atom::zeroed(); len.div_ceil(ATOM_BYTES)],
            len,
        }
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.atoms)[..self.len]
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.atoms)[..self.len]
    }
}

impl From<&[u8]> for AlignedBytes {
    /// Copies.
    fn from(bytes: &[u8]) -> Self {
        let mut aligned = Self::zeroed(bytes.len());
        aligned.copy_from_slice(bytes);
        aligned
    }
}

impl From<Vec<u8>> for AlignedBytes {
    /// Copies, because a vector of bytes is aligned only by chance.
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl std::fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AlignedBytes")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
