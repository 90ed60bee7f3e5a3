//! Writing a file in blocks that the system can keep in huge pages.

use std::io::{self, Seek, SeekFrom, Write};

/// Bytes of a block: those of a huge page on x86-64, and on AArch64 with pages of 4 KiB.
///
/// Linux keeps what one call writes in its cache in pages as large as the length of the call and the alignment of its
/// place in the file allow (`generic_perform_write`, mm/filemap.c; ext4 from 6.16 on, XFS from 6.6 on). A whole block
/// becomes one huge page there, which a map of the file then has as one entry of the page table.
pub(crate) const BLOCK_BYTES: usize = 2 << 20;

/// Gathers what is written and hands it over a block at a time, each ending at a multiple of [`BLOCK_BYTES`] in the file.
///
/// After an error what was handed over is unknown: the file is of no use then.
pub(crate) struct Blocks<W> {
    out: W,
    /// Offset of the first gathered byte in the file.
    start: u64,
    gathered: Vec<u8>,
}

impl<W: Write> Blocks<W> {
    /// Writes to `out`, which is at the start of the file.
    pub(crate) fn new(out: W) -> Self {
        Self {
            out,
            start: 0,
            gathered: Vec::with_capacity(BLOCK_BYTES),
        }
    }

    /// Bytes that the block being gathered still takes.
    fn room(&self) -> usize {
        let before = (self.start % BLOCK_BYTES as u64) as usize;
        BLOCK_BYTES - before - self.gathered.len()
    }

    fn hand_over(&mut self) -> io::Result<()> {
        self.out.write_all(&self.gathered)?;
        self.start += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }
}

impl<W: Write> Write for Blocks<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room() == 0 {
            self.hand_over()?;
        }
        let taken = bytes.len().min(self.room());
        self.gathered.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_over()?;
        self.out.flush()
    }
}

impl<W: Write + Seek> Seek for Blocks<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.hand_over()?;
        self.start = self.out.seek(to)?;
        Ok(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A file that keeps which ranges it was handed.
    #[derive(Default)]
    struct Recorder {
        file: Cursor<Vec<u8>>,
        ranges: Vec<(u64, usize)>,
    }

    impl Write for Recorder {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.ranges.push((self.file.position(), bytes.len()));
            self.file.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Recorder {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.file.seek(to)
        }
    }

    #[test]
    fn calls_end_at_multiples_of_a_block() {
        let bytes: Vec<u8> = (0..2 * BLOCK_BYTES + 5).map(|i| (i % 251) as u8).collect();
        let mut blocks = Blocks::new(Recorder::default());
        blocks.seek(SeekFrom::Start(64)).unwrap();
        for piece in bytes.chunks(700_001) {
            blocks.write_all(piece).unwrap();
        }
        blocks.seek(SeekFrom::Start(0)).unwrap();
        blocks.write_all(&[7; 64]).unwrap();
        blocks.flush().unwrap();

        let block = BLOCK_BYTES as u64;
        let expected = [
            (64, BLOCK_BYTES - 64),
            (block, BLOCK_BYTES),
            (2 * block, 64 + 5),
            (0, 64),
        ];
        assert_eq!(blocks.out.ranges, expected);
        let file = blocks.out.file.into_inner();
        assert_eq!(file[..64], [7; 64]);
        assert!(file[64..] == bytes);
    }
}
