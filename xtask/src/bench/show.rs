//! The report as text, Markdown and JSON.

use super::figure::{Figure, median};
use super::report::{NOISY_LOAD, NOISY_SPREAD, Report};
use super::table::Row;
use super::text::{Cells, short};
use anyhow::Context;
use onebit::stdout;
use onebit_runtime::format_size;
use serde_json::{Value, json};
use std::path::Path;

impl Report {
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
