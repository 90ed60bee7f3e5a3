//! Two sets of logits, position by position.

/// What was found so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparison {
    pub(super) positions: usize,
    pub(super) max_error: f64,
    pub(super) kl: f64,
    pub(super) worst_kl: f64,
    pub(super) worst_position: usize,
    pub(super) agreed: usize,
    pub(super) decided: usize,
    pub(super) decided_agreed: usize,
    variance: f64,
}

/// The likeliest tokens of the source are decided where the first is ahead of the second by at least this share of
/// the logits' standard deviation.
const DECIDED: f64 = 0.1;

impl Comparison {
    /// Takes the logits of the next position. Logits that are not finite make it infinitely wrong.
    pub(super) fn add(&mut self, source: &[f32], packed: &[f32]) {
        let finite = source.iter().chain(packed).all(|logit| logit.is_finite());
        let (error, kl) = match finite {
            true => (max_error(source, packed), divergence(source, packed)),
            false => (f64::INFINITY, f64::INFINITY),
        };
        let (variance, (best, gap)) = (variance(source), best_and_gap(source));
        let agreed = usize::from(finite && best == best_and_gap(packed).0);
        let decided = usize::from(gap >= DECIDED * variance.sqrt());
        if kl > self.worst_kl {
            (self.worst_kl, self.worst_position) = (kl, self.positions);
        }
        self.max_error = self.max_error.max(error);
        self.kl += kl;
        self.variance += variance;
        self.agreed += agreed;
        self.decided += decided;
        self.decided_agreed += decided * agreed;
        self.positions += 1;
    }

    /// Mean of the divergences.
    pub(super) fn mean_kl(&self) -> f64 {
        self.kl / self.positions.max(1) as f64
    }

    /// Standard deviation of the source's logits around their mean, over all positions.
    pub(super) fn spread(&self) -> f64 {
        (self.variance / self.positions.max(1) as f64).sqrt()
    }
}

fn max_error(a: &[f32], b: &[f32]) -> f64 {
    let distance = |(a, b): (&f32, &f32)| f64::from((a - b).abs());
    a.iter().zip(b).map(distance).fold(0.0, f64::max)
}

fn variance(logits: &[f32]) -> f64 {
    let count = logits.len().max(1) as f64;
    let mean = logits.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
    let square = |x: &f32| (f64::from(*x) - mean).powi(2);
    logits.iter().map(square).sum::<f64>() / count
}

/// `KL(source || packed)` of the two distributions, in nats; never negative.
fn divergence(source: &[f32], packed: &[f32]) -> f64 {
    let (p, q) = (log_normalizer(source), log_normalizer(packed));
    let term = |(source, packed): (&f32, &f32)| {
        let log_p = f64::from(*source) - p;
        log_p.exp() * (log_p - (f64::from(*packed) - q))
    };
    source.iter().zip(packed).map(term).sum::<f64>().max(0.0)
}

fn log_normalizer(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let largest = f64::from(largest);
    let sum: f64 = logits.iter().map(|x| (f64::from(*x) - largest).exp()).sum();
    largest + sum.ln()
}

/// Index of the largest logit, the first of equals, and how far ahead of the next it is.
fn best_and_gap(logits: &[f32]) -> (usize, f64) {
    let (mut best, mut first, mut second) = (0, f32::NEG_INFINITY, f32::NEG_INFINITY);
    for (token, logit) in logits.iter().enumerate() {
        if *logit > first {
            (best, second, first) = (token, first, *logit);
        } else {
            second = second.max(*logit);
        }
    }
    (best, f64::from(first) - f64::from(second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergences_are_those_of_the_definition() {
        let (p, q) = ([0.5f64, 0.25, 0.25], [0.25, 0.25, 0.5]);
        let logits = |p: [f64; 3], shift: f32| p.map(|p| p.ln() as f32 + shift);
        let expected: f64 = p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum();
        assert!((divergence(&logits(p, 3.0), &logits(q, -7.0)) - expected).abs() < 1e-6);
        assert_eq!(divergence(&logits(p, 100.0), &logits(p, 100.0)), 0.0);
    }

    #[test]
    fn positions_add_up() {
        let mut comparison = Comparison::default();
        comparison.add(&[0.0, 4.0, 0.0], &[0.0, 4.0, 0.5]);
        comparison.add(&[4.0, 0.0, 0.0], &[0.0, 4.0, 0.0]);
        comparison.add(&[1.0, 0.999, -9.0], &[0.999, 1.0, -9.0]);
        assert_eq!(comparison.max_error, 4.0);
        assert_eq!(comparison.worst_position, 1);
        assert_eq!(
            [
                comparison.agreed,
                comparison.decided,
                comparison.decided_agreed
            ],
            [1, 2, 1]
        );
        let variance = 32.0 / 9.0;
        assert!((variance_of(&comparison) - (2.0 * variance + 22.06) / 3.0).abs() < 0.1);
    }

    fn variance_of(comparison: &Comparison) -> f64 {
        comparison.spread().powi(2)
    }

    #[test]
    fn what_is_not_finite_is_infinitely_wrong() {
        for wrong in [f32::NAN, f32::INFINITY] {
            for (source, packed) in [
                ([wrong, 1.0], [0.0, 1.0]),
                ([0.0, 1.0], [wrong, 1.0]),
                ([wrong; 2], [wrong; 2]),
            ] {
                let mut comparison = Comparison::default();
                comparison.add(&[0.0, 1.0], &[0.0, 1.0]);
                comparison.add(&source, &packed);
                assert_eq!(
                    (comparison.mean_kl(), comparison.worst_position),
                    (f64::INFINITY, 1)
                );
                assert_eq!(comparison.agreed, 1);
            }
        }
    }
}
