//! The bytes of a file being written: room for the header, then tensor after tensor.

use std::io::{self, Seek, SeekFrom, Write};

use sha2::{Digest, Sha256};

use crate::container::PREFIX_BYTES;
use crate::index::hex;
use crate::layout::ATOM_BYTES;

/// Writes tensors one after another and hashes them on the way.
pub(crate) struct Sink<W> {
    out: W,
    header_room: usize,
    hasher: Sha256,
    written: usize,
}

impl<W: Write + Seek> Sink<W> {
    /// Leaves room for a header of up to `header_room` bytes.
    pub(crate) fn new(mut out: W, header_room: usize) -> io::Result<Self> {
        let start = (PREFIX_BYTES + header_room).next_multiple_of(ATOM_BYTES);
        out.seek(SeekFrom::Start(start as u64))?;
        let header_room = start - PREFIX_BYTES;
        Ok(Self {
            out,
            header_room,
            hasher: Sha256::new(),
            written: 0,
        })
    }

    /// Bytes a header may have.
    pub(crate) fn header_room(&self) -> usize {
        self.header_room
    }

    /// Writes a part of the current tensor.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.hasher.update(bytes);
        self.written += bytes.len();
        Ok(())
    }

    /// Pads the current tensor to whole atoms and returns its hash.
    pub(crate) fn end(&mut self) -> io::Result<String> {
        let padding = self.written.next_multiple_of(ATOM_BYTES) - self.written;
        self.put(&[0; ATOM_BYTES][..padding])?;
        self.written = 0;
        Ok(hex(&self.hasher.finalize_reset()))
    }

    /// Writes the header, padded with spaces to the room that was left for it, which it must fit.
    pub(crate) fn write_header(mut self, header: &str) -> io::Result<W> {
        let mut bytes = (self.header_room as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(PREFIX_BYTES + self.header_room, b' ');
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&bytes)?;
        self.out.flush()?;
        Ok(self.out)
    }
}
