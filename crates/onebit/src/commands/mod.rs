//! One module per command: its flags, and what it does.

pub mod chat;
pub mod completions;
pub mod convert;
pub mod info;
pub mod run;
pub mod score;
pub mod tokenize;

use crate::cli::{Cli, Command};
use crate::exit::Code;

/// Does what the command line asks for.
///
/// # Errors
/// Whatever the command ran into; [`crate::classify::code_of`] gives the exit code.
pub fn dispatch(cli: Cli) -> anyhow::Result<Code> {
    match cli.command {
        Command::Run(args) => run::run(*args),
        Command::Chat(args) => chat::run(*args),
        Command::Score(args) => score::run(*args),
        Command::Tokenize(args) => tokenize::run(args),
        Command::Info(args) => info::run(args),
        Command::Convert(args) => convert::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}
