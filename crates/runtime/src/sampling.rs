//! From logits to the next token: a chain of pure functions, and a seeded draw at its end.
//!
//! The order is that of `transformers`: repetition penalty, temperature, top-k, top-p, min-p. Every
//! step is deterministic on every platform: ties go to the lower id, sums run in a fixed order, and
//! the exponential and the generator do not depend on the system.

use crate::error::RuntimeError;
use crate::rng::Rng;

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingOptions {
    /// Divisor of the logits; 0 takes the likeliest token, whatever the fields below say but for
    /// the penalty.
    pub temperature: f32,
    /// Keep this many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the fewest likeliest tokens whose probabilities sum to at least this; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens at least this fraction as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of recent tokens; 1 does nothing.
    pub repetition_penalty: f32,
    /// How many of the last tokens are recent.
    pub repetition_window: usize,
    /// Seed of the generator.
    pub seed: u64,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repetition_penalty: 1.0,
            repetition_window: 64,
            seed: 0,
        }
    }
}

impl SamplingOptions {
    /// The likeliest token, always.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            ..Self::default()
        }
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`RuntimeError::Option`] with the first that is out of bounds.
    pub fn validate(&self) -> Result<(), RuntimeError> {
        let check = |holds: bool, name, value: f32, expected| {
            let error = || RuntimeError::Option {
                name,
                value: value.to_string(),
                expected,
            };
            if holds { Ok(()) } else { Err(error()) }
        };
        let (t, p, m, r) = (
            self.temperature,
            self.top_p,
            self.min_p,
            self.repetition_penalty,
        );
        check(
            t.is_finite() && t >= 0.0,
            "temperature",
            t,
            "a finite number, at least 0,",
        )?;
        check((0.0..=1.0).contains(&p), "top_p", p, "a number from 0 to 1")?;
        check((0.0..=1.0).contains(&m), "min_p", m, "a number from 0 to 1")?;
        check(
            r.is_finite() && r > 0.0,
            "repetition_penalty",
            r,
            "a finite number above 0",
        )
    }
}

/// A token that may be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// Its logit, later divided by the temperature.
    pub logit: f32,
    /// Its probability, not normalized: the likeliest has 1.
    pub weight: f64,
}

/// Draws tokens: the chain with its buffers and its generator.
///
/// ```
/// use onebit_runtime::{Sampler, SamplingOptions};
///
/// let mut sampler = Sampler::new(SamplingOptions::greedy(), 3)?;
/// assert_eq!(sampler.sample(&[0.5, 2.0, 2.0], &[])?, 1);
/// # Ok::<(), onebit_runtime::RuntimeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sampler {
    options: SamplingOptions,
    rng: Rng,
    logits: Vec<f32>,
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// A sampler over a vocabulary of `vocab` tokens; its buffers are allocated here.
    ///
    /// # Errors
    /// As [`SamplingOptions::validate`].
    pub fn new(options: SamplingOptions, vocab: usize) -> Result<Self, RuntimeError> {
        options.validate()?;
        let rng = Rng::new(options.seed);
        let (logits, candidates) = (Vec::with_capacity(vocab), Vec::with_capacity(vocab));
        Ok(Self {
            options,
            rng,
            logits,
            candidates,
        })
    }

    /// The options.
    pub fn options(&self) -> &SamplingOptions {
        &self.options
    }

    /// The next token after `history`, prompt included, by the logits of its last position.
    ///
    /// # Errors
    /// [`RuntimeError::Logits`] where a logit is not a number or infinite, or all are `-inf`.
    pub fn sample(&mut self, logits: &[f32], history: &[u32]) -> Result<u32, RuntimeError> {
        check_logits(logits)?;
        let logits = if self.options.repetition_penalty == 1.0 {
            logits
        } else {
            self.logits.clear();
            self.logits.extend_from_slice(logits);
            let recent = &history[history.len().saturating_sub(self.options.repetition_window)..];
            penalize_repetition(&mut self.logits, recent, self.options.repetition_penalty);
            &self.logits
        };
        if self.options.temperature == 0.0 {
            return Ok(greedy(logits));
        }
        let candidates = &mut self.candidates;
        likeliest(logits, self.options.top_k, candidates);
        weigh(candidates, self.options.temperature);
        top_p(candidates, self.options.top_p);
        min_p(candidates, self.options.min_p);
        Ok(draw(candidates, self.rng.uniform()))
    }
}

/// Refuses logits that cannot be compared or summed.
///
/// # Errors
/// [`RuntimeError::Logits`] for the first that is NaN or `+inf`, or if all are `-inf`.
pub fn check_logits(logits: &[f32]) -> Result<(), RuntimeError> {
    let usable = |x: f32| x < f32::INFINITY;
    let refuse = |token: usize, value| Err(RuntimeError::Logits { token, value });
    // Whole chunks first: comparisons without a way out between them are done several at a time.
    let all_usable = |chunk: &[f32]| chunk.iter().fold(true, |all, &x| all & usable(x));
    if let Some(start) = position_of_chunk(logits, |chunk| !all_usable(chunk)) {
        let rest = &logits[start..];
        let token = start + rest.iter().take_while(|&&x| usable(x)).count();
        return refuse(token, logits[token]);
    }
    match largest(logits) == f32::NEG_INFINITY {
        true => refuse(0, f32::NEG_INFINITY),
        false => Ok(()),
    }
}

