//! `cargo xtask bench memory`: planned and measured memory of real runs that fill their context.

use super::bar::Bar;
use super::figure::Figure;
use super::machine;
use super::measure::measure;
use super::system::Monitor;
use crate::guard;
use anyhow::Context;
use clap::Args;
use onebit::cli::parse_kv;
use onebit::{exit, stdout};
use onebit_model::{KvCache, KvOptions, Model, ModelSpec};
use onebit_runtime::format_size;
use serde_json::{Map, Value, json};
use std::num::NonZero;
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
    /// Runs of each, all in turn; the figures are those of the one with the middle peak
    #[arg(long, value_name = "N", default_value_t = NonZero::new(3).unwrap())]
    repeat: NonZero<usize>,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Tokens that are generated after the prompt, the last of which takes no position.
const GENERATED: usize = 4;
/// Most that plan and measurement may differ: this share, or so many bytes if that is more.
const TOLERANCE: (f64, f64) = (0.03, 8e6);

/// Columns of the table.
const TITLES: [&str; 16] = [
    "model",
    "context",
    "batch",
    "threads",
    "kv",
    "planned",
    "peak",
    "spread",
    "difference",
    "own",
    "file",
    "wall",
    "after open / load / prompt / end",
    "cache",
    "with a kv head per head",
    "without a window",
];

/// Measures every combination, and fails where the plan was wrong.
pub(super) fn run(args: &MemoryArgs) -> anyhow::Result<()> {
    let line = |cells: &[String]| format!("| {} |", cells.join(" | "));
    let specs = args.specs()?;
    let cases = args.cases(&specs);
    let mut bar = Bar::new("memory", (cases.len() * args.repeat.get()) as u64);
    let files: Vec<Value> = args.models.iter().map(|path| machine::file(path)).collect();
    let monitor = Monitor::start();
    let mut runs: Vec<Vec<Seen>> = cases.iter().map(|_| Vec::new()).collect();
    for _ in 0..args.repeat.get() {
        for (case, runs) in cases.iter().zip(&mut runs) {
            bar.next(&format!(
                "{} -c {} --kv {}",
                case.name(),
                case.context,
                case.kv
            ));
            runs.push(case.run(&args.onebit)?);
        }
    }
    bar.finish();
    let machine = machine::watched(monitor, Some(&args.onebit));
    let kernels = runs[0][0].kernels.clone();
    let wrong = runs.iter().filter(|runs| !runs.iter().all(Seen::is_right));
    let wrong = wrong.count();
    let rows = cases.iter().zip(runs.into_iter().map(Seen::middle));
    if args.json {
        let rows: Vec<Value> = rows
            .map(|(case, (seen, peaks))| case.json(&seen, &peaks))
            .collect();
        stdout::json(&json!({
            "bench": 1, "machine": machine, "files": files, "kernels": kernels, "rows": rows,
        }))?;
    } else {
        stdout::line(&line(&TITLES.map(str::to_owned)))?;
        stdout::line(&line(&TITLES.map(|_| "---".to_owned())))?;
        for (case, (seen, peaks)) in rows {
            stdout::line(&line(&case.cells(&seen, &peaks)))?;
        }
        stdout::line("")?;
        machine::print(&machine, &format!("kernels {kernels}"))?;
    }
    anyhow::ensure!(wrong == 0, "{wrong} plans are too far off");
    Ok(())
}

impl MemoryArgs {
    fn specs(&self) -> anyhow::Result<Vec<ModelSpec>> {
        let spec = |path: &PathBuf| {
            let model = Model::open(path).with_context(|| path.display().to_string())?;
            Ok(model.spec().clone())
        };
        self.models.iter().map(spec).collect()
    }

    /// Every combination that is asked for.
    fn cases<'a>(&'a self, specs: &'a [ModelSpec]) -> Vec<Case<'a>> {
        let mut cases = Vec::new();
        for (model, spec) in self.models.iter().zip(specs) {
            for &context in &self.ctx_size {
                for &batch in &self.batch_size {
                    for &threads in &self.threads {
                        let case = |kv| Case {
                            model,
                            spec,
                            context,
                            batch,
                            threads,
                            kv,
                            window: self.window,
                        };
                        cases.extend(self.kv.iter().map(|kv| case(kv)));
                    }
                }
            }
        }
        cases
    }
}

/// What a run showed, in bytes.
struct Seen {
    planned: u64,
    peak: u64,
    anon: u64,
    file: u64,
    wall: f64,
    kernels: String,
    /// Resident at the end of each phase.
    phases: Vec<(String, u64)>,
    cache: Cache,
}

