//! `cargo xtask bench`: memory and speed of whole models, each measurement by a program started for it.

use super::bar::Bar;
use super::batch;
use super::figure::{Figures, add};
use super::html;
use super::measure::{Measured, Sample, measure_quietly};
use super::models::{FileFacts, STANDARD, Standard, program};
use super::peers::Peer;
use super::report::{self, Report};
use super::system::{CpuTime, Monitor, Rapl};
use crate::guard;
use anyhow::Context;
use clap::Args;
use onebit::cli::parse_kv;
use onebit::exit::{self, Code};
use onebit_model::ModelSpec;
use onebit_runtime::SessionOptions;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Flags of `cargo xtask bench` without a command.
#[derive(Debug, Args)]
pub(crate) struct TableArgs {
    /// Under three minutes: the small rows, few tokens, one repetition
    #[arg(long)]
    quick: bool,
    /// Packed files to measure instead of the synthetic ones
    #[arg(long, value_name = "FILE", num_args = 1..)]
    model: Vec<PathBuf>,
    /// Only rows whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// The program to measure [default: that beside this one, else that of the workspace, built if need be]
    #[arg(long, value_name = "PROGRAM")]
    pub(super) onebit: Option<PathBuf>,
    /// Threads [default: as `onebit run`]
    #[arg(short, long, value_name = "N")]
    threads: Option<usize>,
    /// Kernel set [default: the best of this CPU]
    #[arg(long, value_name = "NAME")]
    kernels: Option<String>,
    /// Type of the key/value cache
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    kv: String,
    /// Positions of the context [default: those that are used]
    #[arg(long, value_name = "N")]
    ctx: Option<usize>,
    /// Encoding of embedding and head of synthetic ternary and binary models
    #[arg(long, value_name = "HOW", default_value = "keep", value_parser = ["keep", "f16", "q8", "q4"])]
    head: String,
    /// Tokens of the prompt [default: 128; quick: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    prompt: Option<u32>,
    /// Tokens to generate [default: 64; quick: 24]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    tokens: Option<u32>,
    /// Decode at these depths of context too: 0,2048,8192
    #[arg(long, value_name = "LIST")]
    depth: Option<String>,
    /// Decode so many sequences together too: 1,2,4,8
    #[arg(long, value_name = "LIST")]
    batch: Option<String>,
    /// Repetitions of everything, in turn [default: 3; quick: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: Option<u32>,
    /// Another engine: `NAME[@ROW]=PATH:GGUF` with a llama-bench, or `llama-cpp-python[@ROW]:GGUF`; compared with the row whose
    /// name contains ROW, else with that of the nearest file size (repeatable)
    #[arg(long, value_name = "PEER")]
    peer: Vec<String>,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the table as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write the report with plots as one HTML file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// A row of the table.
#[derive(Debug, Default)]
pub(super) struct Row {
    /// Its name.
    pub(super) name: String,
    /// What its weights are.
    pub(super) format: String,
    /// What is run.
    pub(super) file: PathBuf,
    /// What is known of the file; `None` where it is not run.
    pub(super) facts: Option<FileFacts>,
    /// Why it is not run.
    pub(super) note: Option<String>,
    /// What was measured.
    pub(super) figures: Figures,
    /// Milliseconds of tokens, of all repetitions.
    pub(super) latencies: Vec<f64>,
    /// Memory over time, of one repetition.
    pub(super) timeline: Vec<Sample>,
    /// Phases of that repetition as the program reports them, and when each ended.
    pub(super) phases: Vec<(String, f64)>,
    /// CPUs that others kept busy while it ran, the most of any repetition.
    pub(super) others: f64,
    /// Names of kernels and number of threads.
    pub(super) kernels: String,
    pub(super) threads: u64,
    /// Tokens per second of decoding and of the prompt, and the peak, by repetition.
    pub(super) series: Vec<[f64; 3]>,
    /// The other engine that is measured.
    pub(super) peer: Option<Peer>,
    /// The row that it is compared with.
    pub(super) pair: Option<String>,
}

/// What is run for each row in every repetition.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) threads: Option<usize>,
    pub(super) kernels: Option<String>,
    pub(super) kv: String,
    pub(super) ctx: Option<usize>,
    pub(super) head: String,
    pub(super) prompt: usize,
    pub(super) tokens: usize,
    pub(super) depths: Vec<usize>,
    pub(super) batches: Vec<usize>,
    pub(super) repeat: usize,
}

