//! A file that is being fetched.

use crate::error::{HubError, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What has arrived so far.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) path: PathBuf,
    file: File,
    pub(crate) at: u64,
    hash: Sha256,
    /// Whether the next process can go on from it.
    pub(crate) is_kept: bool,
}

impl Part {
    /// Opens the unfinished file, and hashes what is in it; more than `size` is of no use.
    pub(crate) fn open(path: PathBuf, is_kept: bool, size: Option<u64>) -> Result<Self> {
        let failed = || HubError::io("write", &path);
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed())?;
        let mut at = file.metadata().map_err(failed())?.len();
        let mut hash = Sha256::new();
        if at > size.unwrap_or(0) {
            file.set_len(0).map_err(failed())?;
            at = 0;
        }
        let mut piece = vec![0; 1 << 20];
        let mut left = at;
        while left > 0 {
            let len = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            file.read_exact(&mut piece[..len]).map_err(failed())?;
            hash.update(&piece[..len]);
            left -= len as u64;
        }
        Ok(Self {
            path,
            file,
            at,
            hash,
            is_kept,
        })
    }

    /// SHA-256 of what is there, in hexadecimal.
    pub(crate) fn sha256(&self) -> String {
        let hash = self.hash.clone().finalize();
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Appends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .seek(SeekFrom::Start(self.at))
            .and_then(|_| self.file.write_all(bytes))
            .map_err(HubError::io("write", &self.path))?;
        self.hash.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Gives the content its name.
    pub(crate) fn finish(&self, blob: &Path) -> Result<()> {
        self.file
            .set_len(self.at)
            .and_then(|()| self.file.sync_data())
            .and_then(|()| match fs::rename(&self.path, blob) {
                // Without working locks another process may have been faster, with the same bytes.
                Err(_) if blob.is_file() => Ok(()),
                other => other,
            })
            .map_err(HubError::io("write", blob))
    }

    /// Begins again with the first byte.
    pub(crate) fn restart(&mut self) {
        self.at = 0;
        self.hash = Sha256::new();
    }

    /// Leaves nothing that somebody could go on from.
    pub(crate) fn forget(&self) {
        let _ = fs::remove_file(&self.path);
    }
}
