//! What a verification found, and whether it is good enough.

use std::fmt;

use serde::Serialize;

use super::compare::Comparison;
use super::limits::{Limits, Precision};
use super::tokens::TokenSource;
use crate::error::{ConvertError, Result};

/// How far the logits of a packed file are from those of its source.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// Positions compared.
    pub tokens: usize,
    /// Where the tokens come from.
    pub token_source: TokenSource,
    /// The kernels that the packed file ran on.
    pub kernels: String,
    /// Largest absolute difference of two logits.
    pub max_error: f64,
    /// Standard deviation of the source's logits, to compare `max_error` with.
    pub spread: f64,
    /// Mean over positions of `KL(source || packed)`, in nats.
    pub mean_kl: f64,
    /// The same at the worst position.
    pub worst_kl: f64,
    /// That position.
    pub worst_position: usize,
    /// Share of positions with the same likeliest token.
    pub agreement: f64,
    /// Positions where the source's likeliest token is clearly ahead of the next.
    pub decided: usize,
    /// Share of those with the same likeliest token.
    pub decided_agreement: f64,
    /// How exact the packed file can be.
    pub precision: Precision,
    /// What was demanded.
    pub limits: Limits,
}

impl Verification {
    pub(super) fn new(
        found: &Comparison,
        token_source: TokenSource,
        kernels: &str,
        precision: Precision,
    ) -> Self {
        let share = |part: usize, of: usize| part as f64 / of.max(1) as f64;
        Self {
            tokens: found.positions,
            token_source,
            kernels: kernels.into(),
            max_error: found.max_error,
            spread: found.spread(),
            mean_kl: found.mean_kl(),
            worst_kl: found.worst_kl,
            worst_position: found.worst_position,
            agreement: share(found.agreed, found.positions),
            decided: found.decided,
            decided_agreement: match found.decided {
                0 => 1.0,
                decided => share(found.decided_agreed, decided),
            },
            precision,
            limits: precision.limits(),
        }
    }

    /// Judges by the limits, with the mean divergence limited to `max_kl` where given.
    pub(super) fn judged(mut self, max_kl: Option<f64>) -> Result<Self> {
        self.limits.mean_kl = max_kl.unwrap_or(self.limits.mean_kl);
        match self.failure() {
            None => Ok(self),
            Some(reason) => Err(ConvertError::Verification {
                reason,
                found: Box::new(self),
            }),
        }
    }

    /// The first limit that is not kept. One disagreement is allowed for, however short the sequence.
    fn failure(&self) -> Option<String> {
        let limits = &self.limits;
        let error = self.max_error / self.spread;
        let within = |what: &str, found: f64, limit: f64| {
            let kept = found <= limit;
            (!kept).then(|| format!("{what} is {found:.3e}, more than {limit:.1e}"))
        };
        let disagreements = (1.0 - self.decided_agreement) * self.decided as f64;
        let allowed = ((1.0 - limits.agreement) * self.decided as f64).max(1.0);
        let agreement = || {
            let kept = disagreements <= allowed + 0.5;
            (!kept).then(|| {
                let (found, limit) = (self.decided_agreement * 100.0, limits.agreement * 100.0);
                format!("the likeliest token is the same at {found:.1}% of the decided positions, less than {limit}%")
            })
        };
        within("the mean KL divergence", self.mean_kl, limits.mean_kl)
            .or_else(|| within("the largest KL divergence", self.worst_kl, limits.worst_kl))
            .or_else(agreement)
            .or_else(|| {
                within(
                    "the largest error of a logit in standard deviations",
                    error,
                    limits.error,
                )
            })
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = match self.token_source {
            TokenSource::Text => "tokens of text",
            TokenSource::Random => "random tokens",
        };
        write!(
            f,
            "{} {tokens}, kernels {}, {}: logits differ by at most {:.2e} (their standard deviation is {:.2e}), \
             KL {:.2e} nats per token (at most {:.2e}, at position {}), same likeliest token at {:.1}% \
             ({:.1}% of the {} decided ones)",
            self.tokens,
            self.kernels,
            self.precision,
            self.max_error,
            self.spread,
            self.mean_kl,
            self.worst_kl,
            self.worst_position,
            self.agreement * 100.0,
            self.decided_agreement * 100.0,
            self.decided,
        )
    }
}
