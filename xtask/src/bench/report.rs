//! What the table says, as text, Markdown and JSON.

use super::figure::{Figure, median};
use super::system;
use super::table::{Row, Settings};
use super::text::Cells;
use crate::process::root;
use anyhow::Context;
use onebit::stdout;
use onebit_runtime::format_size;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};

/// Spread of decoding speed, as a share of its median, above which a row is called noisy.
pub(super) const NOISY_SPREAD: f64 = 0.10;
/// CPUs kept busy by others above which a row is called noisy.
pub(super) const NOISY_LOAD: f64 = 0.10;

/// All that was measured, and where.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) rows: Vec<Row>,
    settings: Value,
    real: bool,
    machine: Value,
    pub(super) depths: Vec<usize>,
    batches: Vec<usize>,
    /// What the CPU does at best: bytes and operations per second.
    pub(super) limits: Value,
}

impl Report {
    /// Of rows measured with `settings`; `seen` is what the system was seen to do meanwhile.
    pub(super) fn new(
        rows: Vec<Row>,
        settings: &Settings,
        real: bool,
        seen: Value,
        onebit: &Path,
        limits: Value,
    ) -> Self {
        let machine = json!({
            "cpu": system::cpu_model(),
            "cpus": std::thread::available_parallelism().map_or(0, usize::from),
            "os": system::os(),
            "governor": system::governors(),
            "seen": seen,
            "commit": commit(),
            "onebit": super::models::sha256(onebit).ok(),
        });
        let settings_json = json!({
            "threads": settings.threads,
            "kernels": settings.kernels,
            "kv": settings.kv,
            "ctx": settings.ctx,
            "head": settings.head,
            "prompt": settings.prompt,
            "tokens": settings.tokens,
            "depth": settings.depths,
            "batch": settings.batches,
            "repeat": settings.repeat,
        });
        Self {
            rows,
            settings: settings_json,
            real,
            machine,
            depths: settings.depths.clone(),
            batches: settings.batches.clone(),
            limits,
        }
    }

    /// Tokens of the prompt.
    pub(super) fn prompt(&self) -> u64 {
        self.settings["prompt"].as_u64().unwrap_or(1)
    }

    /// Whether a row could not be measured that should have been.
    pub(super) fn failed(&self) -> bool {
        let notes = self.rows.iter().filter_map(|row| row.note.as_deref());
        notes.into_iter().any(|note| note.starts_with("failed"))
    }

