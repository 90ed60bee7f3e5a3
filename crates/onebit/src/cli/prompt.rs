//! Where the text comes from: the command line, a file, stdin, or ids taken as they are.

use super::IdList;
use crate::exit;
use clap::Args;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

/// Longest text read, in bytes; no context has room for the tokens of a longer one. Some sources never end.
pub(crate) const MAX_TEXT: u64 = 16 << 20;

/// Where the prompt comes from; without any of these, from stdin when that is not a terminal.
#[derive(Clone, Debug, Default, Args)]
pub struct PromptArgs {
    /// The prompt
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with_all = ["file", "ids"])]
    pub prompt: Option<String>,
    /// Read the prompt from a file; one line end at its end is dropped
    #[arg(short, long, value_name = "FILE", conflicts_with = "ids")]
    pub file: Option<PathBuf>,
    /// Token ids as the prompt, taken exactly as given: 1,2,3
    #[arg(long, value_name = "IDS", allow_negative_numbers = true)]
    pub ids: Option<IdList>,
}

/// A prompt before it meets a tokenizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Text to encode with the model's special tokens.
    Text(String),
    /// Ids taken as they are.
    Ids(Vec<u32>),
}

impl PromptArgs {
    /// Reads the prompt from wherever it was said to be.
    ///
    /// # Errors
    /// Exit code 2 where there is none, it is empty, or it cannot be read as text.
    pub fn read(self) -> anyhow::Result<Prompt> {
        let prompt = match self {
            Self {
                ids: Some(IdList(ids)),
                ..
            } => Prompt::Ids(ids),
            Self {
                prompt: Some(text), ..
            } => Prompt::Text(text),
            Self {
                file: Some(path), ..
            } => Prompt::Text(without_final_line_end(read_text_file(&path)?)),
            _ if std::io::stdin().is_terminal() => {
                return Err(exit::request(
                    "no prompt: give -p TEXT, -f FILE, --ids IDS, or text on stdin",
                ));
            }
            _ => Prompt::Text(without_final_line_end(read_text_stdin()?)),
        };
        match &prompt {
            Prompt::Text(text) if text.is_empty() => Err(exit::request("the prompt is empty")),
            Prompt::Ids(ids) if ids.is_empty() => Err(exit::request(
                "the prompt is empty: --ids holds no token id",
            )),
            _ => Ok(prompt),
        }
    }
}

/// The text of a file.
///
/// # Errors
/// Exit code 2 where it cannot be read or is not UTF-8.
pub(crate) fn read_text_file(path: &Path) -> anyhow::Result<String> {
    let name = path.display().to_string();
    let file = std::fs::File::open(path);
    read_text(
        file.map_err(|e| exit::request(format!("cannot read {name}: {e}")))?,
        &name,
    )
}

/// All of stdin as text.
///
/// # Errors
/// Exit code 2 where it cannot be read or is not UTF-8.
pub(crate) fn read_text_stdin() -> anyhow::Result<String> {
    read_text(std::io::stdin(), "stdin")
}

fn read_text(source: impl Read, name: &str) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    source
        .take(MAX_TEXT + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| exit::request(format!("cannot read {name}: {e}")))?;
    if bytes.len() as u64 > MAX_TEXT {
        return Err(exit::request(format!(
            "{name} is longer than {MAX_TEXT} bytes"
        )));
    }
    String::from_utf8(bytes)
        .map_err(|e| exit::request(format!("{name} is not UTF-8 text: {}", e.utf8_error())))
}

fn without_final_line_end(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_line_end_is_dropped() {
        assert_eq!(without_final_line_end("a\n\n".into()), "a\n");
        assert_eq!(without_final_line_end("a\r\n".into()), "a");
        assert_eq!(without_final_line_end("a\r".into()), "a\r");
        assert_eq!(without_final_line_end("a".into()), "a");
    }
}
