//! Repeated timings.

use std::time::{Duration, Instant};

/// The times of one piece of work, in seconds.
#[derive(Debug, Default)]
pub(super) struct Series {
    seconds: Vec<f64>,
}

impl Series {
    /// Times `work` once.
    pub(super) fn time(&mut self, work: impl FnOnce()) {
        let start = Instant::now();
        work();
        self.push(start.elapsed());
    }

    /// Takes over the times of another.
    pub(super) fn add(&mut self, other: Self) {
        let times = other.seconds.into_iter();
        times.for_each(|seconds| self.push(Duration::from_secs_f64(seconds)));
    }

    fn push(&mut self, time: Duration) {
        let at = self
            .seconds
            .partition_point(|seconds| *seconds < time.as_secs_f64());
        self.seconds.insert(at, time.as_secs_f64());
    }

    /// Whether nothing was timed.
    pub(super) fn is_empty(&self) -> bool {
        self.seconds.is_empty()
    }

    /// The middle one.
    ///
    /// # Panics
    /// When nothing was timed.
    pub(super) fn median(&self) -> f64 {
        let (low, high) = ((self.seconds.len() - 1) / 2, self.seconds.len() / 2);
        (self.seconds[low] + self.seconds[high]) / 2.0
    }

    /// From the shortest to the longest, as a share of the median.
    pub(super) fn spread(&self) -> f64 {
        (self.seconds[self.seconds.len() - 1] - self.seconds[0]) / self.median()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let mut series = Series::default();
        for ms in [5, 1, 9] {
            series.push(Duration::from_millis(ms));
        }
        assert_eq!((series.median(), series.seconds[0]), (0.005, 0.001));
        assert_eq!(series.spread(), 1.6);
        series.push(Duration::from_millis(7));
        assert_eq!(series.median(), 0.006);
    }
}
