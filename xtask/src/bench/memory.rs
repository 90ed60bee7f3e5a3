//! `cargo xtask bench memory`: planned and measured memory of real runs that fill their context.

use super::measure::measure;
use crate::guard;
use anyhow::Context;
use clap::Args;
use onebit::{exit, stdout};
use onebit_runtime::format_size;
use std::path::PathBuf;

/// Flags of `cargo xtask bench memory`.
#[derive(Debug, Args)]
pub(crate) struct MemoryArgs {
    /// Packed files
    #[arg(required = true, value_name = "FILE")]
    models: Vec<PathBuf>,
    /// The program to measure
    #[arg(long, value_name = "PROGRAM")]
    onebit: PathBuf,
    /// Positions, all of which are used
    #[arg(short, long, value_name = "N", default_values_t = [512])]
    ctx_size: Vec<usize>,
    /// Prompt tokens computed at once
    #[arg(short, long, value_name = "N", default_values_t = [256])]
    batch_size: Vec<usize>,
    /// Threads
    #[arg(short, long, value_name = "N", default_values_t = [2])]
    threads: Vec<usize>,
    /// Types of the key/value cache
    #[arg(long, value_name = "TYPE", default_values_t = ["f16".to_owned()])]
    kv: Vec<String>,
    /// Positions that a query sees, as `onebit run --window`
    #[arg(long, value_name = "W")]
    window: Option<usize>,
}

/// Tokens that are generated after the prompt, the last of which takes no position.
const GENERATED: usize = 4;
/// Most that plan and measurement may differ: this share, or so many bytes if that is more.
const TOLERANCE: (f64, f64) = (0.03, 8e6);

/// Measures every combination, and fails where the plan was wrong.
pub(super) fn run(args: &MemoryArgs) -> anyhow::Result<()> {
    stdout::line(
        "| model | context | batch | threads | kv | planned | peak | difference | own | file | wall |",
    )?;
    stdout::line("|---|---|---|---|---|---|---|---|---|---|---|")?;
    let mut wrong = 0;
    for model in &args.models {
        for &context in &args.ctx_size {
            for &batch in &args.batch_size {
                for &threads in &args.threads {
                    for kv in &args.kv {
                        let case = Case {
                            model,
                            context,
                            batch,
                            threads,
                            kv,
                            window: args.window,
                        };
                        wrong += usize::from(!case.run(&args.onebit)?);
                    }
                }
            }
        }
    }
    anyhow::ensure!(wrong == 0, "{wrong} plans are too far off");
    Ok(())
}

/// One run.
struct Case<'a> {
    model: &'a PathBuf,
    context: usize,
    batch: usize,
    threads: usize,
    kv: &'a str,
    window: Option<usize>,
}

impl Case<'_> {
    /// Runs it, prints a row, and says whether the plan was right.
    fn run(&self, program: &PathBuf) -> anyhow::Result<bool> {
        if self.context <= GENERATED {
            return Err(exit::request(format!("-c must be more than {GENERATED}")));
        }
        // Few different tokens: the rows of an embedding that come with them are not what is measured.
        let ids: Vec<String> = (0..=self.context - GENERATED)
            .map(|i| (100 + i % 16).to_string())
            .collect();
        let mut command = guard::command(program)?;
        command
            .arg("run")
            .arg(self.model)
            .args(["--ids", &ids.join(",")]);
        command.args(["--json", "--ignore-eos", "--temp", "0", "--kv", self.kv]);
        for (flag, value) in [
            ("-n", GENERATED),
            ("-c", self.context),
            ("-b", self.batch),
            ("-t", self.threads),
        ] {
            command.args([flag, &value.to_string()]);
        }
        if let Some(window) = self.window {
            command.args(["--window", &window.to_string()]);
        }
        let measured = measure(command)?;
        anyhow::ensure!(
            measured.status.success(),
            "the program failed: {}",
            measured.status
        );
        let json = measured.json()?;
        let number = |key: &str| json["memory"][key].as_u64().context("a number of bytes");
        let (planned, peak) = (number("planned")?, measured.peak);
        let difference = planned as f64 - peak as f64;
        stdout::line(&format!(
            "| {} | {} | {} | {} | {} | {} | {} | {:+.1} MB, {:+.1} % | {} | {} | {:.1} s |",
            self.model.file_stem().unwrap_or_default().display(),
            self.context,
            self.batch,
            self.threads,
            self.kv,
            format_size(planned),
            format_size(peak),
            difference / 1e6,
            100.0 * difference / peak as f64,
            format_size(number("anon")?),
            format_size(number("file")?),
            measured.wall.as_secs_f64()
        ))?;
        let (share, bytes) = TOLERANCE;
        Ok(difference.abs() <= bytes.max(share * peak as f64))
    }
}
