//! Ending together with the process that started this one.

use std::io;

/// Has the system end this process, at once, when the thread that started it ends; the program that this one is replaced
/// with by `exec` keeps that. `parent` is the id of the process that should still be there.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] where that process has ended before; what the system says where it refuses.
#[cfg(target_os = "linux")]
pub fn end_with_parent(parent: u32) -> io::Result<()> {
    // SAFETY: this option takes a signal number and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // It may have ended before the call.
    if std::os::unix::process::parent_id() != parent {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the process that started this one has ended",
        ));
    }
    Ok(())
}

/// Not possible here.
///
/// # Errors
/// Always [`io::ErrorKind::Unsupported`].
#[cfg(not(target_os = "linux"))]
pub fn end_with_parent(_parent: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
