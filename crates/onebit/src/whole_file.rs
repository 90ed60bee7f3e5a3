//! Files that appear under their name only when they are complete, with errors that name them.

use crate::exit;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file being written beside its final place; dropped unfinished, it leaves nothing.
#[derive(Debug)]
pub struct WholeFile {
    file: onebit_runtime::WholeFile,
    path: PathBuf,
}

impl WholeFile {
    /// Begins the file that will be `path`.
    ///
    /// # Errors
    /// Where its folder cannot be written to; exit code 2 where the path is a folder, a device or a pipe, whose place
    /// the file would take.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file = onebit_runtime::WholeFile::create(path).map_err(|e| in_file(path, e))?;
        let path = path.to_owned();
        Ok(Self { file, path })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// Where the disk is full or fails.
    pub fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let done = self.file.write_all(bytes);
        done.map_err(|e| in_file(&self.path, e))
    }

    /// Puts all bytes on the disk and gives the file its name, replacing what had it.
    ///
    /// # Errors
    /// Where the disk is full or fails.
    pub fn finish(self) -> anyhow::Result<()> {
        self.file.finish().map_err(|e| in_file(&self.path, e))
    }
}

/// Writes a whole file.
///
/// # Errors
/// As [`WholeFile`].
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = WholeFile::create(path)?;
    file.write(bytes)?;
    file.finish()
}

fn in_file(path: &Path, error: io::Error) -> anyhow::Error {
    let what = format!("cannot write {}", path.display());
    match error.kind() {
        io::ErrorKind::InvalidInput => exit::request(format!("{what}: {error}")),
        _ => anyhow::Error::new(error).context(what),
    }
}
