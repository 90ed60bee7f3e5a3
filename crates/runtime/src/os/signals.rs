//! Signals that would end the process where an error is meant.

/// Makes writing beyond the limit on file sizes (`ulimit -f`) an error like that of a full disk, instead of the end of
/// the process.
#[cfg(unix)]
pub fn survive_file_size_limit() {
    // SAFETY: ignoring a signal installs no handler, and no other code of this process handles this one.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Nothing to do here.
#[cfg(not(unix))]
pub fn survive_file_size_limit() {}