impl Seen {
    /// The run with the middle peak, and all peaks.
    fn middle(mut runs: Vec<Self>) -> (Self, Figure) {
        let mut peaks = Figure::default();
        runs.iter().for_each(|seen| peaks.push(seen.peak as f64));
        runs.sort_by_key(|seen| seen.peak);
        (runs.swap_remove(runs.len() / 2), peaks)
    }

    /// By how much the plan was too large.
    fn difference(&self) -> f64 {
        self.planned as f64 - self.peak as f64
    }

    fn is_right(&self) -> bool {
        let (share, bytes) = TOLERANCE;
        self.difference().abs() <= bytes.max(share * self.peak as f64)
    }
}

/// Bytes of keys and values as asked for, with as many kv heads as heads, and without a window.
struct Cache {
    asked: usize,
    no_gqa: usize,
    no_window: usize,
}

impl Cache {
    fn of(case: &Case<'_>) -> anyhow::Result<Self> {
        let kind = parse_kv(case.kv)
            .map_err(|error| exit::request(format!("--kv {}: {error}", case.kv)))?
            .known()?;
        let bytes = |spec: &ModelSpec, window| {
            let options = KvOptions {
                window,
                ..KvOptions::from(kind)
            };
            let bytes = KvCache::bytes(spec, options, case.context);
            bytes.context("a cache that can be addressed")
        };
        let every = ModelSpec {
            kv_heads: case.spec.heads,
            ..case.spec.clone()
        };
        Ok(Self {
            asked: bytes(case.spec, case.window)?,
            no_gqa: bytes(&every, case.window)?,
            no_window: bytes(case.spec, None)?,
        })
    }
}

/// One run.
struct Case<'a> {
    model: &'a PathBuf,
    spec: &'a ModelSpec,
    context: usize,
    batch: usize,
    threads: usize,
    kv: &'a str,
    window: Option<usize>,
}

impl Case<'_> {
    /// The model's.
    fn name(&self) -> String {
        let stem = self.model.file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    }

    /// Runs it.
    fn run(&self, program: &PathBuf) -> anyhow::Result<Seen> {
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
        let phases = json["memory"]["phases"].as_array();
        let phases = phases.map_or(&[][..], Vec::as_slice).iter();
        let phase = |phase: &Value| {
            let bytes = |key: &str| phase[key].as_u64().unwrap_or(0);
            let name = phase["name"].as_str().unwrap_or_default().to_owned();
            (name, bytes("anon") + bytes("file"))
        };
        Ok(Seen {
            planned: number("planned")?,
            peak: measured
                .peak
                .context("the program does not report its peak")?,
            anon: number("anon")?,
            file: number("file")?,
            wall: measured.wall.as_secs_f64(),
            kernels: machine::text(&json["kernels"]),
            phases: phases.map(phase).collect(),
            cache: Cache::of(self)?,
        })
    }

    /// A line of the table.
    fn cells(&self, seen: &Seen, peaks: &Figure) -> [String; TITLES.len()] {
        let phases: Vec<String> = seen.phases.iter().map(|(_, n)| format_size(*n)).collect();
        let difference = seen.difference();
        [
            self.name(),
            self.context.to_string(),
            self.batch.to_string(),
            self.threads.to_string(),
            self.kv.to_owned(),
            format_size(seen.planned),
            format_size(seen.peak),
            format!("{:.1} %", 100.0 * peaks.spread()),
            format!(
                "{:+.1} MB, {:+.1} %",
                difference / 1e6,
                100.0 * difference / seen.peak as f64
            ),
            format_size(seen.anon),
            format_size(seen.file),
            format!("{:.1} s", seen.wall),
            phases.join(" / "),
            format_size(seen.cache.asked as u64),
            format_size(seen.cache.no_gqa as u64),
            format_size(seen.cache.no_window as u64),
        ]
    }

    fn json(&self, seen: &Seen, peaks: &Figure) -> Value {
        let phases: Map<String, Value> = seen
            .phases
            .iter()
            .map(|(name, bytes)| (name.clone(), json!(bytes)))
            .collect();
        json!({
            "name": self.name(), "ctx": self.context, "batch": self.batch, "threads": self.threads,
            "kv": self.kv, "window": self.window, "planned": seen.planned, "peak": seen.peak, "peaks": peaks.json(),
            "anon": seen.anon, "file": seen.file, "wall_s": seen.wall, "phases": phases,
            "cache": seen.cache.asked, "cache_without_gqa": seen.cache.no_gqa,
            "cache_without_window": seen.cache.no_window,
        })
    }
}
