//! The one way anything reaches stdout: errors become typed errors, never panics.

use crate::exit::StdoutError;
use serde::Serialize;
use std::io::{self, Write};

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
