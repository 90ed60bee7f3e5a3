//! The report as one HTML file that needs no other.

use super::figure::median;
use super::plot::{Plot, Series, Style, escape};
use super::report::Report;
use super::table::Row;
use onebit_model::ModelSpec;
use onebit_runtime::{ShapeTensor, TensorShape};

/// Bars of a histogram.
const BINS: usize = 40;
const STYLE: &str = "body{font:14px sans-serif;margin:2em;max-width:1200px}table{border-collapse:collapse}\
td,th{border:1px solid #ccc;padding:3px 7px;text-align:right}td:first-child,th:first-child{text-align:left}\
.plots{display:flex;flex-wrap:wrap;gap:1em}svg{font:11px sans-serif}.t{font-weight:bold;font-size:13px}\
.g{stroke:#e5e5e5}.m{stroke:#888;stroke-dasharray:4 3}";

/// The page.
pub(super) fn page(report: &Report) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>onebit bench</title><style>{STYLE}</style>\
         <h1>onebit bench</h1><p>{}</p>",
        escape(report.title())
    );
    page += &table(report);
    page += "<ul>";
    for line in report.notes() {
        page += &format!("<li>{}</li>", escape(&line));
    }
    page += "</ul>";
    let run: Vec<&Row> = report
        .rows
        .iter()
        .filter(|row| row.facts.is_some())
        .collect();
    let mut plots = vec![roofline(report, &run)];
    if !report.depths.is_empty() {
        plots.push(depths(report, &run));
    }
    plots.extend(
        run.iter()
            .filter(|row| !row.latencies.is_empty())
            .map(|row| latencies(row)),
    );
    plots.extend(
        run.iter()
            .filter(|row| !row.timeline.is_empty())
            .map(|row| memory(row)),
    );
    page += "<div class=\"plots\">";
    for plot in plots {
        page += &format!("<div>{}</div>", plot.svg());
    }
    page + "</div></html>\n"
}

fn table(report: &Report) -> String {
    let cells = report.cells();
    let columns = cells.0.first().map_or(0, Vec::len);
    let mut text = "<table>".to_owned();
    for (index, row) in cells.0.iter().enumerate() {
        let tag = if index == 0 { "th" } else { "td" };
        text += "<tr>";
        for (column, cell) in row.iter().enumerate() {
            let last = column + 1 == row.len() && row.len() < columns;
            let span = if last {
                format!(" colspan=\"{}\"", columns - column)
            } else {
                String::new()
            };
            text += &format!("<{tag}{span}>{}</{tag}>", escape(cell));
        }
        text += "</tr>";
    }
    text + "</table>"
}

/// How many tokens took how long.
fn latencies(row: &Row) -> Plot {
    let (low, high) = row
        .latencies
        .iter()
        .fold((f64::INFINITY, 0f64), |(low, high), ms| {
            (low.min(*ms), high.max(*ms))
        });
    let width = ((high - low) / BINS as f64).max(1e-3);
    let mut counts = vec![0.0; BINS];
    for ms in &row.latencies {
        counts[(((ms - low) / width) as usize).min(BINS - 1)] += 1.0;
    }
    let place = |bin: usize| low + bin as f64 * width;
    Plot {
        title: format!("{}: latency of a token", row.name),
        x: "ms",
        y: "tokens",
        series: vec![Series {
            name: format!("{} tokens of all repetitions", row.latencies.len()),
            style: Style::Bars(width),
            points: counts
                .into_iter()
                .enumerate()
                .map(|(bin, count)| (place(bin), count))
                .collect(),
        }],
        ..Plot::default()
    }
}

/// Decoding speed against the tokens before.
fn depths(report: &Report, rows: &[&Row]) -> Plot {
    let series = rows
        .iter()
        .filter(|row| row.peer.is_none())
        .map(|row| Series {
            name: row.name.clone(),
            style: Style::Line,
            points: report
                .depths
                .iter()
                .filter_map(|depth| {
                    let speed = median(&row.figures, &format!("decode_tok_s@{depth}"))?;
                    Some((*depth as f64, speed))
                })
                .collect(),
        });
    Plot {
        title: "decoding against depth".into(),
        x: "tokens before",
        y: "tok/s",
        series: series.collect(),
        ..Plot::default()
    }
}

/// Memory over time with the ends of the phases.
fn memory(row: &Row) -> Plot {
    let series = |name: &str, bytes: &dyn Fn(&super::measure::Sample) -> u64| Series {
        name: name.into(),
        style: Style::Line,
        points: row
            .timeline
            .iter()
            .map(|sample| (sample.at, bytes(sample) as f64))
            .collect(),
    };
    Plot {
        title: format!("{}: resident memory", row.name),
        x: "seconds since the start; phases end at the dashed lines",
        y: "bytes",
        series: vec![
            series("anonymous + file", &|sample| sample.anon + sample.file),
            series("file", &|sample| sample.file),
            series("anonymous", &|sample| sample.anon),
        ],
        marks: row
            .phases
            .iter()
            .map(|(name, end)| (*end, name.clone()))
            .collect(),
        ..Plot::default()
    }
}

/// Operations per second against operations per byte of weights, below what memory and multipliers allow.
fn roofline(report: &Report, rows: &[&Row]) -> Plot {
    let limit = |name: &str| report.limits[name].as_f64().unwrap_or(0.0);
    let read = limit("read_bytes_per_second");
    let multiply = limit("int8_operations_per_second").max(limit("ternary_operations_per_second"));
    let mut series = Vec::new();
    if read > 0.0 && multiply > 0.0 {
        let ridge = multiply / read;
        series.push(Series {
            name: format!(
                "limits of this run: reading {:.1} GB/s, int8 products {:.0} GOPS",
                read / 1e9,
                multiply / 1e9
            ),
            style: Style::Line,
            points: vec![(0.1, 0.1 * read), (ridge, multiply), (1e4, multiply)],
        });
    }
    let prompt = report.prompt() as f64;
    for row in rows {
        let value = |name: &str| median(&row.figures, name);
        let spec = row.facts.as_ref().and_then(|facts| facts.spec.as_ref());
        let (Some(spec), Some(bytes)) = (spec, value("weight_bytes_per_token")) else {
            continue;
        };
        let operations = 2.0 * products(spec);
        // The batches of a prompt read the weights once each.
        let batch = prompt.min(128.0);
        let points = [("decode_tok_s", 1.0), ("prefill_tok_s", batch)];
        series.push(Series {
            name: format!("{}: decoding, prompt", row.name),
            style: Style::Points,
            points: points
                .into_iter()
                .filter_map(|(speed, tokens)| {
                    Some((tokens * operations / bytes, value(speed)? * operations))
                })
                .collect(),
        });
    }
    Plot {
        title: "roofline".into(),
        x: "operations per byte of weights",
        y: "operations per second",
        log: true,
        series,
        ..Plot::default()
    }
}

/// Products of a token with the matrices of layers and head.
fn products(spec: &ModelSpec) -> f64 {
    let tensors = ShapeTensor::all(spec);
    let counts = tensors.iter().map(|tensor| match tensor.shape {
        TensorShape::Matrix { rows, cols } if tensor.name != "embed" || spec.tied_head => {
            rows as f64 * cols as f64
        }
        _ => 0.0,
    });
    counts.sum()
}
