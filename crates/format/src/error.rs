//! What can go wrong with a packed file.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::matrix::ShapeError;

/// The broad class of a [`FormatError`], for programs that map errors to exit codes.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The operating system refused: missing file, no space, no permission.
    Io,
    /// The caller asked for something that cannot be done, such as overwriting a file unasked.
    Request,
    /// The bytes are not a valid packed file: truncated, mislabelled, inconsistent.
    Malformed,
    /// The file is from a format this version does not know.
    Unsupported,
}

/// Why a packed file could not be read or written.
#[non_exhaustive]
#[derive(Debug, Error)]
pub enum FormatError {
    /// An operation on a file failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The output exists and overwriting was not asked for.
    #[error("{} exists already", path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// The output is not a place for a file.
    #[error("cannot write {}: {reason}", path.display())]
    Output {
        /// The output.
        path: PathBuf,
        /// What it is.
        reason: &'static str,
    },
    /// The writer was not given what its plan announced.
    #[error("plan of the packed file: expected {expected}, got {found}")]
    Plan {
        /// What the plan demands now.
        expected: String,
        /// What was given.
        found: String,
    },
    /// The bytes are not a packed file.
    #[error("not a packed file: expected {expected}, found {found}")]
    Container {
        /// What the format demands.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The bytes in memory are not aligned, so that no tensor would be.
    #[error("a packed file in memory must be aligned to {expected} bytes")]
    Alignment {
        /// The alignment demanded, in bytes.
        expected: usize,
    },
    /// A field of the metadata is wrong.
    #[error("metadata field `{field}`: expected {expected}, found {found}")]
    Metadata {
        /// The field, as a path into the JSON.
        field: String,
        /// What the format demands.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A tensor is wrong.
    #[error("tensor `{tensor}`: expected {expected}, found {found}")]
    Tensor {
        /// The tensor.
        tensor: String,
        /// What the format demands.
        expected: String,
        /// What is there.
        found: String,
    },
    /// There is no tensor of that name and kind.
    #[error("tensor `{tensor}`: expected {expected}, which this file does not have")]
    Missing {
        /// The tensor asked for.
        tensor: String,
        /// The kind asked for.
        expected: &'static str,
    },
    /// Bytes, shape and scales of a matrix do not belong together.
    #[error("tensor `{tensor}`: {source}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// How they differ.
        source: ShapeError,
    },
    /// A tensor's bytes are not those that were written.
    #[error("tensor `{tensor}`: expected sha256 {expected}, found {found}")]
    Hash {
        /// The tensor.
        tensor: String,
        /// The hash in the metadata.
        expected: String,
        /// The hash of the bytes.
        found: String,
    },
    /// The file has another format version.
    #[error("format version {found} is not supported, this program reads version {expected}")]
    Version {
        /// The version this crate reads.
        expected: u32,
        /// The version of the file.
        found: u64,
    },
    /// The file needs a feature that this crate does not have.
    #[error("the file needs the feature `{feature}`, which this program does not have")]
    Feature {
        /// The feature's name.
        feature: String,
    },
    /// A matrix has a layout that this crate does not know.
    #[error("tensor `{tensor}`: layout `{layout}` is not supported")]
    Layout {
        /// The tensor.
        tensor: String,
        /// Its layout id.
        layout: String,
    },
}

impl FormatError {
    /// The broad class.
    pub fn kind(&self) -> ErrorKind {
        use FormatError as E;
        match self {
            E::Io { .. } => ErrorKind::Io,
            E::Exists { .. } | E::Output { .. } | E::Plan { .. } | E::Missing { .. } => {
                ErrorKind::Request
            }
            E::Container { .. }
            | E::Alignment { .. }
            | E::Metadata { .. }
            | E::Tensor { .. }
            | E::Shape { .. }
            | E::Hash { .. } => ErrorKind::Malformed,
            E::Version { .. } | E::Feature { .. } | E::Layout { .. } => ErrorKind::Unsupported,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    pub(crate) fn output(path: &Path, reason: &'static str) -> Self {
        Self::Output {
            path: path.to_path_buf(),
            reason,
        }
    }

    pub(crate) fn container(expected: impl ToString, found: impl ToString) -> Self {
        Self::Container {
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    pub(crate) fn metadata(
        field: impl ToString,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Self::Metadata {
            field: field.to_string(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    pub(crate) fn tensor(
        tensor: impl ToString,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Self::Tensor {
            tensor: tensor.to_string(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    pub(crate) fn plan(expected: impl ToString, found: impl ToString) -> Self {
        Self::Plan {
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}
