//! What a caller can see of a download, and how it ends one.

/// Hears how far fetching is. Every method has a default that does nothing; `()` listens to nothing.
pub trait Progress {
    /// Some files will be fetched, `bytes` in all. Called again where more turn out to be needed.
    fn begin(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// `done` bytes of those announced by [`begin`](Self::begin) are on the disk; the last of them are of `file`.
    fn at(&mut self, file: &str, done: u64) {
        let _ = (file, done);
    }

    /// Something a person who waits wants to know: a wait, a retry, a fallback to the cache.
    fn note(&mut self, text: &str) {
        let _ = text;
    }

    /// Whether to stop. Asked several times a second.
    fn is_cancelled(&self) -> bool {
        false
    }
}

impl Progress for () {}
