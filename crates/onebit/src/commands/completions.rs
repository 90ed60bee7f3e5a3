//! `onebit completions`: a completion script for a shell.

use crate::cli::Cli;
use crate::exit::Code;
use crate::stdout;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Flags of `onebit completions`.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell to write for
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<Code> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "onebit", &mut script);
    stdout::print(&String::from_utf8_lossy(&script))?;
    Ok(Code::Success)
}
