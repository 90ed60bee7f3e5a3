//! Room on the disk.

use crate::error::{HubError, Result};
use std::path::Path;

/// Refuses to begin what cannot end well: `needed` more bytes in `folder`, which need not be there yet.
pub(crate) fn check(folder: &Path, needed: u64) -> Result<()> {
    let there = folder.ancestors().find(|folder| folder.exists());
    match free(there.unwrap_or(folder)) {
        Some(free) if needed > free => Err(HubError::Space {
            path: folder.to_owned(),
            needed,
            free,
        }),
        _ => Ok(()),
    }
}

/// Free bytes where the system tells; file systems that count no blocks tell nothing.
#[cfg(unix)]
fn free(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder)
        .ok()
        .filter(|stat| stat.f_blocks > 0)?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(not(unix))]
fn free(_folder: &Path) -> Option<u64> {
    None
}
