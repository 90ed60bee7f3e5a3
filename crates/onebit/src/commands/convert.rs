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
    /// Encoding of the decoder's matrices: auto, t2 (ternary in 2 bits), dense (ternary in 1.6 bits), b1 (binary in 1 bit), keep, f16, q8, q4
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
    /// Order of ternary down projections: auto, rows, columns (inputs of zero need not be read)
    #[arg(long, value_name = "HOW", default_value = "auto", hide_possible_values = true, value_parser = ["auto", "rows", "columns"])]
    down: String,
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
    /// Compare the logits of the packed file with those of the source over N tokens, and write nothing if they are
    /// too far apart
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    verify: usize,
    /// Mean KL divergence that --verify allows, in nats per token [default: by the types of the weights]
    #[arg(long, value_name = "X", requires = "verify")]
    verify_max_kl: Option<f64>,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

/// Converts, and prints a summary on stdout.
///
/// # Errors
/// What the converter refuses or runs into.
pub fn run(args: &ConvertArgs) -> anyhow::Result<Code> {
    refuse_later(args)?;
    let mut options = Options::default();
    options.weights = args.weights.parse()?;
    options.down = args.down.parse()?;
    options.embed = args.embed.as_deref().map(str::parse).transpose()?;
    options.head = args.head.as_deref().map(str::parse).transpose()?;
    options.force = args.force;
    options.verify.tokens = args.verify;
    options.verify.max_kl = args.verify_max_kl;
    let source = Source::find(Some(&args.source), &args.hub)?;
    if matches!(source, Source::Hub(_)) {
        refuse_existing(args)?;
    }
    let folder = source.checkpoint(&mut options)?;
    let report =
        onebit_convert::convert(&folder, &args.output, &options, &mut ConversionBar::new()?)?;
    match args.json {
        true => stdout::line(&serde_json::to_string(&report)?)?,
        false => stdout::line(&report.to_string())?,
    }
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
    match args.target.as_str() {
        "portable" => Ok(()),
        other => Err(exit::unsupported(format!(
            "--for {other} is not supported; every layout is portable so far"
        ))),
    }
}
