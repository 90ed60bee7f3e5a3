//! `cargo xtask guard`, hidden: becomes another program, which ends when whoever started it ends.

use anyhow::Context;
use clap::Args;
use onebit::exit::Code;
use std::ffi::{OsStr, OsString};
use std::process::Command;

/// Flags of `cargo xtask guard`.
#[derive(Debug, Args)]
pub(crate) struct GuardArgs {
    /// The process that started this one
    parent: u32,
    /// The program to become, and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// A command that runs `program` as a child of this process and ends with it, however that ends. What the program has in
/// memory, and its process id, are its own: the guard is replaced by it.
///
/// The thread that starts it must live as long as it does.
pub(crate) fn command(program: impl AsRef<OsStr>) -> anyhow::Result<Command> {
    let own = std::env::current_exe().context("the running program is not found")?;
    let mut command = Command::new(own);
    command
        .arg("guard")
        .arg(std::process::id().to_string())
        .arg(program);
    Ok(command)
}

/// Becomes the program.
#[cfg(unix)]
pub(crate) fn run(args: &GuardArgs) -> anyhow::Result<Code> {
    use std::os::unix::process::CommandExt;
    match onebit_runtime::end_with_parent(args.parent) {
        Err(error) if error.kind() != std::io::ErrorKind::Unsupported => {
            return Err(error).context("cannot end with the parent");
        }
        _ => {}
    }
    let (program, rest) = args.command.split_first().context("a program")?;
    let error = Command::new(program).args(rest).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// Runs the program and ends as it does.
#[cfg(not(unix))]
pub(crate) fn run(args: &GuardArgs) -> anyhow::Result<Code> {
    let (program, rest) = args.command.split_first().context("a program")?;
    let status = Command::new(program)
        .args(rest)
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    std::process::exit(status.code().unwrap_or(1));
}
