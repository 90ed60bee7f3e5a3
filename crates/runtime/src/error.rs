//! What can go wrong while a model runs, classified for exit codes.

use std::path::PathBuf;

/// The broad class of a [`RuntimeError`], for programs that map errors to exit codes.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request cannot be served as asked: an id out of range, a prompt longer than the context.
    Request,
    /// A file is missing parts, truncated or inconsistent.
    Malformed,
    /// The input is well-formed but not supported.
    Unsupported,
    /// It does not fit in memory.
    Memory,
    /// Any other failure at run time.
    Failed,
}

impl ErrorKind {
    pub(crate) fn of_model(error: &onebit_model::ModelError) -> Self {
        match error.kind() {
            onebit_model::ErrorKind::Request => Self::Request,
            onebit_model::ErrorKind::Unsupported => Self::Unsupported,
            onebit_model::ErrorKind::Memory => Self::Memory,
            _ => Self::Malformed,
        }
    }
}

/// Why a model could not be run.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A tokenizer file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The model comes without a tokenizer, so that only token ids can be used with it.
    #[error("{place} has no tokenizer.json")]
    NoTokenizer {
        /// Where it was looked for.
        place: String,
    },
    /// A tokenizer file does not hold what it should.
    #[error("{file}: {reason}")]
    TokenizerFile {
        /// Its name.
        file: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The tokenizer could not encode or decode.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The model has no chat template.
    #[error("the model has no chat template")]
    NoChatTemplate,
    /// The chat template is not a valid template.
    #[error("chat template: {0}")]
    TemplateSyntax(String),
    /// The chat template refuses or cannot render these messages.
    #[error("chat template: {0}")]
    Template(String),
    /// The chat template is larger, or does more, than any real one.
    #[error("chat template: {0}")]
    TemplateLimit(String),
    /// The list of messages is not one.
    #[error("messages: {0}")]
    Messages(String),
    /// An option is out of bounds.
    #[error("{name} = {value}: {expected} expected")]
    Option {
        /// The option.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// The logits are not numbers one can choose by.
    #[error("the logit of token {token} is {value}: the model's output is not usable")]
    Logits {
        /// The first such token.
        token: usize,
        /// Its logit.
        value: f32,
    },
    /// A stop string is empty.
    #[error("a stop string must not be empty")]
    EmptyStop,
    /// The tokens do not fit.
    #[error("{tokens} tokens do not fit a context of {context}")]
    ContextTooSmall {
        /// Tokens there would be.
        tokens: usize,
        /// Tokens that fit.
        context: usize,
    },
    /// The system has no threads left.
    #[error("cannot start the threads: {0}")]
    Threads(std::io::Error),
    /// The system refuses to lock the weights in memory.
    #[error(
        "cannot lock {bytes} bytes of weights in memory: {source}; {}",
        lock_fix(*limit)
    )]
    Lock {
        /// Bytes to lock.
        bytes: u64,
        /// Bytes that the process may lock, where there is such a limit.
        limit: Option<u64>,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The weights to lock are more than the process may have in memory.
    #[error(
        "cannot lock {bytes} bytes of weights in memory: the memory cgroup allows {limit} bytes; raise its limit, or map the weights without locking them"
    )]
    LockLimit {
        /// Bytes to lock.
        bytes: u64,
        /// Bytes that the cgroup allows.
        limit: u64,
    },
    /// Locking weights in memory is not possible on this system.
    #[error("locking weights in memory is not supported on this system")]
    CannotLock,
    /// The model refuses: it is malformed, or the request cannot be served.
    #[error(transparent)]
    Model(#[from] onebit_model::ModelError),
    /// A session does not fit the memory that there is for it.
    #[error("{0}")]
    DoesNotFit(Box<crate::memory::DoesNotFit>),
    /// A session cannot be written to a file, or read from one.
    #[error("saved session {}: {error}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: Box<crate::state::StateError>,
    },
    /// There is nothing to begin with.
    #[error("the prompt is empty")]
    EmptyPrompt,
}

impl RuntimeError {
    /// The broad class.
    pub fn kind(&self) -> ErrorKind {
        use RuntimeError as E;
        match self {
            E::Read { .. } | E::NoTokenizer { .. } | E::TokenizerFile { .. } => {
                ErrorKind::Malformed
            }
            E::TemplateSyntax(_) | E::TemplateLimit(_) => ErrorKind::Malformed,
            E::NoChatTemplate
            | E::Template(_)
            | E::Messages(_)
            | E::Option { .. }
            | E::EmptyStop
            | E::ContextTooSmall { .. }
            | E::EmptyPrompt => ErrorKind::Request,
            E::Lock { .. } | E::LockLimit { .. } => ErrorKind::Memory,
            E::CannotLock => ErrorKind::Unsupported,
            E::Tokenizer(_) | E::Logits { .. } | E::Threads(_) => ErrorKind::Failed,
            E::DoesNotFit(_) => ErrorKind::Memory,
            E::State { error, .. } => error.kind(),
            E::Model(error) => ErrorKind::of_model(error),
        }
    }
}

impl From<crate::memory::DoesNotFit> for RuntimeError {
    fn from(refusal: crate::memory::DoesNotFit) -> Self {
        Self::DoesNotFit(Box::new(refusal))
    }
}

/// What to do where memory cannot be locked.
fn lock_fix(limit: Option<u64>) -> String {
    let other = "or map the weights without locking them";
    match limit {
        Some(limit) => format!(
            "the limit on locked memory (RLIMIT_MEMLOCK) is {limit} bytes: raise it, for instance with `ulimit -l unlimited`, {other}"
        ),
        None => format!("free some memory, {other}"),
    }
}
