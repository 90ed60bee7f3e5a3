//! Putting a finished file into its place.

use std::fs;
use std::io;
use std::path::{Path, is_separator};

use tempfile::{Builder, NamedTempFile};

use crate::error::FormatError;

/// Refuses an output that is a directory, or that exists and may not be replaced.
///
/// Devices and pipes may not: a file of that name would take their place.
pub(crate) fn check_vacant(path: &Path, force: bool) -> Result<(), FormatError> {
    let refuse = |reason| Err(FormatError::output(path, reason));
    let named = path.file_name().is_some();
    if !named || path.as_os_str().to_string_lossy().ends_with(is_separator) {
        return refuse("it is not the name of a file");
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FormatError::io("write", path)(error)),
        Ok(_) => {}
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => refuse("it is a directory"),
        _ if !force => Err(FormatError::Exists {
            path: path.to_path_buf(),
        }),
        Ok(found) if !found.is_file() => refuse("it is not a regular file"),
        _ => Ok(()),
    }
}

/// How the names of temporary files begin and end.
const PREFIX: &str = ".onebit-";
const SUFFIX: &str = ".tmp";

/// A temporary file in the directory of `path`, with the permissions of any new file. It is locked for as long as it is
/// open; files of that kind that nobody has locked belong to writers that were killed, and are removed.
pub(crate) fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    remove_abandoned(directory(path));
    loop {
        let temp = create_beside(path)?;
        // File systems without locks have no cleaners either. A cleaner that came between is why it may be gone.
        let _ = temp.as_file().lock();
        if fs::symlink_metadata(temp.path()).is_ok() {
            return Ok(temp);
        }
    }
}

fn remove_abandoned(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ours = |name: &str| name.starts_with(PREFIX) && name.ends_with(SUFFIX);
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !is_file || !name.to_str().is_some_and(ours) {
            continue;
        }
        let file = fs::File::options().write(true).open(entry.path());
        let Ok(file) = file else { continue };
        if file.try_lock().is_ok() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn create_beside(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
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