/// Where the first chunk starts that is `wanted`.
fn position_of_chunk(logits: &[f32], wanted: impl Fn(&[f32]) -> bool) -> Option<usize> {
    const CHUNK: usize = 256;
    let found = logits.chunks(CHUNK).position(wanted);
    found.map(|chunk| chunk * CHUNK)
}

/// The largest logit that is a number; `-inf` where there is none.
fn largest(logits: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = logits.as_chunks::<16>();
    let mut lanes = [f32::NEG_INFINITY; 16];
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, x);
        }
    }
    lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, &b| larger(a, b))
}

/// Divides positive and multiplies negative logits of the tokens in `recent`, each once.
pub fn penalize_repetition(logits: &mut [f32], recent: &[u32], penalty: f32) {
    for (index, &id) in recent.iter().enumerate() {
        if recent[..index].contains(&id) {
            continue;
        }
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = if *logit > 0.0 {
                *logit / penalty
            } else {
                *logit * penalty
            };
        }
    }
}

/// The likeliest token, the lowest id among equals. The logits are checked.
pub fn greedy(logits: &[f32]) -> u32 {
    let largest = largest(logits);
    let has_it = |chunk: &[f32]| chunk.iter().fold(false, |any, &x| any | (x == largest));
    let start = position_of_chunk(logits, has_it).unwrap_or(0);
    let found = logits[start..].iter().position(|&x| x == largest);
    (start + found.unwrap_or(0)) as u32
}

/// Fills `out` with the `k` likeliest tokens (0: all of them), the likeliest first, equals by id.
pub fn likeliest(logits: &[f32], k: usize, out: &mut Vec<Candidate>) {
    out.clear();
    let ids = logits.iter().zip(0..);
    out.extend(ids.map(|(&logit, id)| Candidate {
        id,
        logit,
        weight: 0.0,
    }));
    let order = |a: &Candidate, b: &Candidate| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id));
    if k > 0 && k < out.len() {
        out.select_nth_unstable_by(k - 1, order);
        out.truncate(k);
    }
    out.sort_unstable_by(order);
}

/// Divides the logits by the temperature and sets the weights: `exp(logit - largest logit)`.
pub fn weigh(candidates: &mut [Candidate], temperature: f32) {
    let Some(largest) = candidates.first().map(|first| f64::from(first.logit)) else {
        return;
    };
    for candidate in candidates {
        let distance = f64::from(candidate.logit) - largest;
        candidate.weight = libm::exp(distance / f64::from(temperature));
        candidate.logit /= temperature;
    }
}

/// Keeps the fewest likeliest tokens whose share of the weight is at least `p`, but one.
pub fn top_p(candidates: &mut Vec<Candidate>, p: f32) {
    if p >= 1.0 {
        return;
    }
    let enough = f64::from(p) * candidates.iter().map(|c| c.weight).sum::<f64>();
    let mut sum = 0.0;
    let reached = candidates.iter().position(|candidate| {
        sum += candidate.weight;
        sum >= enough
    });
    candidates.truncate(reached.map_or(candidates.len(), |last| last + 1));
}

/// Keeps tokens at least `p` times as likely as the likeliest.
pub fn min_p(candidates: &mut Vec<Candidate>, p: f32) {
    let Some(largest) = candidates.first().map(|first| first.weight) else {
        return;
    };
    let kept = candidates.partition_point(|candidate| candidate.weight >= largest * f64::from(p));
    candidates.truncate(kept.max(1));
}

/// The candidate at `u` (from 0 to below 1) of the summed weights.
pub fn draw(candidates: &[Candidate], u: f64) -> u32 {
    let mut left = u * candidates.iter().map(|c| c.weight).sum::<f64>();
    for candidate in candidates {
        left -= candidate.weight;
        if left < 0.0 {
            return candidate.id;
        }
    }
    // Rounding can leave a rest behind the last; tokens of weight 0 are never drawn.
    candidates
        .iter()
        .rev()
        .find(|c| c.weight > 0.0)
        .map_or(0, |c| c.id)
}

/// The natural logarithm of the probability that the softmax of `logits` gives to `token`; `None`
/// for a token outside of the vocabulary.
pub fn log_prob(logits: &[f32], token: u32) -> Option<f64> {
    let logit = f64::from(*logits.get(token as usize)?);
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits
        .iter()
        .map(|&x| libm::exp(f64::from(x) - largest))
        .sum();
    Some(logit - largest - libm::log(sum))
}
