//! Why a session cannot be written to a file, or read from one.

use std::io;
use std::path::Path;

use onebit_model::ModelError;

use crate::error::{ErrorKind, RuntimeError};

/// Why a session cannot be written to a file, or read from one.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file cannot be read.
    #[error("cannot read it: {0}")]
    Read(io::Error),
    /// The file cannot be written.
    #[error("cannot write it: {0}")]
    Write(io::Error),
    /// The path is a folder, a device or a pipe.
    #[error("it is not a regular file")]
    NotAFile,
    /// The file begins with other bytes.
    #[error("it is not the state of a session")]
    Magic,
    /// The file is of another version of the format.
    #[error("its format has version {found}, this program reads version {known}")]
    Version {
        /// Its version.
        found: u32,
        /// The version that this program reads.
        known: u32,
    },
    /// A part of the file cannot be what it says.
    #[error("it is malformed: impossible {0}")]
    Malformed(&'static str),
    /// The file is shorter or longer than its header says.
    #[error("it has {found} bytes, its header asks for {expected}")]
    Length {
        /// Bytes that follow from the header.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// The bytes are not the ones that were written.
    #[error("it is damaged: the checksum does not match")]
    Checksum,
    /// Another model, or the same with other arithmetic of the activations, has computed it.
    #[error(
        "it is of another model, or was computed with another --activations: use the ones that it was saved with"
    )]
    OtherModel,
    /// Its keys and values are stored in another way.
    #[error("it was saved with {what} {saved}, and {asked} is asked for: use the same")]
    OtherOptions {
        /// The option, as the flag is called.
        what: &'static str,
        /// Its value in the file.
        saved: String,
        /// The value asked for.
        asked: String,
    },
    /// Its tokens do not fit.
    #[error("its {tokens} tokens do not fit a context of {context}: -c {tokens} is the least")]
    Context {
        /// Tokens in the file.
        tokens: usize,
        /// Tokens that fit.
        context: usize,
    },
    /// The cache refuses.
    #[error(transparent)]
    Cache(ModelError),
}

impl StateError {
    /// The broad class.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Write(_) => ErrorKind::Failed,
            Self::NotAFile
            | Self::OtherModel
            | Self::OtherOptions { .. }
            | Self::Context { .. } => ErrorKind::Request,
            Self::Version { found, known } if found > known => ErrorKind::Unsupported,
            Self::Cache(error) => ErrorKind::of_model(error),
            _ => ErrorKind::Malformed,
        }
    }

    pub(super) fn of_write(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidInput => Self::NotAFile,
            _ => Self::Write(error),
        }
    }

    pub(super) fn of_read(error: io::Error) -> Self {
        Self::Read(error)
    }

    pub(super) fn in_file(self, path: &Path) -> RuntimeError {
        RuntimeError::State {
            path: path.to_owned(),
            error: Box::new(self),
        }
    }
}

impl From<ModelError> for StateError {
    fn from(error: ModelError) -> Self {
        match error {
            ModelError::StateRead(error) => Self::Read(error),
            error => Self::Cache(error),
        }
    }
}
