//! Plots as inline SVG.

/// Size of a plot, and its margins: left, right, top, bottom.
const SIZE: (f64, f64) = (560.0, 300.0);
const MARGIN: (f64, f64, f64, f64) = (70.0, 15.0, 30.0, 45.0);
/// Colours of the series, in turn: more than the standard rows and their limits.
const COLOURS: [&str; 12] = [
    "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f",
    "#e377c2", "#bcbd22", "#000000", "#1b5e20",
];

/// A plot of several series.
#[derive(Debug, Default)]
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) x: &'static str,
    pub(super) y: &'static str,
    /// Whether both axes are logarithmic; zeros are left out then.
    pub(super) log: bool,
    pub(super) series: Vec<Series>,
    /// Named places on the x axis.
    pub(super) marks: Vec<(f64, String)>,
}

/// Points with a name.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) style: Style,
    pub(super) points: Vec<(f64, f64)>,
}

/// How points are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Style {
    Line,
    Points,
    /// Bars from zero, one unit of this width each.
    Bars(f64),
}

/// From numbers to places on one axis.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    log: bool,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, (from, to): (f64, f64), log: bool) -> Self {
        let (mut low, mut high) = match log {
            true => (f64::INFINITY, f64::NEG_INFINITY),
            false => (0.0, 0.0),
        };
        for value in values.filter(|x| x.is_finite() && (!log || *x > 0.0)) {
            (low, high) = (f64::min(low, value), f64::max(high, value));
        }
        if !low.is_finite() {
            (low, high) = (1.0, 10.0);
        }
        if log {
            (low, high) = (
                10f64.powf(low.log10().floor()),
                10f64.powf(high.log10().ceil()),
            );
        } else {
            high *= 1.05;
        }
        if high <= low {
            high = if log { low * 10.0 } else { low + 1.0 };
        }
        Self {
            low,
            high,
            from,
            to,
            log,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let share = match self.log {
            true => (value / self.low).log10() / (self.high / self.low).log10(),
            false => (value - self.low) / (self.high - self.low),
        };
        self.from + share * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let (first, last) = (
                self.low.log10().round() as i32,
                self.high.log10().round() as i32,
            );
            return (first..=last).map(|power| 10f64.powi(power)).collect();
        }
        let rough = (self.high - self.low) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|x| x * power)
            .into_iter()
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        let count = ((self.high - self.low) / step) as usize;
        (0..=count).map(|i| self.low + i as f64 * step).collect()
    }
}

impl Plot {
    /// The picture.
    pub(super) fn svg(&self) -> String {
        let (width, height) = SIZE;
        let (left, right, top, bottom) = MARGIN;
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = Axis::new(points().map(|p| p.0), (left, width - right), self.log);
        let y = Axis::new(points().map(|p| p.1), (height - bottom, top), self.log);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {width} {}\" width=\"{width}\" role=\"img\"><title>{}</title>\
             <text x=\"{left}\" y=\"18\" class=\"t\">{}</text>",
            height + 16.0 * self.series.len() as f64,
            escape(&self.title),
            escape(&self.title)
        );
        for tick in x.ticks() {
            let at = x.place(tick);
            svg += &format!(
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{:.1}\" class=\"g\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                height - bottom,
                height - bottom + 15.0,
                label(tick)
            );
        }
        for tick in y.ticks() {
            let at = y.place(tick);
            svg += &format!(
                "<line x1=\"{left}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" class=\"g\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                width - right,
                left - 5.0,
                at + 4.0,
                label(tick)
            );
        }
        svg += &format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(14 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (left + width - right) / 2.0,
            height - bottom + 32.0,
            escape(self.x),
            (top + height - bottom) / 2.0,
            escape(self.y)
        );
        for (at, name) in &self.marks {
            let at = x.place(*at);
            svg += &format!(
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{:.1}\" class=\"m\"/>\
                 <text transform=\"translate({:.1} {:.1}) rotate(-90)\">{}</text>",
                height - bottom,
                at - 3.0,
                height - bottom - 4.0,
                escape(name)
            );
        }
        for (index, series) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            svg += &self.draw(series, colour, &x, &y);
            svg += &format!(
                "<rect x=\"{left}\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                height + 16.0 * index as f64 - 4.0,
                left + 15.0,
                height + 16.0 * index as f64 + 5.0,
                escape(&series.name)
            );
        }
        svg + "</svg>"
    }

    fn draw(&self, series: &Series, colour: &str, x: &Axis, y: &Axis) -> String {
        let shown = |p: &&(f64, f64)| !self.log || (p.0 > 0.0 && p.1 > 0.0);
        let places = series.points.iter().filter(shown);
        let places: Vec<(f64, f64)> = places.map(|p| (x.place(p.0), y.place(p.1))).collect();
        match series.style {
            Style::Line => {
                let points: Vec<String> = places
                    .iter()
                    .map(|(x, y)| format!("{x:.1},{y:.1}"))
                    .collect();
                format!(
                    "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
                    points.join(" ")
                )
            }
            Style::Points => places
                .iter()
                .map(|(x, y)| {
                    format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>")
                })
                .collect(),
            Style::Bars(unit) => {
                let width = (x.place(x.low + unit) - x.from).max(1.0);
                let bar = |(left, top): &(f64, f64)| {
                    format!(
                        "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\" \
                         fill=\"{colour}\" fill-opacity=\"0.6\"/>",
                        y.from - top
                    )
                };
                places.iter().map(bar).collect()
            }
        }
    }
}

/// A number of an axis.
fn label(value: f64) -> String {
    for (size, unit) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value.abs() >= size {
            let text = format!("{:.1}", value / size);
            return text.trim_end_matches(".0").to_owned() + unit;
        }
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Text as it stands in HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_hold_their_values() {
        let axis = Axis::new([3.0, 47.0].into_iter(), (0.0, 100.0), false);
        assert_eq!(axis.place(0.0), 0.0);
        assert!(axis.place(47.0) < 100.0 && axis.place(47.0) > 90.0);
        assert_eq!(axis.ticks(), [0.0, 10.0, 20.0, 30.0, 40.0]);
        let axis = Axis::new([0.0, 2.0, 5000.0].into_iter(), (0.0, 100.0), true);
        assert_eq!((axis.low, axis.high), (1.0, 10_000.0));
        assert_eq!(axis.ticks().len(), 5);
        assert_eq!(Axis::new([].into_iter(), (0.0, 1.0), false).high, 1.0);
    }

    #[test]
    fn text_cannot_leave_its_place() {
        let plot = Plot {
            title: "<script>&\"".into(),
            series: vec![Series {
                name: "a<b".into(),
                style: Style::Bars(1.0),
                points: vec![(0.0, 2.0), (1.0, 1.0)],
            }],
            ..Plot::default()
        };
        let svg = plot.svg();
        assert!(svg.contains("a&lt;b") && !svg.contains("<script>"));
        assert_eq!(svg.matches("<rect").count(), 3);
        assert_eq!(
            (label(1500.0), label(0.25), label(2e9)),
            ("1.5k".into(), "0.25".into(), "2G".into())
        );
    }
}
