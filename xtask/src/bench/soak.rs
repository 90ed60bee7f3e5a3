//! `cargo xtask bench soak`: whether memory grows with the number of generations.

use super::bar::Bar;
use super::machine;
use super::system::Monitor;
use super::text::{Cells, short};
use clap::Args;
use onebit::soak::{self, SoakReport};
use onebit::stdout;
use onebit_kernels::Kernels;
use onebit_runtime::{default_threads, format_size};

/// Flags of `cargo xtask bench soak`.
#[derive(Debug, Args)]
pub(crate) struct SoakArgs {
    /// Generations, of which the first tenth does not count
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..))]
    generations: u32,
    /// Tokens of each
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=512))]
    tokens: u32,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Steps of the progress bar.
const STEPS: usize = 100;

/// Prints the report, and fails where memory grew.
pub(super) fn run(args: &SoakArgs) -> anyhow::Result<()> {
    let generations = args.generations as usize;
    let mut bar = Bar::new("generations", STEPS as u64);
    let mut shown = 0;
    let monitor = Monitor::start();
    let report = soak::run(generations, args.tokens as usize, &mut |done| {
        let step = done * STEPS / generations;
        while shown < step {
            shown += 1;
            bar.next("");
        }
    })?;
    bar.finish();
    let machine = machine::watched(monitor, None);
    let (kernels, threads) = (Kernels::best().name(), default_threads());
    match args.json {
        true => {
            let mut json = serde_json::to_value(&report)?;
            json["machine"] = machine;
            json["kernels"] = kernels.into();
            json["threads"] = threads.into();
            stdout::json(&json)?;
        }
        false => {
            stdout::print(&cells(&report).aligned())?;
            machine::print(&machine, &format!("kernels {kernels}, {threads} threads"))?;
        }
    }
    anyhow::ensure!(
        !report.grew(),
        "memory grew by {:.0} bytes over {} generations",
        report.growth,
        report.generations - report.warm_up
    );
    Ok(())
}

fn cells(report: &SoakReport) -> Cells {
    let counted = report.generations - report.warm_up;
    let rows = [
        (
            "generations",
            format!(
                "{} of {} tokens in {:.0} s, the first {} not counted",
                report.generations, report.tokens, report.seconds, report.warm_up
            ),
        ),
        ("resident at first", format_size(report.first)),
        ("resident at last", format_size(report.last)),
        (
            "growth",
            format!(
                "{:.1} bytes per generation (standard error {:.1}), {:.0} bytes over {counted}; up to {:.0} do not count",
                report.slope,
                report.slope_error,
                report.growth,
                SoakReport::NOISE
            ),
        ),
        (
            "a generation",
            format!(
                "median {} ms in the first tenth, {} ms in the last ({:+.1} %)",
                short(report.first_ms),
                short(report.last_ms),
                100.0 * report.latency_drift
            ),
        ),
    ];
    Cells(
        rows.map(|(name, value)| vec![name.to_owned(), value])
            .to_vec(),
    )
}