impl TableArgs {
    fn settings(&self) -> anyhow::Result<Settings> {
        let or = |flag: Option<u32>, full, quick| match (flag, self.quick) {
            (Some(n), _) => n as usize,
            (None, true) => quick,
            (None, false) => full,
        };
        parse_kv(&self.kv)
            .map_err(|error| exit::request(format!("--kv {}: {error}", self.kv)))?
            .known()?;
        let list = |text: &Option<String>| text.as_deref().map_or(Ok(Vec::new()), batch::list);
        let settings = Settings {
            threads: self.threads,
            kernels: self.kernels.clone(),
            kv: self.kv.clone(),
            ctx: self.ctx,
            head: self.head.clone(),
            prompt: or(self.prompt, 128, 64),
            tokens: or(self.tokens, 64, 24),
            depths: list(&self.depth)?,
            batches: list(&self.batch)?,
            repeat: or(self.repeat, 3, 1),
        };
        if let Some(ctx) = self.ctx
            && ctx < settings.prompt + settings.tokens
        {
            return Err(exit::request(format!(
                "--ctx {ctx} has no room for {} tokens and {} more",
                settings.prompt, settings.tokens
            )));
        }
        if settings.batches.contains(&0) {
            return Err(exit::request("--batch: a batch has at least one sequence"));
        }
        Ok(settings)
    }
}

impl Settings {
    /// Positions of the main run.
    fn context(&self) -> usize {
        self.ctx.unwrap_or(self.prompt + self.tokens)
    }

    fn session(&self, spec: &ModelSpec) -> SessionOptions {
        let mut options = SessionOptions::new(spec).context(self.context(), spec);
        if let Some(kind) = parse_kv(&self.kv).ok().and_then(|kv| kv.known().ok()) {
            options.kv = kind.into();
        }
        options
    }

    /// Flags that every program takes.
    fn common(&self, command: &mut Command) {
        command.args(["--kv", &self.kv]);
        if let Some(threads) = self.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        if let Some(kernels) = &self.kernels {
            command.args(["--kernels", kernels]);
        }
    }

    /// `onebit run` with a prompt of so many tokens.
    fn generation(
        &self,
        onebit: &Path,
        row: &Row,
        prompt: usize,
        context: usize,
    ) -> anyhow::Result<Command> {
        let vocab = row.facts.as_ref().and_then(|facts| facts.spec.as_ref());
        let vocab = vocab.map_or(1, |spec| spec.vocab);
        let ids: Vec<String> = (0..prompt)
            .map(|i| ((100 + i % 97) % vocab).to_string())
            .collect();
        let mut command = guard::command(onebit)?;
        command
            .arg("run")
            .arg(&row.file)
            .args(["--ids", &ids.join(",")])
            .args(["--json-lines", "--ignore-eos", "--temp", "0"])
            .args(["-n", &self.tokens.to_string()])
            .args(["-c", &context.to_string()]);
        self.common(&mut command);
        Ok(command)
    }

    fn batch(&self, row: &Row, sequences: usize) -> anyhow::Result<Command> {
        let own = std::env::current_exe().context("the running program is not found")?;
        let mut command = guard::command(own)?;
        command
            .arg("decode-batch")
            .arg(&row.file)
            .args(["--sequences", &sequences.to_string()])
            .args(["--prompt", &self.prompt.to_string()])
            .args(["--steps", &self.tokens.to_string()]);
        self.common(&mut command);
        Ok(command)
    }
}

