//! Measurements of this program itself, in a process of their own.

use crate::guard;
use anyhow::{Context, bail};
use onebit::exit::Code;

/// The hidden command of [`again`].
pub(crate) const COMMAND: &str = "bench-here";

/// Runs this process's command again as a child, which measures in itself and ends with this process. Output and progress are
/// its own; what it ends with is given back, or ends this process too where it is an error.
pub(super) fn again() -> anyhow::Result<Code> {
    let own = std::env::current_exe().context("the running program is not found")?;
    let mut command = guard::command(own)?;
    // After the program and `bench`.
    command.arg(COMMAND).args(std::env::args_os().skip(2));
    let status = command
        .status()
        .context("cannot start the process that measures")?;
    match status.code() {
        Some(0) => Ok(Code::Success),
        // It has said why.
        Some(code) => std::process::exit(code),
        None => bail!("the process that measures was ended: {status}"),
    }
}
