//! Weights that cannot be paged out.

use onebit_format::PackedFile;

use crate::error::RuntimeError;
#[cfg(unix)]
use crate::os::CgroupMemory;

/// Reads all bytes of a packed file and locks them in memory for as long as they are mapped, so that no step waits for a disk.
///
/// # Errors
/// [`RuntimeError::LockLimit`] where the cgroup allows less memory, [`RuntimeError::Lock`] where the system refuses, usually
/// because of `RLIMIT_MEMLOCK`, [`RuntimeError::CannotLock`] on systems without `mlock`.
#[cfg(unix)]
pub fn lock_weights(file: &PackedFile) -> Result<(), RuntimeError> {
    let bytes = file.file_len();
    // Beyond its cgroup's limit, the process would not get an error but be killed.
    let limit = CgroupMemory::read().and_then(|group| group.limit);
    if let Some(limit) = limit.filter(|limit| *limit < bytes) {
        return Err(RuntimeError::LockLimit { bytes, limit });
    }
    lock(file.bytes()).map_err(|source| RuntimeError::Lock {
        bytes,
        limit: locked_limit(),
        source,
    })
}

/// This system cannot.
#[cfg(not(unix))]
pub fn lock_weights(_file: &PackedFile) -> Result<(), RuntimeError> {
    Err(RuntimeError::CannotLock)
}

#[cfg(unix)]
fn lock(bytes: &[u8]) -> std::io::Result<()> {
    // SAFETY: the range is that of a live slice; locking changes neither its bytes nor who may access them.
    match unsafe { libc::mlock(bytes.as_ptr().cast(), bytes.len()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Bytes that this process may lock; `None` where there is no limit, or the system does not say.
#[cfg(unix)]
fn locked_limit() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is valid for the call, which does not keep it.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } == 0;
    // The type depends on the system.
    #[allow(clippy::unnecessary_cast)]
    let current = limit.rlim_cur as u64;
    (known && limit.rlim_cur != libc::RLIM_INFINITY).then_some(current)
}
