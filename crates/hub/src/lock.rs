//! One process fetches a blob; others wait for it.
//!
//! The lock is `flock` (`LockFileEx` on Windows) on the file that `huggingface_hub` locks too. It only saves work:
//! where a file system has no locks each process fetches into a file of its own, and where locks do nothing two
//! processes write the same bytes to the same places. A blob gets its name by a rename in any case.

use crate::cache::make_parent;
use crate::error::{HubError, Result};
use crate::progress::Progress;
use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

/// Waits for the lock; `None` where the file system has none. It is released when dropped.
pub(crate) fn acquire(
    path: &Path,
    file: &str,
    progress: &mut dyn Progress,
) -> Result<Option<File>> {
    make_parent(path)?;
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .open(path)
        .map_err(HubError::io("open", path))?;
    let mut told = false;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) if is_unsupported(&error) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(HubError::io("lock", path)(error)),
        }
        if progress.is_cancelled() {
            return Err(HubError::Cancelled);
        }
        if !told {
            progress.note(&format!("waiting for another process that fetches {file}"));
            told = true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// "No locks available" is what NFS says without a lock service.
fn is_unsupported(error: &io::Error) -> bool {
    #[cfg(unix)]
    let no_locks = error.raw_os_error() == Some(rustix::io::Errno::NOLCK.raw_os_error());
    #[cfg(not(unix))]
    let no_locks = false;
    no_locks || error.kind() == io::ErrorKind::Unsupported
}
