//! Parsing and validation of a packed file's header.

use crate::error::FormatError;
use crate::meta::Meta;

/// The validated header of a packed file. It owns no tensor bytes.
#[derive(Clone, Debug)]
pub struct Index {
    meta: Meta,
}

impl Index {
    /// Parses and validates a whole file.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let _ = bytes;
        todo!()
    }

    /// The metadata.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }
}
