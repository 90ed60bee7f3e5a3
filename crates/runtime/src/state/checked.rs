//! A hash of what is written or read.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

/// Bytes of the checksum at the end of a state.
pub(super) const CHECKSUM_BYTES: usize = 32;

/// Passes bytes through and hashes them.
pub(super) struct Hashed<T> {
    inner: T,
    hash: Sha256,
}

impl<T> Hashed<T> {
    pub(super) fn new(inner: T) -> Self {
        let hash = Sha256::new();
        Self { inner, hash }
    }

    /// What the bytes went to or came from, and their hash.
    pub(super) fn finish(self) -> (T, [u8; CHECKSUM_BYTES]) {
        (self.inner, self.hash.finalize().into())
    }
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashed<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.hash.update(&bytes[..read]);
        Ok(read)
    }
}
