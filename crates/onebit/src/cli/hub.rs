//! Flags for models of the Hugging Face Hub.

use clap::Args;

/// Flags for models of the Hugging Face Hub.
#[derive(Clone, Debug, Default, Args)]
pub struct HubArgs {
    /// Branch, tag or commit of a hub id; the same as user/name@REV [default: main]
    #[arg(long, value_name = "REV", help_heading = "Hub")]
    pub revision: Option<String>,
    /// Use no network: a model that was converted or fetched before, else an error
    #[arg(long, help_heading = "Hub")]
    pub offline: bool,
}
