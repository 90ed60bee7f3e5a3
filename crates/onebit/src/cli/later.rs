//! Flags of the contract whose function is not built yet. They are parsed so that they can be refused by name.

use crate::exit;
use clap::Args;

/// Flags that are refused with exit code 4.
#[derive(Clone, Debug, Default, Args)]
pub struct LaterArgs {
    #[arg(long, value_name = "W", hide = true)]
    window: Option<String>,
    #[arg(long, value_name = "S", hide = true)]
    sinks: Option<String>,
}

impl LaterArgs {
    /// Refuses the first of these flags that was given.
    ///
    /// # Errors
    /// Exit code 4, naming the flag.
    pub fn refuse(&self) -> anyhow::Result<()> {
        let flags = [("--window", &self.window), ("--sinks", &self.sinks)];
        match flags.iter().find(|(_, value)| value.is_some()) {
            Some((flag, _)) => Err(exit::unsupported(format!("{flag} is not supported yet"))),
            None => Ok(()),
        }
    }
}
