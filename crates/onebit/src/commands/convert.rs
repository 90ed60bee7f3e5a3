//! `onebit convert` and `cargo xtask convert`: a Hugging Face folder or a model of the hub into a packed file.

use crate::cli::HubArgs;
use crate::exit::{self, Code};
use crate::progress::ConversionBar;
use crate::source::Source;
use crate::stdout;
use clap::Args;
use onebit_convert::Options;
use std::path::PathBuf;

/// Flags of `convert`.
#[derive(Clone, Debug, Args)]
pub struct ConvertArgs {
    /// The Hugging Face folder, or a hub id user/name[@revision]
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The packed file to write
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Encoding of the decoder's matrices: auto, t2 (ternary in 2 bits), keep, f16, q8, q4
    #[arg(
        long, value_name = "HOW", default_value = "auto", hide_possible_values = true,
        value_parser = ["auto", "t2", "dense", "b1", "keep", "f16", "q8", "q4"]
    )]
    weights: String,
    /// Encoding of the embedding: keep, f16, q8, q4 [default: keep; with a tied head, what --head says]
    #[arg(long, value_name = "HOW", hide_possible_values = true, value_parser = ["keep", "f16", "q8", "q4"])]
    embed: Option<String>,
    /// Encoding of the output head: keep, f16, q8, q4 [default: keep]; with a tied head it decides for both
    #[arg(long, value_name = "HOW", hide_possible_values = true, value_parser = ["keep", "f16", "q8", "q4"])]
    head: Option<String>,
    /// Write over an existing file
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    hub: HubArgs,
    #[arg(
        long = "for",
        value_name = "TARGET",
        default_value = "portable",
        hide = true
    )]
    target: String,
    #[arg(long, value_name = "N", hide = true)]
    verify: Option<u64>,
}

/// Converts, and prints a summary on stdout.
///
/// # Errors
/// What the converter refuses or runs into.
pub fn run(args: &ConvertArgs) -> anyhow::Result<Code> {
    refuse_later(args)?;
    let mut options = Options::default();
    options.weights = args.weights.parse()?;
    options.embed = args.embed.as_deref().map(str::parse).transpose()?;
    options.head = args.head.as_deref().map(str::parse).transpose()?;
    options.force = args.force;
    let source = Source::find(Some(&args.source), &args.hub)?;
    if matches!(source, Source::Hub(_)) {
        refuse_existing(args)?;
    }
    let folder = source.checkpoint(&mut options)?;
    let report =
        onebit_convert::convert(&folder, &args.output, &options, &mut ConversionBar::new()?)?;
    stdout::line(&report.to_string())?;
    Ok(Code::Success)
}

/// The converter would refuse this too, but only after the download.
fn refuse_existing(args: &ConvertArgs) -> anyhow::Result<()> {
    match args.output.symlink_metadata() {
        Ok(_) if !args.force => Err(exit::request(format!(
            "{} exists already; --force replaces it",
            args.output.display()
        ))),
        _ => Ok(()),
    }
}

fn refuse_later(args: &ConvertArgs) -> anyhow::Result<()> {
    if args.verify.is_some() {
        return Err(exit::unsupported(
            "--verify is not supported yet; every ternary weight is read back in any case",
        ));
    }
    match args.target.as_str() {
        "portable" => Ok(()),
        other => Err(exit::unsupported(format!(
            "--for {other} is not supported; every layout is portable so far"
        ))),
    }
}
