//! Reading files that may be anything: sizes are checked before memory is taken.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::{ConvertError, Result};

/// Opens a regular file (symbolic links are followed) and returns it with its length.
///
/// A directory, a pipe or a device is refused before it is opened: opening could block.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64)> {
    let len = check_regular(path)?;
    let file = File::open(path).map_err(ConvertError::source(path))?;
    Ok((file, len))
}

/// The length of a regular file.
fn check_regular(path: &Path) -> Result<u64> {
    let metadata = path.metadata().map_err(ConvertError::source(path))?;
    if !metadata.is_file() {
        let found = if metadata.is_dir() {
            "a directory"
        } else {
            "not a regular file"
        };
        return Err(ConvertError::malformed(
            path.display(),
            format!("expected a file, found {found}"),
        ));
    }
    Ok(metadata.len())
}

/// Whether there is a file of that name.
///
/// # Errors
/// For what is no regular file, and for a link that leads nowhere.
pub(crate) fn exists_regular(path: &Path) -> Result<bool> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        _ => check_regular(path).map(|_| true),
    }
}

/// Reads a whole file of at most `max` bytes; `None` when there is none of that name.
pub(crate) fn read_optional(path: &Path, max: u64) -> Result<Option<Vec<u8>>> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    let (file, len) = open_regular(path)?;
    if len > max {
        let reason = format!("{len} bytes, more than the {max} accepted");
        return Err(ConvertError::malformed(path.display(), reason));
    }
    let mut bytes = Vec::with_capacity(len as usize);
    file.take(max)
        .read_to_end(&mut bytes)
        .map_err(ConvertError::source(path))?;
    Ok(Some(bytes))
}

/// Fills `out` from byte `offset` of `file`, without moving a shared cursor where the system can.
pub(crate) fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, out, offset);
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < out.len() {
            match std::os::windows::fs::FileExt::seek_read(
                file,
                &mut out[done..],
                offset + done as u64,
            )? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => done += read,
            }
        }
        Ok(())
    }
    #[cfg(not(any(unix, windows)))]
    compile_error!("reading a shared file at an offset is written for Unix and Windows only");
}
