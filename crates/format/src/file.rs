//! A packed file in memory.

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::{Mmap, MmapMut};

use crate::advice::{Advice, Mapped};
use crate::bytes::AlignedBytes;
use crate::contents::TensorKind;
use crate::error::FormatError;
use crate::index::Index;
use crate::layout::ATOM_BYTES;
use crate::matrix::MatrixRef;
use crate::meta::{ActivationMode, Meta};

#[derive(Debug)]
enum Storage {
    Mapped(Mapped),
    Heap(AlignedBytes),
    /// A heap of its own, in pages as large as there are.
    Pages(MmapMut),
    Static(&'static [u8]),
}

impl Storage {
    fn bytes(&self) -> &[u8] {
        match self {
            Storage::Mapped(mapped) => &mapped.map,
            Storage::Heap(bytes) => bytes,
            Storage::Pages(bytes) => bytes,
            Storage::Static(bytes) => bytes,
        }
    }
}

/// A validated packed file: its bytes, wherever they are, and its index.
///
/// Opening reads the header and the scales; weights are viewed in place, never copied.
#[derive(Debug)]
pub struct PackedFile {
    storage: Arc<Storage>,
    index: Index,
}

impl PackedFile {
    /// Maps a file.
    ///
    /// The file must not be changed or truncated while it is mapped: changed weights give other
    /// results, and on Unix reading past a truncated end kills the process (SIGBUS).
    /// [`Writer`](crate::Writer) never does either, since it replaces a file whole;
    /// [`read_to_heap`](PackedFile::read_to_heap) is for files that others may rewrite in place.
    ///
    /// # Errors
    /// When the file cannot be opened or is not a valid packed file.
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        let (file, len) = open_regular(path)?;
        if len == 0 {
            return Self::from_bytes(AlignedBytes::default());
        }
        // SAFETY: the map is read-only and only ever viewed as integers and floats, for which any
        // bytes are valid, and all lengths are checked against the length mapped here. What
        // remains is a file that another process changes while it is mapped: no program can
        // exclude that, so the documentation above asks callers to, and names what happens.
        let map = unsafe { Mmap::map(&file) }.map_err(FormatError::io("map", path))?;
        let path = path.to_path_buf();
        let opened = Self::new(Storage::Mapped(Mapped { map, file, path }))?;
        // The checks have touched scales and vectors, and the system maps what lies around such pages with them.
        opened.advise(0..opened.bytes().len(), Advice::Release);
        Ok(opened)
    }

    /// Reads a whole file into memory: into huge pages, where the system has them for those who ask.
    ///
    /// # Errors
    /// When the file cannot be read, memory does not suffice, or it is not a valid packed file.
    pub fn read_to_heap(path: &Path) -> Result<Self, FormatError> {
        let (mut file, len) = open_regular(path)?;
        if len == 0 {
            return Self::from_bytes(AlignedBytes::default());
        }
        let read = || -> io::Result<MmapMut> {
            let mut bytes = pages(usize::try_from(len).map_err(io::Error::other)?)?;
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        }();
        Self::new(Storage::Pages(read.map_err(FormatError::io("read", path))?))
    }

    /// Uses bytes built into the program; [`Align64`](crate::Align64) aligns them.
    ///
    /// # Errors
    /// When they do not start on a 64-byte boundary or are not a valid packed file.
    pub fn from_static(bytes: &'static [u8]) -> Result<Self, FormatError> {
        Self::new(Storage::Static(bytes))
    }

    /// Uses bytes in memory. A `Vec<u8>` or a slice is copied, [`AlignedBytes`] are not.
    ///
    /// # Errors
    /// When they are not a valid packed file.
    pub fn from_bytes(bytes: impl Into<AlignedBytes>) -> Result<Self, FormatError> {
        Self::new(Storage::Heap(bytes.into()))
    }

    fn new(storage: Storage) -> Result<Self, FormatError> {
        if !(storage.bytes().as_ptr() as usize).is_multiple_of(ATOM_BYTES) {
            return Err(FormatError::Alignment {
                expected: ATOM_BYTES,
            });
        }
        let index = Index::parse(storage.bytes())?;
        Ok(Self {
            storage: Arc::new(storage),
            index,
        })
    }

    /// All bytes; they start on a 64-byte boundary.
    pub fn bytes(&self) -> &[u8] {
        self.storage.bytes()
    }

    /// The places of the tensors in [`bytes`](PackedFile::bytes).
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The metadata.
    pub fn meta(&self) -> &Meta {
        self.index.meta()
    }

    /// Whether there is a matrix, vector or blob of this name.
    pub fn has(&self, name: &str) -> bool {
        self.index.has(name)
    }

