//! What a line typed into `onebit chat` means.

use std::path::PathBuf;

/// What `/help` prints.
pub(super) const HELP: &str = "\
/help       this list
/reset      forget the conversation
/save FILE  write the conversation as JSON, and keys and values to FILE.kv
/load FILE  go on from a conversation written by /save
/stats      speed and memory
/exit       leave";

/// A line, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Nothing,
    Say(String),
    Help,
    Reset,
    Save(PathBuf),
    Load(PathBuf),
    Stats,
    Exit,
}

impl Command {
    /// Reads a line; the error is a message for whoever typed it.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let line = line.trim();
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let file = || match rest {
            "" => Err(format!("{name} needs the name of a file")),
            _ => Ok(PathBuf::from(rest)),
        };
        match name {
            "" => Ok(Self::Nothing),
            "/save" => Ok(Self::Save(file()?)),
            "/load" => Ok(Self::Load(file()?)),
            _ if !name.starts_with('/') => Ok(Self::Say(line.to_owned())),
            _ if !rest.is_empty() => Err(format!(
                "{name} takes no argument, or is unknown; /help lists the commands"
            )),
            "/help" => Ok(Self::Help),
            "/reset" => Ok(Self::Reset),
            "/stats" => Ok(Self::Stats),
            "/exit" | "/quit" => Ok(Self::Exit),
            _ => Err(format!("{name} is unknown; /help lists the commands")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        assert_eq!(Command::parse(" \r\n"), Ok(Command::Nothing));
        assert_eq!(
            Command::parse("tell me\r\n"),
            Ok(Command::Say("tell me".into()))
        );
        assert_eq!(Command::parse("/exit\n"), Ok(Command::Exit));
        assert_eq!(
            Command::parse("/save my file.json\n"),
            Ok(Command::Save("my file.json".into()))
        );
        assert!(
            Command::parse("/save")
                .unwrap_err()
                .contains("name of a file")
        );
        assert!(Command::parse("/fly").unwrap_err().contains("/help"));
        assert!(Command::parse("/reset now").unwrap_err().contains("/reset"));
    }
}
