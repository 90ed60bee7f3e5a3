//! `cargo xtask bench load`: how long a model takes until its first token, from a disk and from the page cache.

use super::bar::Bar;
use super::figure::{Figures, add, median};
use super::machine;
use super::measure::measure_quietly;
use super::models::{file_or_standard, program};
use super::system::Monitor;
use super::text::{Cells, short};
use crate::guard;
use anyhow::Context;
use clap::Args;
use onebit::stdout;
use onebit_runtime::format_size;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Flags of `cargo xtask bench load`.
#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// A packed file [default: the synthetic pure 1-bit model of 1.1B]
    model: Option<PathBuf>,
    /// The program to measure [default: that beside this one, else that of the workspace, built if need be]
    #[arg(long, value_name = "PROGRAM")]
    onebit: Option<PathBuf>,
    /// Threads [default: as `onebit run`]
    #[arg(short, long, value_name = "N")]
    threads: Option<usize>,
    /// Repetitions of everything, in turn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Cold or warm, and `--load`.
const CASES: [(bool, &str); 4] = [
    (true, "mmap"),
    (false, "mmap"),
    (true, "heap"),
    (false, "heap"),
];

/// Measures and prints.
pub(super) fn run(args: &LoadArgs) -> anyhow::Result<()> {
    let onebit = program(args.onebit.as_deref())?;
    let file = file_or_standard(args.model.as_deref())?;
    let title =
        |(cold, load): (bool, &str)| format!("{} {load}", if cold { "cold" } else { "warm" });
    let mut bar = Bar::new("measuring", u64::from(args.repeat) * CASES.len() as u64);
    let mut figures: [Figures; 4] = Default::default();
    let mut ran = String::new();
    let about = machine::file(&file);
    let monitor = Monitor::start();
    for _ in 0..args.repeat {
        for ((cold, load), figures) in CASES.into_iter().zip(&mut figures) {
            bar.next(&title((cold, load)));
            match cold {
                true => forget(&file)?,
                false => read_through(&file)?,
            }
            ran = measure(&onebit, &file, load, args.threads, figures)?;
        }
    }
    bar.finish();
    let machine = machine::watched(monitor, Some(&onebit));
    if args.json {
        let rows = CASES.into_iter().zip(&figures).map(|(case, figures)| {
            let figures: serde_json::Map<String, Value> = figures
                .iter()
                .map(|(name, figure)| (name.clone(), figure.json()))
                .collect();
            json!({"name": title(case), "figures": figures})
        });
        stdout::json(&json!({
            "bench": 1, "machine": machine, "file": about, "ran": ran, "rows": rows.collect::<Vec<_>>(),
        }))?;
        return Ok(());
    }
    stdout::line(&format!(
        "{}; medians of {}, in turn; cold: its pages were dropped from the page cache before",
        file.file_name().unwrap_or_default().display(),
        args.repeat
    ))?;
    let titles = [
        "",
        "",
        "load ms",
        "first ms",
        "start to end ms",
        "spread",
        "peak RSS",
        "disk faults",
    ];
    let mut cells = Cells(vec![titles.map(str::to_owned).to_vec()]);
    for ((cold, load), figures) in CASES.into_iter().zip(&figures) {
        let number = |name| median(figures, name).map_or_else(|| "n/a".into(), short);
        let spread = figures.get("wall_ms").map_or(0.0, |figure| figure.spread());
        cells.0.push(vec![
            if cold { "cold" } else { "warm" }.to_owned(),
            load.to_owned(),
            number("load_ms"),
            number("ttft_ms"),
            number("wall_ms"),
            format!("{:.0} %", 100.0 * spread),
            median(figures, "peak_rss")
                .map_or_else(|| "n/a".into(), |peak| format_size(peak as u64)),
            median(figures, "major_faults").map_or_else(|| "n/a".into(), |n| format!("{n:.0}")),
        ]);
    }
    stdout::print(&cells.aligned())?;
    machine::print(&machine, &ran)
}

/// One run; gives the kernels and threads that it used.
fn measure(
    onebit: &Path,
    file: &Path,
    load: &str,
    threads: Option<usize>,
    figures: &mut Figures,
) -> anyhow::Result<String> {
    let mut command = guard::command(onebit)?;
    command
        .arg("run")
        .arg(file)
        .args(["--ids", "5,6,7,8,9,10,11,12"]);
    command.args([
        "-n", "1", "-c", "16", "--json", "--temp", "0", "--load", load,
    ]);
    if let Some(threads) = threads {
        command.args(["--threads", &threads.to_string()]);
    }
    let measured = measure_quietly(command, None)?;
    measured.check()?;
    let json = measured.last_json()?;
    for (name, key) in [("load_ms", "load_s"), ("ttft_ms", "ttft_s")] {
        let seconds = json["timings"][key].as_f64();
        add(
            figures,
            name,
            1e3 * seconds.with_context(|| format!("no {key}"))?,
        );
    }
    add(figures, "wall_ms", 1e3 * measured.wall.as_secs_f64());
    add(figures, "peak_rss", measured.peak_figure());
    let phases = json["memory"]["phases"].as_array().into_iter().flatten();
    let faults: Option<u64> = phases.map(|phase| phase["major_faults"].as_u64()).sum();
    if let Some(faults) = faults {
        add(figures, "major_faults", faults as f64);
    }
    Ok(machine::ran(&json))
}

/// Drops the file's pages from the page cache.
#[cfg(target_os = "linux")]
fn forget(path: &Path) -> anyhow::Result<()> {
    let name = || path.display().to_string();
    let file = std::fs::File::open(path).with_context(name)?;
    // Only pages that are on the disk can be dropped.
    file.sync_all().with_context(name)?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).with_context(name)
}

#[cfg(not(target_os = "linux"))]
fn forget(_path: &Path) -> anyhow::Result<()> {
    Err(onebit::exit::unsupported(
        "bench load: pages cannot be dropped from the page cache on this system",
    ))
}

/// Brings the file's pages into the page cache.
fn read_through(path: &Path) -> anyhow::Result<()> {
    let mut file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    std::io::copy(&mut file, &mut std::io::sink())?;
    Ok(())
}
