//! What `onebit score` prints.

use crate::generation::MemoryReport;
use crate::load::Loaded;
use onebit_runtime::Tokenizer;
use serde::Serialize;
use std::fmt::Write;

/// The object of `--json`.
#[derive(Serialize)]
pub(super) struct Report {
    /// The tokens.
    ids: Vec<u32>,
    /// Natural logarithm of each token's probability given those before it; the first has none.
    logprobs: Vec<Option<f64>>,
    /// Number of tokens with a probability.
    scored: usize,
    /// Mean of `-logprobs`; none for a single token.
    nll: Option<f64>,
    /// `exp(nll)`.
    perplexity: Option<f64>,
    tok_s: f64,
    memory: MemoryReport,
    kernels: &'static str,
    threads: usize,
    kv: String,
    ctx: usize,
}

impl Report {
    pub(super) fn new(loaded: &Loaded, ids: Vec<u32>, log_probs: Vec<f64>, seconds: f64) -> Self {
        let scored = log_probs.len();
        let nll = (scored > 0).then(|| -log_probs.iter().sum::<f64>() / scored as f64);
        Self {
            logprobs: std::iter::once(None)
                .chain(log_probs.into_iter().map(Some))
                .collect(),
            scored,
            nll,
            perplexity: nll.map(f64::exp),
            tok_s: if seconds > 0.0 {
                ids.len() as f64 / seconds
            } else {
                0.0
            },
            ids,
            memory: MemoryReport::new(loaded),
            kernels: loaded.engine.kernels().name(),
            threads: loaded.threads(),
            kv: loaded.kv_name(),
            ctx: loaded.session.context,
        }
    }

    /// The perplexity, then a line per token: its place, its id, its log-probability and how it is spelled.
    pub(super) fn lines(&self, tokenizer: Option<&Tokenizer>) -> String {
        let perplexity = self
            .perplexity
            .map_or_else(|| "-".to_owned(), |p| format!("{p:.4}"));
        let mut text = format!("perplexity {perplexity} over {} tokens\n", self.scored);
        for (place, (id, score)) in self.ids.iter().zip(&self.logprobs).enumerate() {
            let score = score.map_or_else(|| "-".to_owned(), |score| format!("{score:.5}"));
            let token = tokenizer.and_then(|t| t.decode(&[*id], false).ok());
            let token = token.map_or_else(String::new, |token| format!("\t{token:?}"));
            let _ = writeln!(text, "{place}\t{id}\t{score}{token}");
        }
        text
    }
}
