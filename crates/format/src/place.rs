//! Putting a finished file into its place.

use std::fs;
use std::io;
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

use crate::error::FormatError;

/// Refuses an output that is a directory, or that exists and may not be replaced.
pub(crate) fn check_vacant(path: &Path, force: bool) -> Result<(), FormatError> {
    if path.is_dir() {
        let error = io::Error::new(io::ErrorKind::IsADirectory, "it is a directory");
        return Err(FormatError::io("write", path)(error));
    }
    if !force && fs::symlink_metadata(path).is_ok() {
        return Err(FormatError::Exists {
            path: path.to_path_buf(),
        });
    }
    Ok(())
}

/// A temporary file in the directory of `path`, with the permissions of any new file.
pub(crate) fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(".onebit-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(directory(path))
}

/// Moves the file to `path` and makes the move durable.
pub(crate) fn persist(temp: NamedTempFile, path: &Path, force: bool) -> Result<(), FormatError> {
    let moved = if force {
        temp.persist(path)
    } else {
        temp.persist_noclobber(path)
    };
    moved.map_err(|failed| match failed.error.kind() {
        io::ErrorKind::AlreadyExists => FormatError::Exists {
            path: path.to_path_buf(),
        },
        _ => FormatError::io("write", path)(failed.error),
    })?;
    sync_directory(directory(path)).map_err(FormatError::io("sync the directory of", path))
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Some file systems cannot sync a directory and say so; there is nothing to do about it.
#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    match fs::File::open(directory).and_then(|directory| directory.sync_all()) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

#[cfg(not(unix))]
fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}
