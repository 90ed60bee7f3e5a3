//! Exit codes: what the process says about how it ended, and how errors are sorted into them.

use std::fmt;
use std::io::{self, Write};

/// How a command ends. The numbers are part of the command-line contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Everything asked for was done.
    Success = 0,
    /// Something failed while running: I/O, a full disk, the network.
    Failure = 1,
    /// The request cannot be served as asked.
    Request = 2,
    /// The model is missing, unreadable, truncated, malformed or inconsistent.
    Model = 3,
    /// Well-formed, but not supported.
    Unsupported = 4,
    /// Does not fit in memory.
    Memory = 5,
    /// Stopped by the user.
    Interrupted = 130,
}

/// An error that knows its exit code.
#[derive(Debug)]
pub struct Failure {
    code: Code,
    message: String,
}

impl Failure {
    /// An error that ends the process with `code` after printing `message`.
    pub fn new(code: Code, message: impl fmt::Display) -> Self {
        Self {
            code,
            message: message.to_string(),
        }
    }

    /// The code the process ends with.
    pub fn code(&self) -> Code {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The request cannot be served as asked (code 2).
pub fn request(message: impl fmt::Display) -> anyhow::Error {
    Failure::new(Code::Request, message).into()
}

/// The model is missing or broken (code 3).
pub fn bad_model(message: impl fmt::Display) -> anyhow::Error {
    Failure::new(Code::Model, message).into()
}

/// Well-formed, but not supported (code 4).
pub fn unsupported(message: impl fmt::Display) -> anyhow::Error {
    Failure::new(Code::Unsupported, message).into()
}

/// Does not fit in memory (code 5).
pub fn too_large(message: impl fmt::Display) -> anyhow::Error {
    Failure::new(Code::Memory, message).into()
}

/// Writing to stdout failed. A closed pipe is the reader's decision and not an error.
#[derive(Debug)]
pub struct StdoutError(pub io::Error);

impl fmt::Display for StdoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot write to stdout: {}", self.0)
    }
}

impl std::error::Error for StdoutError {}

/// Whether `error` only says that whoever read stdout has gone.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<StdoutError>()
        .is_some_and(|StdoutError(e)| e.kind() == io::ErrorKind::BrokenPipe)
}

/// The whole chain of causes on one line, leaving out a cause that its parent already quotes.
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let part = cause.to_string();
        if text.is_empty() {
            text = part;
        } else if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
    }
    shorten(text)
}

/// Cuts the middle out of a message that quotes something endless.
fn shorten(text: String) -> String {
    const ENDS: usize = 700;
    let count = text.chars().count();
    if count <= 2 * ENDS + 20 {
        return text;
    }
    let start = text.chars().take(ENDS);
    start
        .chain(" ... ".chars())
        .chain(text.chars().skip(count - ENDS))
        .collect()
}

/// Prints `error` on stderr; a closed stderr is not worth a panic.
pub fn print(error: &anyhow::Error) {
    let _ = writeln!(io::stderr(), "error: {}", describe(error));
}

/// Prints one line for the user on stderr.
#[macro_export]
macro_rules! note {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($arg)*);
    }};
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn description_does_not_repeat_a_quoted_cause() {
        let inner = anyhow::anyhow!("disk full").context("writing x: disk full");
        assert_eq!(describe(&inner), "writing x: disk full");
        let outer = Err::<(), _>(anyhow::anyhow!("disk full"))
            .context("writing x")
            .unwrap_err();
        assert_eq!(describe(&outer), "writing x: disk full");
    }

    #[test]
    fn long_messages_keep_both_ends() {
        let long = describe(&anyhow::anyhow!("start {} end", "x".repeat(1 << 20)));
        assert!(long.starts_with("start x") && long.ends_with("x end") && long.len() < 1500);
        assert_eq!(describe(&anyhow::anyhow!("short")), "short");
    }

    #[test]
    fn a_closed_pipe_is_recognized_and_a_full_disk_is_not() {
        let closed = StdoutError(io::ErrorKind::BrokenPipe.into());
        let full = StdoutError(io::ErrorKind::StorageFull.into());
        assert!(is_closed_pipe(&closed.into()));
        assert!(!is_closed_pipe(&full.into()));
    }
}