    /// What the weights are: the first line of everything.
    pub(super) fn title(&self) -> &'static str {
        match self.real {
            true => "weights of the files given",
            false => "synthetic (random) weights, of the real shapes",
        }
    }

    /// How and where, a line each.
    pub(super) fn facts(&self) -> Vec<String> {
        let (machine, settings) = (&self.machine, &self.settings);
        let text = |value: &Value| match value {
            Value::Null => "not known".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let run = self.rows.iter().find(|row| !row.kernels.is_empty());
        let range = |key: &str| {
            let seen = &machine["seen"][key];
            match (seen["min"].as_f64(), seen["max"].as_f64()) {
                (Some(min), Some(max)) => format!("{min:.0} to {max:.0}"),
                _ => "not known".to_owned(),
            }
        };
        let load = machine["seen"]["other_load_cpus"].as_f64();
        vec![
            format!(
                "{}, {} CPUs, {}; kernels {}, {} threads; governor {}; MHz {}; degrees Celsius {}",
                text(&machine["cpu"]),
                machine["cpus"],
                text(&machine["os"]),
                run.map_or("none", |row| &row.kernels),
                run.map_or(0, |row| row.threads),
                text(&machine["governor"]),
                range("mhz"),
                range("celsius"),
            ),
            format!(
                "prompt of {} tokens, {} generated, kv {}; medians of {}, in turn; load by others {}",
                settings["prompt"],
                settings["tokens"],
                text(&settings["kv"]),
                settings["repeat"],
                load.map_or("not known".into(), |load| format!("{load:.2} CPUs")),
            ),
            format!("commit {}", text(&machine["commit"])),
        ]
    }

    /// What makes the figures doubtful.
    pub(super) fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        for row in &self.rows {
            let spread = row.figures.get("decode_tok_s").map_or(0.0, Figure::spread);
            if spread > NOISY_SPREAD {
                doubts.push(format!(
                    "noisy: {}: decoding speed spread over {:.0} % (limit {:.0} %)",
                    row.name,
                    100.0 * spread,
                    100.0 * NOISY_SPREAD
                ));
            }
            if row.others > NOISY_LOAD {
                doubts.push(format!(
                    "noisy: {}: others kept {:.2} CPUs busy (limit {NOISY_LOAD})",
                    row.name, row.others
                ));
            }
        }
        doubts
    }

    /// Memory of the same shape in FP16, and whether it was measured. That of a peer is that of its pair.
    fn fp16(&self, row: &Row) -> Option<(f64, bool)> {
        let row = match &row.pair {
            Some(pair) => self.rows.iter().find(|other| other.name == *pair)?,
            None => row,
        };
        let facts = row.facts.as_ref()?;
        let measured = self.rows.iter().find(|other| {
            let other_spec = other.facts.as_ref().and_then(|other| other.spec.as_ref());
            other.format == "f16" && other_spec.is_some() && other_spec == facts.spec.as_ref()
        });
        match measured.and_then(|other| median(&other.figures, "peak_rss")) {
            Some(peak) => Some((peak, true)),
            None => Some((facts.fp16? as f64, false)),
        }
    }

    /// Each peer and the row that it is paired with: how many times faster in decoding and prefill, and how much of the
    /// peer's memory, the row is, by repetition.
    fn pairs(&self) -> Vec<(&Row, &Row, [Figure; 3])> {
        let peers = self.rows.iter().filter(|row| row.facts.is_some());
        let paired = peers.filter_map(|peer| {
            let pair = peer.pair.as_ref()?;
            let row = self.rows.iter().find(|row| row.name == *pair)?;
            Some((row, peer))
        });
        paired
            .map(|(row, peer)| {
                let mut ratios = [Figure::default(), Figure::default(), Figure::default()];
                for (own, other) in row.series.iter().zip(&peer.series) {
                    for (i, ratio) in ratios.iter_mut().enumerate() {
                        ratio.push(own[i] / other[i]);
                    }
                }
                (row, peer, ratios)
            })
            .collect()
    }

    /// All that is said below the table.
    pub(super) fn notes(&self) -> Vec<String> {
        [self.pair_lines(), self.facts(), self.doubts()].concat()
    }

    /// The ratios, a line each.
    fn pair_lines(&self) -> Vec<String> {
        let line = |(row, peer, ratios): &(&Row, &Row, [Figure; 3])| {
            let [decode, prefill, peak] = ratios
                .each_ref()
                .map(|ratio| ratio.median().map_or_else(|| "n/a".to_owned(), short));
            format!(
                "{} against {}: decoding {decode}x as fast (spread {:.0} %), prompts {prefill}x, {peak}x the memory",
                row.name,
                peer.name,
                100.0 * ratios[0].spread()
            )
        };
        self.pairs().iter().map(line).collect()
    }

    /// How many times less memory a row takes than the same shape in FP16.
    fn reduction(&self, row: &Row) -> Option<f64> {
        Some(self.fp16(row)?.0 / median(&row.figures, "peak_rss")?)
    }

    /// The table itself.
    pub(super) fn cells(&self) -> Cells {
        let mut titles: Vec<String> = [
            "model",
            "format",
            "file",
            "peak RSS",
            "anon + file",
            "vs FP16",
            "load ms",
            "first ms",
            "prefill tok/s",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "tok/s",
            "spread",
            "J/token",
        ]
        .map(str::to_owned)
        .to_vec();
        titles.extend(self.depths.iter().map(|depth| format!("tok/s @{depth}")));
        titles.extend(self.batches.iter().map(|n| format!("tok/s x{n}")));
        let mut cells = Cells(vec![titles]);
        for row in &self.rows {
            cells.0.push(self.row(row));
        }
        cells
    }

    fn row(&self, row: &Row) -> Vec<String> {
        if row.facts.is_none() {
            return vec![row.name.clone(), row.note.clone().unwrap_or_default()];
        }
        let value = |name: &str| median(&row.figures, name);
        let na = || "n/a".to_owned();
        let size = |name: &str| value(name).map_or_else(na, |bytes| format_size(bytes as u64));
        let number = |name: &str| value(name).map_or_else(na, short);
        let planned = self.fp16(row).is_some_and(|(_, measured)| !measured);
        let repeated = row
            .figures
            .get("decode_tok_s")
            .filter(|figure| figure.n() > 1);
        let spread = repeated.map(Figure::spread);
        let mut cells = vec![
            row.name.clone(),
            row.format.clone(),
            row.facts
                .as_ref()
                .map_or_else(na, |facts| format_size(facts.bytes)),
            size("peak_rss"),
            format!("{} + {}", size("rss_anon"), size("rss_file")),
            self.reduction(row).map_or_else(na, |times| {
                format!("{times:.1}x{}", if planned { " (plan)" } else { "" })
            }),
        ];
        let figures = [
            "load_ms",
            "ttft_ms",
            "prefill_tok_s",
            "decode_ms_p50",
            "decode_ms_p95",
            "decode_ms_p99",
            "decode_tok_s",
        ];
        cells.extend(figures.map(number));
        cells.push(spread.map_or_else(na, |spread| format!("{:.0} %", 100.0 * spread)));
        cells.push(number("joules_per_token"));
        cells.extend(
            self.depths
                .iter()
                .map(|depth| number(&format!("decode_tok_s@{depth}"))),
        );
        cells.extend(
            self.batches
                .iter()
                .map(|n| number(&format!("batch{n}_tok_s"))),
        );
        cells
    }

    /// Everything.
    pub(super) fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(|row| self.row_json(row)).collect();
        json!({
            "bench": 1,
            "weights": if self.real { "real" } else { "synthetic" },
            "machine": self.machine,
            "settings": self.settings,
            "noise_limits": {"spread": NOISY_SPREAD, "other_load_cpus": NOISY_LOAD},
            "noisy": self.doubts(),
            "limits": self.limits,
            "pairs": self.pairs().iter().map(|(row, peer, [decode, prefill, peak])| json!({
                "row": row.name, "peer": peer.name,
                "decode": decode.json(), "prefill": prefill.json(), "peak_rss": peak.json(),
            })).collect::<Vec<_>>(),
            "rows": rows,
        })
    }

    fn row_json(&self, row: &Row) -> Value {
        let facts = row.facts.as_ref();
        let figures: serde_json::Map<String, Value> = row
            .figures
            .iter()
            .map(|(name, figure)| (name.clone(), figure.json()))
            .collect();
        let fp16 = self.fp16(row);
        json!({
            "name": row.name,
            "format": row.format,
            "note": row.note,
            "file": row.file.file_name().map(|name| name.to_string_lossy()),
            "file_bytes": facts.map(|facts| facts.bytes),
            "sha256": facts.map(|facts| facts.sha256.as_str()),
            "kernels": row.kernels,
            "threads": row.threads,
            "fp16_rss": fp16.map(|(bytes, measured)| json!({"bytes": bytes, "measured": measured})),
            "reduction": self.reduction(row),
            "other_load_cpus": row.others,
            "figures": figures,
            "latencies_ms": row.latencies,
            "phases": row.phases.iter().map(|(name, end)| json!({"name": name, "end_s": end})).collect::<Vec<_>>(),
            "timeline": row.timeline.iter().map(|s| json!([s.at, s.anon, s.file])).collect::<Vec<_>>(),
        })
    }

    /// As Markdown.
    pub(super) fn markdown(&self) -> String {
        let mut text = format!("{}\n\n{}\n", self.title(), self.cells().markdown());
        for line in self.notes() {
            text += &format!("- {line}\n");
        }
        text
    }
}

/// A number with three or more digits that count.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        x if x >= 100.0 => format!("{value:.0}"),
        x if x >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Prints the table.
pub(super) fn print(report: &Report) -> anyhow::Result<()> {
    stdout::line(report.title())?;
    stdout::print(&report.cells().aligned())?;
    for line in report.notes() {
        stdout::line(&line)?;
    }
    Ok(())
}

/// Writes a file, where one was asked for.
pub(super) fn write(
    path: Option<&Path>,
    text: impl FnOnce() -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    if let Some(path) = path {
        std::fs::write(path, text()?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The commit that is checked out, and whether it was changed; `None` outside a repository.
fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.args(args).current_dir(root()).stderr(Stdio::null());
        let output = command.output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    };
    let hash = git(&["rev-parse", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(match changed.is_empty() {
        true => hash,
        false => format!("{hash}, changed"),
    })
}
