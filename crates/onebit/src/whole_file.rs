//! Files that appear under their name only when they are complete.

use crate::exit;
use anyhow::Context;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A file being written beside its final place; dropped unfinished, it leaves nothing.
#[derive(Debug)]
pub struct WholeFile {
    out: BufWriter<NamedTempFile>,
    path: PathBuf,
}

impl WholeFile {
    /// Begins the file that will be `path`.
    ///
    /// # Errors
    /// Where its folder cannot be written to; exit code 2 where the path is a folder, a device or a pipe, whose place
    /// the file would take.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(exit::request(format!(
                "{}: it is not a regular file",
                cannot_write(path)
            )));
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".onebit-").suffix(".part");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder
            .tempfile_in(folder)
            .with_context(|| cannot_write(path))?;
        Ok(Self {
            out: BufWriter::new(file),
            path: path.to_owned(),
        })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// Where the disk is full or fails.
    pub fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.out
            .write_all(bytes)
            .with_context(|| cannot_write(&self.path))
    }

    /// Puts all bytes on the disk and gives the file its name, replacing what had it.
    ///
    /// # Errors
    /// Where the disk is full or fails.
    pub fn finish(self) -> anyhow::Result<()> {
        let failed = || cannot_write(&self.path);
        let file = self
            .out
            .into_inner()
            .map_err(|e| e.into_error())
            .with_context(failed)?;
        file.as_file().sync_all().with_context(failed)?;
        file.persist(&self.path)
            .map_err(|e| e.error)
            .with_context(failed)?;
        Ok(())
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

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}
