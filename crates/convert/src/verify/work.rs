//! Long work that says how far it is and stops when asked to.

use crate::error::{ConvertError, Result};
use crate::progress::Progress;

/// Passes progress on, and turns a cancellation into an error.
pub(super) struct Work<'p> {
    progress: &'p mut dyn Progress,
}

impl<'p> Work<'p> {
    pub(super) fn new(progress: &'p mut dyn Progress) -> Self {
        Self { progress }
    }

    /// Counts bytes as done, and gives up if that is wanted.
    pub(super) fn advance(&mut self, name: &str, bytes: u64) -> Result<()> {
        self.progress.advance(name, bytes);
        self.check()
    }

    /// Gives up if that is wanted.
    pub(super) fn check(&self) -> Result<()> {
        match self.progress.is_cancelled() {
            true => Err(ConvertError::Cancelled),
            false => Ok(()),
        }
    }
}
