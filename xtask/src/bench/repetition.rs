//! One repetition of a row of the table: programs that are run, and the figures that they give.

use super::bar::Bar;
use super::figure::add;
use super::measure::{Measured, measure_quietly};
use super::settings::Settings;
use super::system::{CpuTime, Rapl};
use super::table::Row;
use super::{batch, child};
use crate::guard;
use anyhow::Context;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// One repetition of everything for a row.
pub(super) fn measure_row(
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
    add(&mut row.figures, "peak_rss", measured.peak_figure());
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
        measured.peak_figure(),
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

/// What reading memory and multiplying reach here, measured by a child.
pub(super) fn limits(settings: &Settings) -> anyhow::Result<Value> {
    let own = std::env::current_exe().context("the running program is not found")?;
    let mut command = guard::command(own)?;
    command.args([child::COMMAND, "kernels", "--limits", "--json"]);
    command.args(["--rounds", "5"]);
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
