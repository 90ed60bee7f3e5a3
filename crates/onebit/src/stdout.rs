//! The one way anything reaches stdout: errors become typed errors, never panics.

use crate::exit::StdoutError;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// Writes `text` as it is and hands it to the reader at once.
pub fn print(text: &str) -> Result<(), StdoutError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(StdoutError)
}

/// Writes `text` and a line end.
pub fn line(text: &str) -> Result<(), StdoutError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(StdoutError)
}

/// Writes `value` as one line of JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?)?;
    Ok(())
}

/// Ends the line a person is looking at; in a pipe or a file nothing is added.
pub fn end_line_on_terminal() -> Result<(), StdoutError> {
    if io::stdout().is_terminal() {
        line("")
    } else {
        Ok(())
    }
}
