//! What can go wrong in a conversion.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use onebit_format::FormatError;
use onebit_model::ModelError;
use thiserror::Error;

use crate::verify::Verification;

/// The broad class of a [`ConvertError`], for programs that map errors to exit codes.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The options cannot be served: an existing output, a type the weights cannot take.
    Request,
    /// The source is missing, unreadable, truncated or contradicts itself.
    Malformed,
    /// The source is well-formed, but of a kind this version does not convert.
    Unsupported,
    /// Writing failed: no space, no permission, or what was written does not read back.
    Io,
    /// The packed file does not compute what its source computes.
    Verification,
    /// [`Progress::is_cancelled`](crate::Progress::is_cancelled) said so.
    Cancelled,
}

/// Why a checkpoint could not be converted.
#[non_exhaustive]
#[derive(Debug, Error)]
pub enum ConvertError {
    /// The options ask for something that is not done.
    #[error("{0}")]
    Request(String),
    /// A file of the source cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Something in the source is wrong.
    #[error("{subject}: {reason}")]
    Malformed {
        /// The file, config field or tensor.
        subject: String,
        /// What was expected of it and what was found.
        reason: String,
    },
    /// Something in the source is not supported.
    #[error("{subject} is not supported: {reason}")]
    Unsupported {
        /// The config field with its value, the tensor, or the file.
        subject: String,
        /// What is supported in its place, or why it is not.
        reason: String,
    },
    /// A packed ternary weight does not decode to what was packed: a fault of this program or of
    /// the machine.
    #[error("tensor `{tensor}`: row {row}, column {col} does not read back as it was packed")]
    ReadBack {
        /// The tensor of the packed file.
        tensor: String,
        /// Its row.
        row: usize,
        /// Its column.
        col: usize,
    },
    /// The packed file does not compute what its source computes; nothing is left of the output.
    #[error("verification failed: {reason} (worst at position {}); {found}", found.worst_position)]
    Verification {
        /// The measure that is beyond its limit, and both.
        reason: String,
        /// Everything that was measured.
        found: Box<Verification>,
    },
    /// The packed file could not be evaluated.
    #[error("cannot evaluate the packed file: {0}")]
    Decode(#[source] ModelError),
    /// The caller gave up; nothing is left of the output.
    #[error("the conversion was cancelled")]
    Cancelled,
    /// The packed file could not be written.
    #[error(transparent)]
    Output(#[from] FormatError),
}

impl ConvertError {
    /// The broad class.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Request(_) => ErrorKind::Request,
            Self::Source { .. } | Self::Malformed { .. } => ErrorKind::Malformed,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::ReadBack { .. } => ErrorKind::Io,
            Self::Verification { .. } => ErrorKind::Verification,
            Self::Decode(error) => match error.kind() {
                onebit_model::ErrorKind::Request => ErrorKind::Request,
                onebit_model::ErrorKind::Malformed => ErrorKind::Malformed,
                onebit_model::ErrorKind::Unsupported => ErrorKind::Unsupported,
                _ => ErrorKind::Io,
            },
            Self::Cancelled => ErrorKind::Cancelled,
            Self::Output(error) => match error.kind() {
                onebit_format::ErrorKind::Request => ErrorKind::Request,
                onebit_format::ErrorKind::Malformed => ErrorKind::Malformed,
                onebit_format::ErrorKind::Unsupported => ErrorKind::Unsupported,
                _ => ErrorKind::Io,
            },
        }
    }

    pub(crate) fn source(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Source {
            path: path.to_path_buf(),
            source,
        }
    }

    pub(crate) fn malformed(subject: impl Display, reason: impl Display) -> Self {
        Self::Malformed {
            subject: shorten(subject),
            reason: shorten(reason),
        }
    }

    pub(crate) fn unsupported(subject: impl Display, reason: impl Display) -> Self {
        Self::Unsupported {
            subject: shorten(subject),
            reason: shorten(reason),
        }
    }
}

/// A part of a message: names in files may be endless.
fn shorten(part: impl Display) -> String {
    const MAX: usize = 400;
    let mut text = part.to_string();
    if let Some((at, _)) = text.char_indices().nth(MAX) {
        text.truncate(at);
        text.push_str("...");
    }
    text
}

pub(crate) type Result<T, E = ConvertError> = std::result::Result<T, E>;
