//! What was measured for the table, and what follows from it.

use super::figure::{Figure, median};
use super::machine;
use super::settings::Settings;
use super::table::Row;
use super::text::short;
use serde_json::{Value, json};
use std::path::Path;

/// Spread of decoding speed, as a share of its median, above which a row is called noisy.
pub(super) const NOISY_SPREAD: f64 = 0.10;
/// CPUs kept busy by others above which a row is called noisy.
pub(super) const NOISY_LOAD: f64 = 0.10;

/// All that was measured, and where.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) rows: Vec<Row>,
    pub(super) settings: Value,
    pub(super) real: bool,
    pub(super) machine: Value,
    pub(super) depths: Vec<usize>,
    pub(super) batches: Vec<usize>,
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
        let machine = machine::describe(seen, Some(onebit));
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
        let run = self.rows.iter().find(|row| !row.kernels.is_empty());
        let ran = format!(
            "kernels {}, {} threads",
            run.map_or("none", |row| &row.kernels),
            run.map_or(0, |row| row.threads)
        );
        vec![
            machine::line(machine, &ran),
            format!(
                "prompt of {} tokens, {} generated, kv {}; medians of {}, in turn; {}",
                settings["prompt"],
                settings["tokens"],
                machine::text(&settings["kv"]),
                settings["repeat"],
                machine::load(machine),
            ),
            machine::revision(machine),
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
    pub(super) fn fp16(&self, row: &Row) -> Option<(f64, bool)> {
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
    pub(super) fn pairs(&self) -> Vec<(&Row, &Row, [Figure; 3])> {
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
    pub(super) fn reduction(&self, row: &Row) -> Option<f64> {
        Some(self.fp16(row)?.0 / median(&row.figures, "peak_rss")?)
    }
}