    /// The matrix `name`.
    ///
    /// # Errors
    /// When there is no such matrix.
    pub fn matrix(&self, name: &str) -> Result<MatrixRef<'_>, FormatError> {
        self.index.matrix(self.bytes(), name)
    }

    /// What the inputs of the matrix `name` are turned into.
    ///
    /// # Errors
    /// When there is no such matrix.
    pub fn activation(&self, name: &str) -> Result<ActivationMode, FormatError> {
        let matrix = self.meta().matrices.get(name);
        matrix
            .map(|matrix| matrix.activation)
            .ok_or_else(|| FormatError::Missing {
                tensor: name.to_owned(),
                expected: "a matrix",
            })
    }

    /// The vector `name`, without its padding.
    ///
    /// # Errors
    /// When there is no such vector.
    pub fn vector(&self, name: &str) -> Result<&[f32], FormatError> {
        self.index.vector(self.bytes(), name)
    }

    /// The byte string `name`, without its padding.
    ///
    /// # Errors
    /// When there is no such byte string.
    pub fn blob(&self, name: &str) -> Result<&[u8], FormatError> {
        self.index.blob(self.bytes(), name)
    }

    /// The byte string `name`, as a handle that keeps the file's bytes where they are for as long as it lives.
    ///
    /// # Errors
    /// When there is no such byte string.
    pub fn share_blob(&self, name: &str) -> Result<SharedBlob, FormatError> {
        let blob = self.blob(name)?;
        // A blob is a part of the file's bytes.
        let start = blob.as_ptr() as usize - self.bytes().as_ptr() as usize;
        Ok(SharedBlob {
            range: start..start + blob.len(),
            storage: Arc::clone(&self.storage),
        })
    }

    /// Length of the file in bytes.
    pub fn file_len(&self) -> u64 {
        self.bytes().len() as u64
    }

    /// Whether the pages of the bytes belong to a file, this one or the program's for
    /// [`from_static`](Self::from_static), so that the system can drop and reread them.
    pub fn is_file_backed(&self) -> bool {
        matches!(*self.storage, Storage::Mapped(_) | Storage::Static(_))
    }

    /// Whether the bytes are a map of the file, so that [`advise`](Self::advise) and [`read_at`](Self::read_at) make a
    /// difference to what is resident.
    pub fn is_mapped(&self) -> bool {
        matches!(*self.storage, Storage::Mapped(_))
    }

    /// Tells the system what is to happen with the pages of a range of [`bytes`](Self::bytes): whether it followed. Where
    /// the file is not mapped there is nothing to tell.
    ///
    /// Whatever the answer, the bytes stay what they are: advice is about where they are kept.
    pub fn advise(&self, range: Range<usize>, advice: Advice) -> bool {
        match &*self.storage {
            Storage::Mapped(mapped) => mapped.advise(range, advice).is_ok(),
            Storage::Heap(_) | Storage::Pages(_) | Storage::Static(_) => false,
        }
    }

    /// Takes the pages of the tensor `name` out of this process, if it is mapped: for what has been used and is not needed
    /// soon, such as a byte string that was parsed. They come back when they are touched again.
    pub fn release(&self, name: &str) -> bool {
        match self.index.range(name) {
            Some(range) => self.advise(range, Advice::Release),
            None => false,
        }
    }

    /// Copies `out.len()` bytes from `offset` on. Those of a mapped file are read from the file, so that no page of the map
    /// becomes resident for them, and a file that has become shorter is an error.
    ///
    /// # Errors
    /// When the bytes cannot be read.
    ///
    /// # Panics
    /// When there are no such bytes in a file that is not mapped.
    pub fn read_at(&self, offset: usize, out: &mut [u8]) -> Result<(), FormatError> {
        match &*self.storage {
            Storage::Mapped(mapped) => mapped
                .read_at(offset, out)
                // Called for every token: the path is copied only for an error.
                .map_err(|source| FormatError::io("read", &mapped.path)(source)),
            Storage::Heap(_) | Storage::Pages(_) | Storage::Static(_) => {
                out.copy_from_slice(&self.bytes()[offset..][..out.len()]);
                Ok(())
            }
        }
    }

    /// Compares every tensor with its hash and looks for ternary codes 3, which reads the whole file.
    ///
    /// # Errors
    /// For the first tensor in file order that differs or has such a code.
    pub fn check_hashes(&self) -> Result<(), FormatError> {
        self.index.check_hashes(self.bytes())
    }

    /// Every tensor in file order: its name, what it is for, and its bytes with padding.
    pub fn tensor_sizes(&self) -> impl Iterator<Item = (&str, TensorKind, usize)> {
        self.index
            .tensors()
            .map(|(name, kind, range)| (name, kind, range.len()))
    }
}

/// A byte string of a packed file that holds on to the file's bytes: nothing is copied, and of a mapped file only the
/// pages that are used take memory.
#[derive(Clone, Debug)]
pub struct SharedBlob {
    storage: Arc<Storage>,
    range: Range<usize>,
}

impl AsRef<[u8]> for SharedBlob {
    fn as_ref(&self) -> &[u8] {
        &self.storage.bytes()[self.range.clone()]
    }
}

/// `len` zeros, at least one, in pages of their own, which the system supplies as they are touched.
fn pages(len: usize) -> io::Result<MmapMut> {
    let pages = MmapMut::map_anon(len)?;
    // Without huge pages it is only slower.
    #[cfg(target_os = "linux")]
    let _ = pages.advise(memmap2::Advice::HugePage);
    Ok(pages)
}

/// Opens a file for reading; refuses directories, and pipes, whose opening would block.
fn open_regular(path: &Path) -> Result<(File, u64), FormatError> {
    let open = || {
        let metadata = fs::metadata(path)?;
        if metadata.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::IsADirectory,
                "it is a directory",
            ));
        }
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a regular file",
            ));
        }
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok((file, len))
    };
    open().map_err(FormatError::io("open", path))
}
