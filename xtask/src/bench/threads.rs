//! `cargo xtask bench threads`: speed with 1 to N threads, left to the system or pinned.

use super::bar::Bar;
use super::figure::{Figure, Figures, add, median};
use super::machine;
use super::measure::measure_quietly;
use super::models::{file_or_standard, program};
use super::system::Monitor;
use super::text::{Cells, short};
use crate::guard;
use anyhow::Context;
use clap::Args;
use onebit::{exit, stdout};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// Flags of `cargo xtask bench threads`.
#[derive(Debug, Args)]
pub(super) struct ThreadsArgs {
    /// A packed file [default: the synthetic pure 1-bit model of 1.1B]
    model: Option<PathBuf>,
    /// The program to measure [default: that beside this one, else that of the workspace, built if need be]
    #[arg(long, value_name = "PROGRAM")]
    onebit: Option<PathBuf>,
    /// Most threads [default: the CPUs that this process may use]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    most: Option<u16>,
    /// Measure everything a second time beside N processes that compute without end
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    noise: u16,
    /// Repetitions of everything, in turn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// A number of threads, the CPUs that they are pinned to, and what computes beside them.
struct Case {
    threads: usize,
    cpus: Option<String>,
    noise: u16,
    figures: Figures,
}

impl Case {
    fn name(&self) -> String {
        let mut name = format!("{} threads", self.threads);
        if let Some(cpus) = &self.cpus {
            name += &format!(" on {cpus}");
        }
        if self.noise > 0 {
            name += &format!(" beside {}", self.noise);
        }
        name
    }
}

/// Measures and prints.
pub(super) fn run(args: &ThreadsArgs) -> anyhow::Result<()> {
    let onebit = program(args.onebit.as_deref())?;
    let file = file_or_standard(args.model.as_deref())?;
    let allowed = allowed_cpus();
    let most = args.most.map_or(allowed.len(), usize::from);
    let pins = can_pin(&onebit)?;
    let mut cases: Vec<Case> = Vec::new();
    for threads in 1..=most {
        let list: Vec<String> = allowed.iter().take(threads).map(usize::to_string).collect();
        let pinned = (pins && threads <= allowed.len()).then(|| list.join(","));
        for cpus in std::iter::once(None).chain(pinned.map(Some)) {
            for noise in std::iter::once(0).chain((args.noise > 0).then_some(args.noise)) {
                cases.push(Case {
                    threads,
                    cpus: cpus.clone(),
                    noise,
                    figures: Figures::default(),
                });
            }
        }
    }
    let mut bar = Bar::new("measuring", (cases.len() * args.repeat as usize) as u64);
    let mut kernels = String::new();
    let about = machine::file(&file);
    let monitor = Monitor::start();
    for _ in 0..args.repeat {
        for case in &mut cases {
            bar.next(&case.name());
            let noise = Noise::make(case.noise)?;
            kernels = measure(&onebit, &file, case)?;
            drop(noise);
        }
    }
    bar.finish();
    let machine = machine::watched(monitor, Some(&onebit));
    if args.json {
        let rows = cases.iter().map(|case| {
            let figures = case.figures.iter().map(|(name, figure)| (name.clone(), figure.json()));
            let figures: serde_json::Map<String, Value> = figures.collect();
            json!({"name": case.name(), "threads": case.threads, "cpus": case.cpus, "noise": case.noise, "figures": figures})
        });
        stdout::json(&json!({
            "bench": 1, "machine": machine, "file": about, "kernels": kernels, "rows": rows.collect::<Vec<_>>(),
        }))?;
        return Ok(());
    }
    stdout::line(&format!(
        "{}; prompt of 64 tokens, 32 generated; medians of {}, in turn{}",
        file.file_name().unwrap_or_default().display(),
        args.repeat,
        if pins {
            ""
        } else {
            "; this program cannot pin (no --cpus)"
        }
    ))?;
    let titles = [
        "threads",
        "pinned to",
        "beside",
        "prefill tok/s",
        "tok/s",
        "spread",
        "p50 ms",
        "p95 ms",
    ];
    let mut cells = Cells(vec![titles.map(str::to_owned).to_vec()]);
    for case in &cases {
        let number = |name| median(&case.figures, name).map_or_else(|| "n/a".into(), short);
        let spread = case.figures.get("decode_tok_s").map_or(0.0, Figure::spread);
        cells.0.push(vec![
            case.threads.to_string(),
            case.cpus.clone().unwrap_or_else(|| "-".into()),
            case.noise.to_string(),
            number("prefill_tok_s"),
            number("decode_tok_s"),
            format!("{:.0} %", 100.0 * spread),
            number("decode_ms_p50"),
            number("decode_ms_p95"),
        ]);
    }
    stdout::print(&cells.aligned())?;
    machine::print(&machine, &format!("kernels {kernels}"))
}

/// Processes that compute without end, until this is dropped.
struct Noise(Vec<Child>);

impl Noise {
    fn make(processes: u16) -> anyhow::Result<Self> {
        let mut noise = Self(Vec::new());
        for _ in 0..processes {
            let mut command = guard::command("sh")?;
            command.args(["-c", "while :; do :; done"]);
            noise.0.push(command.spawn().context("cannot start sh")?);
        }
        Ok(noise)
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Either may fail only because it has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One run; gives the kernels that it used.
fn measure(onebit: &Path, file: &Path, case: &mut Case) -> anyhow::Result<String> {
    let ids: Vec<String> = (0..64).map(|i| (100 + i).to_string()).collect();
    let mut command = guard::command(onebit)?;
    command.arg("run").arg(file).args(["--ids", &ids.join(",")]);
    command.args([
        "-n",
        "32",
        "-c",
        "96",
        "--json",
        "--ignore-eos",
        "--temp",
        "0",
    ]);
    command.args(["--threads", &case.threads.to_string()]);
    if let Some(cpus) = &case.cpus {
        command.args(["--cpus", cpus]);
    }
    let measured = measure_quietly(command, None)?;
    measured.check()?;
    let json = measured.last_json()?;
    for key in [
        "prefill_tok_s",
        "decode_tok_s",
        "decode_ms_p50",
        "decode_ms_p95",
    ] {
        let value = json["timings"][key].as_f64();
        add(
            &mut case.figures,
            key,
            value.with_context(|| format!("no {key}"))?,
        );
    }
    Ok(machine::text(&json["kernels"]))
}

/// Whether the program knows `--cpus`.
fn can_pin(onebit: &Path) -> anyhow::Result<bool> {
    let output = Command::new(onebit).args(["run", "--help"]).output();
    let output =
        output.map_err(|e| exit::request(format!("cannot start {}: {e}", onebit.display())))?;
    Ok(String::from_utf8_lossy(&output.stdout).contains("--cpus"))
}

/// The CPUs that this process may use, by number where the system says.
fn allowed_cpus() -> Vec<usize> {
    onebit_runtime::allowed_cpus().map_or_else(
        || (0..std::thread::available_parallelism().map_or(1, usize::from)).collect(),
        |list| list.cpus().to_vec(),
    )
}
