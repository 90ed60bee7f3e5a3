//! What a mapped file tells the system about its pages, and reads that go around the map.

use std::fs::File;
use std::io;
use std::ops::Range;

use memmap2::Mmap;

#[cfg(target_os = "linux")]
use crate::blocks::BLOCK_BYTES;

/// What is to happen with some pages of a mapped file. None of it changes what the bytes are, only where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Read them and enter them in this process's page table, which waits for the disk.
    Populate,
    /// Take them out of this process. They stay in the system's cache, from where a later access brings them back.
    Release,
    /// Take them out of this process and of the system's cache, where no other process maps them.
    Evict,
    /// Read them in huge pages, where the system has those for files.
    Huge,
}

/// A file and its map.
#[derive(Debug)]
pub(crate) struct Mapped {
    pub(crate) map: Mmap,
    pub(crate) file: File,
    pub(crate) path: std::path::PathBuf,
}

impl Mapped {
    /// Passes `advice` for a range within the map on to the system.
    pub(crate) fn advise(&self, range: Range<usize>, advice: Advice) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        if range.end > self.map.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.pass_on(range, advice)
    }

    #[cfg(target_os = "linux")]
    fn pass_on(&self, range: Range<usize>, advice: Advice) -> io::Result<()> {
        match advice {
            Advice::Populate => {
                let advise = |advice| self.map.advise_range(advice, range.start, range.len());
                match advise(memmap2::Advice::PopulateRead) {
                    // Before Linux 5.14.
                    Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                        advise(memmap2::Advice::WillNeed)
                    }
                    done => done,
                }
            }
            Advice::Release => self.release(range),
            Advice::Evict => {
                self.release(range.clone())?;
                // A huge page that is only partly in the range would stay; what others of this process have mapped does.
                let range = range.start / BLOCK_BYTES * BLOCK_BYTES
                    ..range.end.next_multiple_of(BLOCK_BYTES);
                let len = std::num::NonZeroU64::new(range.len() as u64);
                let advice = rustix::fs::Advice::DontNeed;
                let start = range.start as u64;
                Ok(rustix::fs::fadvise(&self.file, start, len, advice)?)
            }
            Advice::Huge => {
                self.map
                    .advise_range(memmap2::Advice::HugePage, range.start, range.len())
            }
        }
    }

    #[cfg(target_os = "linux")]
    fn release(&self, range: Range<usize>) -> io::Result<()> {
        let advice = memmap2::UncheckedAdvice::DontNeed;
        // SAFETY: the range is within the map, which is shared, read-only and backed by a file: pages that are dropped
        // come back from that file with the bytes they had, so no view of them changes.
        unsafe {
            self.map
                .unchecked_advise_range(advice, range.start, range.len())
        }
    }

    /// Systems other than Linux are asked for what their `madvise` has safely: reading ahead.
    #[cfg(all(unix, not(target_os = "linux")))]
    fn pass_on(&self, range: Range<usize>, advice: Advice) -> io::Result<()> {
        match advice {
            Advice::Populate => {
                self.map
                    .advise_range(memmap2::Advice::WillNeed, range.start, range.len())
            }
            Advice::Release | Advice::Evict | Advice::Huge => Ok(()),
        }
    }

    /// This system decides alone.
    #[cfg(not(unix))]
    fn pass_on(&self, _range: Range<usize>, _advice: Advice) -> io::Result<()> {
        Ok(())
    }

    /// Reads bytes of the file at `offset`, as it is now, without the map.
    pub(crate) fn read_at(&self, offset: usize, out: &mut [u8]) -> io::Result<()> {
        read_exact_at(&self.file, offset as u64, out)
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                offset += read as u64;
                out = &mut out[read..];
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