/// Measures and reports.
pub(super) fn run(args: &TableArgs) -> anyhow::Result<Code> {
    let settings = args.settings()?;
    let peers = args.peer.iter().map(|text| Peer::parse(text));
    let peers = peers.collect::<anyhow::Result<Vec<_>>>()?;
    let onebit = program(args.onebit.as_deref())?;
    let mut rows = rows(args, &settings)?;
    for peer in peers {
        rows.push(peer.row(&rows)?);
    }
    let jobs_of = |row: &Row| match (&row.facts, &row.peer) {
        (None, _) => 0,
        (_, Some(_)) => 1,
        _ => 1 + settings.depths.len() + settings.batches.len(),
    };
    let jobs = settings.repeat * rows.iter().map(jobs_of).sum::<usize>();
    let mut bar = Bar::new("measuring", jobs as u64);
    let rapl = Rapl::find();
    let monitor = Monitor::start();
    for _ in 0..settings.repeat {
        for row in &mut rows {
            if row.facts.is_some()
                && let Err(error) = measure_row(row, &settings, &onebit, rapl.as_ref(), &mut bar)
            {
                row.facts = None;
                row.note = Some(format!("failed: {}", exit::describe(&error)));
            }
        }
    }
    bar.finish();
    let limits = match args.json.is_some() || args.html.is_some() {
        true => limits(&settings)?,
        false => Value::Null,
    };
    let seen = monitor.finish();
    let report = Report::new(
        rows,
        &settings,
        !args.model.is_empty(),
        seen,
        &onebit,
        limits,
    );
    report::print(&report)?;
    report::write(args.json.as_deref(), || Ok(format!("{}\n", report.json())))?;
    report::write(args.markdown.as_deref(), || Ok(report.markdown()))?;
    report::write(args.html.as_deref(), || Ok(html::page(&report)))?;
    Ok(match report.failed() {
        true => Code::Failure,
        false => Code::Success,
    })
}

/// What reading memory and multiplying reach here, measured by a child.
fn limits(settings: &Settings) -> anyhow::Result<Value> {
    let own = std::env::current_exe().context("the running program is not found")?;
    let mut command = guard::command(own)?;
    command.args(["bench", "kernels", "--limits", "--json", "--rounds", "5"]);
    if let Some(threads) = settings.threads {
        command.args(["--threads", &threads.to_string()]);
    }
    if let Some(kernels) = &settings.kernels {
        command.args(["--kernels", kernels]);
    }
    let measured = measure_quietly(command, None)?;
    measured.check()?;
    Ok(measured.last_json()?["limits"].clone())
}

/// The rows, with their files in place.
fn rows(args: &TableArgs, settings: &Settings) -> anyhow::Result<Vec<Row>> {
    let wanted = |name: &str| args.only.as_deref().is_none_or(|text| name.contains(text));
    let mut rows = Vec::new();
    let standard: Vec<&Standard> = STANDARD.iter().filter(|row| wanted(row.name)).collect();
    let total = match args.model.len() {
        0 => standard.len(),
        n => n,
    };
    let mut bar = Bar::new("preparing", total as u64);
    for path in &args.model {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        bar.next(&name);
        let facts = FileFacts::read(path, &|spec| settings.session(spec))?;
        rows.push(Row {
            name: name.into_owned(),
            format: format_of(path)?,
            file: std::path::absolute(path)?,
            facts: Some(facts),
            ..Row::default()
        });
    }
    if args.model.is_empty() {
        for standard in standard {
            bar.next(standard.name);
            rows.push(standard_row(
                standard,
                args.quick && args.only.is_none(),
                settings,
            )?);
        }
    }
    bar.finish();
    if rows.is_empty() {
        return Err(exit::request("--only: no row has this in its name"));
    }
    Ok(rows)
}

fn standard_row(standard: &Standard, quick: bool, settings: &Settings) -> anyhow::Result<Row> {
    let mut row = Row {
        name: standard.name.into(),
        format: standard.format.into(),
        ..Row::default()
    };
    if quick && !standard.quick {
        row.note = Some("not run by --quick".into());
        return Ok(row);
    }
    match standard.file(&settings.head, settings.context())? {
        Ok(path) => {
            row.facts = Some(FileFacts::read(&path, &|spec| settings.session(spec))?);
            row.file = path;
        }
        Err(why) => row.note = Some(why),
    }
    Ok(row)
}

/// The layout that most bytes of a file's layers have.
fn format_of(path: &Path) -> anyhow::Result<String> {
    let file = onebit_format::PackedFile::open(path).with_context(|| path.display().to_string())?;
    let matrices = &file.meta().matrices;
    let layer = matrices
        .iter()
        .find(|(name, _)| name.starts_with("layers."));
    Ok(layer.map_or_else(String::new, |(_, matrix)| matrix.layout.clone()))
}

