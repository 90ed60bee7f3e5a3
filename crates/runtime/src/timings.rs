//! How long a generation takes.

use std::time::{Duration, Instant};

/// Times of one generation. Rates of nothing are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Timings {
    /// From the start to the first token, in seconds.
    pub ttft_s: f64,
    /// Tokens of the prompt per second.
    pub prefill_tok_s: f64,
    /// Tokens per second after the first.
    pub decode_tok_s: f64,
    /// Median time of a token after the first, in milliseconds.
    pub decode_ms_p50: f64,
    /// The time that 95 of 100 tokens stay within, in milliseconds.
    pub decode_ms_p95: f64,
    /// The time that 99 of 100 tokens stay within, in milliseconds.
    pub decode_ms_p99: f64,
}

/// Takes the times; allocates at the start only.
pub(crate) struct Clock {
    start: Instant,
    prompt: usize,
    prefill: Option<Duration>,
    first: Option<Duration>,
    step: Instant,
    steps: Vec<Duration>,
}

impl Clock {
    /// Starts, with the length of the prompt and room for `tokens` tokens.
    pub(crate) fn start(prompt: usize, tokens: usize) -> Self {
        let start = Instant::now();
        Self {
            start,
            prompt,
            prefill: None,
            first: None,
            step: start,
            steps: Vec::with_capacity(tokens),
        }
    }

    /// The prompt has run.
    pub(crate) fn prefilled(&mut self) {
        self.prefill = Some(self.start.elapsed());
    }

    /// A token after the first is begun.
    pub(crate) fn step(&mut self) {
        self.step = Instant::now();
    }

    /// A token has been chosen.
    pub(crate) fn token(&mut self) {
        match self.first {
            None => self.first = Some(self.start.elapsed()),
            Some(_) => self.steps.push(self.step.elapsed()),
        }
    }

    /// The times so far.
    pub(crate) fn timings(mut self) -> Timings {
        self.steps.sort_unstable();
        let decode: Duration = self.steps.iter().sum();
        let ms = |percent| percentile(&self.steps, percent).as_secs_f64() * 1e3;
        Timings {
            ttft_s: self.first.unwrap_or_default().as_secs_f64(),
            prefill_tok_s: rate(self.prompt, self.prefill.unwrap_or_default()),
            decode_tok_s: rate(self.steps.len(), decode),
            decode_ms_p50: ms(50),
            decode_ms_p95: ms(95),
            decode_ms_p99: ms(99),
        }
    }
}

fn rate(count: usize, time: Duration) -> f64 {
    if time.is_zero() {
        0.0
    } else {
        count as f64 / time.as_secs_f64()
    }
}

/// The smallest of the sorted times that at least `percent` of 100 do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50).as_millis(), 100);
        assert_eq!(percentile(&times, 95).as_millis(), 190);
        assert_eq!(percentile(&times, 99).as_millis(), 198);
        assert_eq!(percentile(&times[..1], 50).as_millis(), 1);
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }

    #[test]
    fn nothing_has_no_rate() {
        assert_eq!(Clock::start(0, 0).timings(), Timings::default());
    }
}
