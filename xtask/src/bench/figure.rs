//! Repeated measurements of one quantity.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// All measurements of one quantity, sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Figure(Vec<f64>);

/// Figures by name.
pub(super) type Figures = BTreeMap<String, Figure>;

impl Figure {
    /// Adds a measurement; numbers that are none do not count.
    pub(super) fn push(&mut self, value: f64) {
        if value.is_finite() {
            let at = self.0.partition_point(|x| *x < value);
            self.0.insert(at, value);
        }
    }

    /// How many there are.
    pub(super) fn n(&self) -> usize {
        self.0.len()
    }

    /// The middle one, or the mean of the two in the middle.
    pub(super) fn median(&self) -> Option<f64> {
        let last = self.0.len().checked_sub(1)?;
        Some((self.0[last / 2] + self.0[last.div_ceil(2)]) / 2.0)
    }

    /// From the least to the most, as a share of the median.
    pub(super) fn spread(&self) -> f64 {
        match (self.0.first(), self.0.last(), self.median()) {
            (Some(first), Some(last), Some(median)) if median != 0.0 => {
                (last - first) / median.abs()
            }
            _ => 0.0,
        }
    }

    /// As it stands in a report.
    pub(super) fn json(&self) -> Value {
        json!({
            "median": self.median(),
            "min": self.0.first(),
            "max": self.0.last(),
            "n": self.n(),
        })
    }
}

/// Adds a measurement to the figure of that name.
pub(super) fn add(figures: &mut Figures, name: impl Into<String>, value: f64) {
    figures.entry(name.into()).or_default().push(value);
}

/// The median of the figure of that name.
pub(super) fn median(figures: &Figures, name: &str) -> Option<f64> {
    figures.get(name)?.median()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let mut figure = Figure::default();
        assert_eq!((figure.median(), figure.spread()), (None, 0.0));
        for value in [5.0, 1.0, f64::NAN, 9.0] {
            figure.push(value);
        }
        assert_eq!((figure.median(), figure.spread()), (Some(5.0), 1.6));
        figure.push(7.0);
        assert_eq!(
            figure.json(),
            json!({"median": 6.0, "min": 1.0, "max": 9.0, "n": 4})
        );
    }
}
