//! `cargo xtask bench`: memory and speed of whole models, each measurement by a program started for it.

use super::bar::Bar;
use super::figure::Figures;
use super::measure::Sample;
use super::models::{FileFacts, STANDARD, Standard, program};
use super::peers::{Peer, name_apart};
use super::repetition::{limits, measure_row};
use super::report::Report;
use super::settings::Settings;
use super::system::{Monitor, Rapl};
use super::{html, show};
use anyhow::Context;
use clap::Args;
use onebit::exit::{self, Code};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Flags of `cargo xtask bench` without a command.
#[derive(Debug, Args)]
pub(crate) struct TableArgs {
    /// Under three minutes: the small rows, few tokens, one repetition
    #[arg(long)]
    pub(super) quick: bool,
    /// Packed files to measure instead of the synthetic ones
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(super) model: Vec<PathBuf>,
    /// Folder of the synthetic files [default: target/bench-models of the workspace]
    #[arg(long, value_name = "DIR")]
    pub(super) models: Option<PathBuf>,
    /// Only rows whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub(super) only: Option<String>,
    /// The program to measure [default: that beside this one, else that of the workspace, built if need be]
    #[arg(long, value_name = "PROGRAM")]
    pub(super) onebit: Option<PathBuf>,
    /// Threads [default: as `onebit run`]
    #[arg(short, long, value_name = "N")]
    pub(super) threads: Option<usize>,
    /// Kernel set [default: the best of this CPU]
    #[arg(long, value_name = "NAME")]
    pub(super) kernels: Option<String>,
    /// Type of the key/value cache
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    pub(super) kv: String,
    /// Positions of the context [default: those that are used]
    #[arg(long, value_name = "N")]
    pub(super) ctx: Option<usize>,
    /// Encoding of embedding and head of synthetic ternary and binary models
    #[arg(long, value_name = "HOW", default_value = "keep", value_parser = ["keep", "f16", "q8", "q4"])]
    pub(super) head: String,
    /// Tokens of the prompt [default: 128; quick: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) prompt: Option<u32>,
    /// Tokens to generate [default: 64; quick: 24]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub(super) tokens: Option<u32>,
    /// Decode at these depths of context too: 0,2048,8192
    #[arg(long, value_name = "LIST")]
    pub(super) depth: Option<String>,
    /// Decode so many sequences together too: 1,2,4,8
    #[arg(long, value_name = "LIST")]
    pub(super) batch: Option<String>,
    /// Repetitions of everything, in turn [default: 3; quick: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) repeat: Option<u32>,
    /// Another engine: `NAME[@ROW]=PATH:GGUF` with a llama-bench, or `llama-cpp-python[@ROW]:GGUF`; compared with the row whose
    /// name contains ROW, else with that of the nearest file size among those of its model's shape (repeatable)
    #[arg(long, value_name = "PEER")]
    pub(super) peer: Vec<String>,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
    /// Write the table as Markdown
    #[arg(long, value_name = "FILE")]
    pub(super) markdown: Option<PathBuf>,
    /// Write the report with plots as one HTML file
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
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

/// Measures and reports.
pub(super) fn run(args: &TableArgs) -> anyhow::Result<Code> {
    let settings = args.settings()?;
    let peers = args.peer.iter().map(|text| Peer::parse(text));
    let mut peers = peers.collect::<anyhow::Result<Vec<_>>>()?;
    name_apart(&mut peers);
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
    show::print(&report)?;
    show::write(args.json.as_deref(), || Ok(format!("{}\n", report.json())))?;
    show::write(args.markdown.as_deref(), || Ok(report.markdown()))?;
    show::write(args.html.as_deref(), || Ok(html::page(&report)))?;
    Ok(match report.failed() {
        true => Code::Failure,
        false => Code::Success,
    })
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
            rows.push(standard_row(standard, args, settings)?);
        }
    }
    bar.finish();
    if rows.is_empty() {
        return Err(exit::request("--only: no row has this in its name"));
    }
    Ok(rows)
}

fn standard_row(standard: &Standard, args: &TableArgs, settings: &Settings) -> anyhow::Result<Row> {
    let mut row = Row {
        name: standard.name.into(),
        format: standard.format.into(),
        ..Row::default()
    };
    if args.quick && args.only.is_none() && !standard.quick {
        row.note = Some("not run by --quick".into());
        return Ok(row);
    }
    match standard.file(args.models.as_deref(), &settings.head, settings.context())? {
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
