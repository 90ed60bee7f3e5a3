//! What can go wrong between a name and the files on the disk.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, HubError>;

/// Why the files of a repository are not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A name, a revision or a setting that cannot be meant.
    #[error("{0}")]
    Request(String),
    /// The hub has no such repository, revision or file.
    #[error("{0}")]
    NotFound(String),
    /// The hub does not let this user read the repository.
    #[error("{0}")]
    Denied(String),
    /// The network may not be used, and the cache does not have it.
    #[error(
        "{what} is not in the cache {}, and the network may not be used; \
         run once without --offline and HF_HUB_OFFLINE, or download it with `hf download`",
        cache.display()
    )]
    Offline {
        /// What is missing.
        what: String,
        /// The hub's cache folder.
        cache: PathBuf,
    },
    /// The repository holds no weights that can be read.
    #[error("{0}")]
    Unsupported(String),
    /// What arrived is not what was announced, or contradicts itself.
    #[error("{file}: {reason}")]
    Content {
        /// The file, as the repository names it.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The server answers, but not as a hub does.
    #[error("{url}: {reason}; is HF_ENDPOINT a Hugging Face hub?")]
    Answer {
        /// What was asked.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The server answers with an HTTP error.
    #[error("{url}: the server answers {status}")]
    Status {
        /// What was asked.
        url: String,
        /// The HTTP status code.
        status: u16,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// No connection, or one that broke.
    #[error("{url}: {reason}")]
    Network {
        /// What was asked.
        url: String,
        /// What happened.
        reason: String,
        /// Whether there was no way to the server at all, rather than a broken one.
        unreachable: bool,
    },
    /// Fetching gave up; what arrived is kept.
    #[error(
        "{file}: {reason}; {kept} of {bytes} bytes are kept, and the same command goes on from there"
    )]
    Cut {
        /// The file, as the repository names it.
        file: String,
        /// The last thing that happened.
        reason: String,
        /// Bytes on the disk.
        kept: u64,
        /// Bytes of the whole file.
        bytes: u64,
    },
    /// The disk has not enough room.
    #[error("{}: {needed} bytes are needed, {free} are free", path.display())]
    Space {
        /// The folder to be written to.
        path: PathBuf,
        /// Bytes still to be written.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The cache cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// [`Progress::is_cancelled`](crate::Progress::is_cancelled) said so.
    #[error("interrupted")]
    Cancelled,
}

/// Kinds of errors, for exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request cannot be served as asked.
    Request,
    /// The model is not there, or not readable by this user.
    Missing,
    /// The model is there and contradicts itself.
    Malformed,
    /// The model is there in a form that is not read.
    Unsupported,
    /// The network or the server failed.
    Network,
    /// The disk failed or is full.
    Io,
    /// Stopped by the user.
    Cancelled,
}

impl HubError {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Request(_) => ErrorKind::Request,
            Self::NotFound(_) | Self::Denied(_) | Self::Offline { .. } => ErrorKind::Missing,
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::Content { .. } => ErrorKind::Malformed,
            Self::Answer { .. } | Self::Status { .. } | Self::Network { .. } | Self::Cut { .. } => {
                ErrorKind::Network
            }
            Self::Space { .. } | Self::Io { .. } => ErrorKind::Io,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }

    /// Whether the same request may succeed in a moment.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Network { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..),
            _ => false,
        }
    }

    /// Turns an I/O error into one that says what was tried on which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