/// One repetition of everything for a row.
fn measure_row(
    row: &mut Row,
    settings: &Settings,
    onebit: &Path,
    rapl: Option<&Rapl>,
    bar: &mut Bar,
) -> anyhow::Result<()> {
    bar.next(&row.name);
    if let Some(peer) = row.peer.clone() {
        return peer.measure(row, settings);
    }
    let command = settings.generation(onebit, row, settings.prompt, settings.context())?;
    let measured = alone(row, command, rapl)?;
    take_generation(row, &measured, settings.prompt)?;
    for depth in &settings.depths {
        bar.next(&format!("{} at depth {depth}", row.name));
        let prompt = (*depth).max(1);
        let context = prompt + settings.tokens;
        let command = settings.generation(onebit, row, prompt, context)?;
        let json = alone(row, command, None)?.last_json()?;
        for key in ["decode_tok_s", "decode_ms_p50"] {
            let value = json["timings"][key]
                .as_f64()
                .context("no time of decoding")?;
            add(&mut row.figures, format!("{key}@{depth}"), value);
        }
    }
    for sequences in &settings.batches {
        bar.next(&format!("{}, {sequences} sequences", row.name));
        let command = settings.batch(row, *sequences)?;
        let json = alone(row, command, None)?.last_json()?;
        batch::take(&mut row.figures, &json)?;
    }
    Ok(())
}

/// Runs a program and notes what others did meanwhile.
fn alone(row: &mut Row, command: Command, rapl: Option<&Rapl>) -> anyhow::Result<Measured> {
    let start = CpuTime::now();
    let measured = measure_quietly(command, rapl)?;
    let others = start.zip(CpuTime::now());
    let others = others.map_or(0.0, |(start, end)| start.others_until(&end));
    row.others = row.others.max(others);
    measured.check()?;
    Ok(measured)
}

/// Takes the figures of `onebit run --json-lines` over.
fn take_generation(row: &mut Row, measured: &Measured, prompt: usize) -> anyhow::Result<()> {
    let json = measured.last_json()?;
    let number = |value: &Value, key: &str| {
        let found = value[key].as_f64();
        found.with_context(|| format!("the program does not report {key}"))
    };
    let (times, memory) = (&json["timings"], &json["memory"]);
    for (name, key, factor) in [
        ("load_ms", "load_s", 1e3),
        ("ttft_ms", "ttft_s", 1e3),
        ("prefill_tok_s", "prefill_tok_s", 1.0),
        ("decode_tok_s", "decode_tok_s", 1.0),
        ("decode_ms_p50", "decode_ms_p50", 1.0),
        ("decode_ms_p95", "decode_ms_p95", 1.0),
        ("decode_ms_p99", "decode_ms_p99", 1.0),
    ] {
        add(&mut row.figures, name, factor * number(times, key)?);
    }
    add(&mut row.figures, "peak_rss", measured.peak as f64);
    for (name, key) in [
        ("rss_anon", "anon"),
        ("rss_file", "file"),
        ("planned_rss", "planned"),
    ] {
        add(&mut row.figures, name, number(memory, key)?);
    }
    row.series.push([
        number(times, "decode_tok_s")?,
        number(times, "prefill_tok_s")?,
        measured.peak as f64,
    ]);
    let weights = &json["weights"];
    let read = number(weights, "bytes_per_token")? * (1.0 - number(weights, "skipped")?);
    add(&mut row.figures, "weight_bytes_per_token", read);
    row.kernels = json["kernels"].as_str().unwrap_or_default().to_owned();
    row.threads = json["threads"].as_u64().unwrap_or(0);

    let tokens = &measured.lines[..measured.lines.len() - 1];
    let steps = tokens.windows(2);
    row.latencies
        .extend(steps.map(|pair| (pair[1].at - pair[0].at) * 1e3));
    if let (Some(first), Some(last)) = (tokens.first(), tokens.last()) {
        if let Some(joules) = last
            .joules
            .zip(first.joules)
            .map(|(end, start)| end - start)
        {
            add(
                &mut row.figures,
                "joules_per_token",
                joules / (tokens.len() - 1) as f64,
            );
        }
        let load = number(times, "load_s")?;
        let ttft = number(times, "ttft_s")?;
        row.phases = vec![
            ("load".into(), (first.at - ttft).max(load.min(first.at))),
            (format!("prefill of {prompt}"), first.at),
            ("decode".into(), last.at),
        ];
    }
    row.timeline.clone_from(&measured.timeline);
    Ok(())
}
