//! `cargo xtask bench compare`: what became worse between two reports, beyond their noise.

use super::text::Cells;
use clap::Args;
use onebit::exit::{self, Code};
use onebit::stdout;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Flags of `cargo xtask bench compare`.
#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// The report of `--json` before
    a: PathBuf,
    /// The report after
    b: PathBuf,
    /// Least change of a time or rate that counts, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = percent)]
    floor: f64,
    /// Least change of a size that counts, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = percent)]
    floor_bytes: f64,
    /// How many times the spread of a series a change must be
    #[arg(short, long, value_name = "K", default_value_t = 1.5, value_parser = percent)]
    k: f64,
    /// Print every change, not only those beyond the limit
    #[arg(long)]
    all: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.parse().ok();
    number
        .filter(|x: &f64| x.is_finite() && *x >= 0.0)
        .ok_or_else(|| "not a number from 0 on".to_owned())
}

/// Least changes that count, as shares, and the factor of the noise.
#[derive(Clone, Copy, Debug)]
struct Limits {
    floor: f64,
    floor_bytes: f64,
    k: f64,
}

/// One figure of one row in both reports.
#[derive(Debug, PartialEq)]
struct Change {
    row: String,
    figure: String,
    before: f64,
    after: f64,
    /// How much worse it is, as a share of what it was; negative where it is better.
    worse: f64,
    /// What it may be worse.
    limit: f64,
}

/// Prints the changes; fails where one is for the worse beyond its limit.
pub(super) fn run(args: &CompareArgs) -> anyhow::Result<Code> {
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    for difference in differences(&a, &b) {
        stdout::line(&difference)?;
    }
    let limits = Limits {
        floor: args.floor / 100.0,
        floor_bytes: args.floor_bytes / 100.0,
        k: args.k,
    };
    let (changes, missing) = compare(&a, &b, limits);
    if changes.is_empty() && missing.is_empty() {
        return Err(exit::request("the reports have no figure in common"));
    }
    let beyond = |change: &&Change| change.worse.abs() > change.limit;
    let shown: Vec<&Change> = changes.iter().filter(|c| args.all || beyond(c)).collect();
    if !shown.is_empty() {
        stdout::print(&table(&shown).aligned())?;
    }
    for name in &missing {
        stdout::line(&format!("missing: {name}"))?;
    }
    let worse = changes
        .iter()
        .filter(|change| change.is_regression())
        .count();
    stdout::line(&format!(
        "{} figures compared, {worse} worse beyond max(floor, {} x noise), {} missing",
        changes.len(),
        limits.k,
        missing.len()
    ))?;
    Ok(match worse + missing.len() {
        0 => Code::Success,
        _ => Code::Failure,
    })
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let name = path.display();
    let text =
        std::fs::read(path).map_err(|e| exit::request(format!("cannot read {name}: {e}")))?;
    let json: Value = serde_json::from_slice(&text)
        .map_err(|e| exit::request(format!("{name} is not JSON: {e}")))?;
    match json["rows"].is_array() && json["bench"] == 1 {
        true => Ok(json),
        false => Err(exit::request(format!(
            "{name} is no report of `cargo xtask bench --json`"
        ))),
    }
}

/// What makes the reports less comparable.
fn differences(a: &Value, b: &Value) -> Vec<String> {
    let machine = ["cpu", "cpus", "governor"].map(|key| ("machine", key));
    let settings = [
        "threads", "kernels", "kv", "ctx", "head", "prompt", "tokens",
    ];
    machine
        .into_iter()
        .chain(settings.map(|key| ("settings", key)))
        .filter(|(part, key)| a[part][key] != b[part][key])
        .map(|(part, key)| format!("note: other {key}: {} and {}", a[part][key], b[part][key]))
        .collect()
}

/// All figures of rows in both reports, and rows and figures that only the first has.
fn compare(a: &Value, b: &Value, limits: Limits) -> (Vec<Change>, Vec<String>) {
    let (mut changes, mut missing) = (Vec::new(), Vec::new());
    let rows = |report: &Value| report["rows"].as_array().cloned().unwrap_or_default();
    let others = rows(b);
    for row in rows(a) {
        let name = row["name"].as_str().unwrap_or_default();
        let Some(figures) = row["figures"].as_object().filter(|all| !all.is_empty()) else {
            continue;
        };
        let other = others.iter().find(|other| other["name"] == row["name"]);
        let other = other.and_then(|other| other["figures"].as_object());
        let Some(other) = other.filter(|all| !all.is_empty()) else {
            missing.push(name.to_owned());
            continue;
        };
        for (figure, before) in figures {
            match other.get(figure) {
                Some(after) => changes.extend(Change::of(name, figure, before, after, limits)),
                None => missing.push(format!("{name}: {figure}")),
            }
        }
    }
    (changes, missing)
}

/// Whether more of it is better.
fn more_is_better(figure: &str) -> bool {
    figure.contains("tok_s")
}

/// Whether it is a number of bytes, which noise hardly moves.
fn is_bytes(figure: &str) -> bool {
    figure.contains("rss") || figure.contains("bytes")
}

impl Change {
    /// `None` where there is nothing to compare.
    fn of(row: &str, figure: &str, before: &Value, after: &Value, limits: Limits) -> Option<Self> {
        let median = |value: &Value| value["median"].as_f64();
        let (was, is) = (median(before)?, median(after)?);
        if was == 0.0 {
            return None;
        }
        let noise = |value: &Value| {
            let ends = (value["max"].as_f64()?, value["min"].as_f64()?);
            Some((ends.0 - ends.1) / median(value)?.abs())
        };
        let noise = noise(before)?.max(noise(after)?);
        let floor = match is_bytes(figure) {
            true => limits.floor_bytes,
            false => limits.floor,
        };
        // A rate that halves and a time that doubles are the same loss.
        let worse = match more_is_better(figure) {
            true => was / is - 1.0,
            false => is / was - 1.0,
        };
        Some(Self {
            row: row.to_owned(),
            figure: figure.to_owned(),
            before: was,
            after: is,
            worse,
            limit: floor.max(limits.k * noise),
        })
    }

    fn is_regression(&self) -> bool {
        self.worse > self.limit
    }
}

fn table(changes: &[&Change]) -> Cells {
    let titles = ["row", "figure", "before", "after", "worse by", "limit", ""];
    let mut cells = Cells(vec![titles.map(str::to_owned).to_vec()]);
    for change in changes {
        let verdict = match change.worse {
            worse if worse > change.limit => "WORSE",
            worse if -worse > change.limit => "better",
            _ => "",
        };
        cells.0.push(vec![
            change.row.clone(),
            change.figure.clone(),
            super::text::short(change.before),
            super::text::short(change.after),
            format!("{:+.1} %", 100.0 * change.worse),
            format!("{:.1} %", 100.0 * change.limit),
            verdict.to_owned(),
        ]);
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LIMITS: Limits = Limits {
        floor: 0.05,
        floor_bytes: 0.01,
        k: 1.5,
    };

    fn report(figures: Value) -> Value {
        json!({"bench": 1, "rows": [{"name": "x", "figures": figures}]})
    }

    fn figure(median: f64, min: f64, max: f64) -> Value {
        json!({"median": median, "min": min, "max": max, "n": 3})
    }

    fn change(name: &str, before: Value, after: Value) -> Change {
        Change::of("x", name, &before, &after, LIMITS).unwrap()
    }

    #[test]
    fn the_floor_holds_where_there_is_no_noise() {
        let still = |x| figure(x, x, x);
        assert!(change("decode_tok_s", still(100.0), still(94.0)).is_regression());
        assert!(!change("decode_tok_s", still(100.0), still(96.0)).is_regression());
        assert!(!change("decode_tok_s", still(100.0), still(200.0)).is_regression());
        assert!(change("decode_ms_p50", still(100.0), still(106.0)).is_regression());
        assert!(!change("decode_ms_p50", still(100.0), still(50.0)).is_regression());
        assert!(change("peak_rss", still(100.0), still(102.0)).is_regression());
    }

    #[test]
    fn noise_widens_the_limit_whichever_report_has_it() {
        let (noisy, still) = (figure(100.0, 90.0, 110.0), figure(80.0, 80.0, 80.0));
        // 25 % worse, within 1.5 x 20 %.
        assert!(!change("decode_tok_s", noisy.clone(), still.clone()).is_regression());
        assert_eq!(change("decode_tok_s", noisy, still).limit, 1.5 * 0.2);
        let (still, noisy) = (figure(100.0, 100.0, 100.0), figure(120.0, 100.0, 124.0));
        assert!(!change("ttft_ms", still, noisy).is_regression());
    }

    #[test]
    fn what_is_missing_counts_and_what_is_new_does_not() {
        let a = report(json!({"ttft_ms": figure(1.0, 1.0, 1.0), "gone": figure(1.0, 1.0, 1.0)}));
        let b = report(json!({"ttft_ms": figure(1.0, 1.0, 1.0), "new": figure(1.0, 1.0, 1.0)}));
        let (changes, missing) = compare(&a, &b, LIMITS);
        assert_eq!((changes.len(), missing), (1, vec!["x: gone".to_owned()]));
        let (_, missing) = compare(&a, &report(json!({})), LIMITS);
        assert_eq!(missing, ["x"]);
    }

    #[test]
    fn other_machines_are_named() {
        let a = json!({"machine": {"cpu": "a"}, "settings": {"kv": "f16"}});
        let b = json!({"machine": {"cpu": "b"}, "settings": {"kv": "f16"}});
        assert_eq!(differences(&a, &b), ["note: other cpu: \"a\" and \"b\""]);
    }

    #[test]
    fn files_that_are_no_reports_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in ["", "{}", "{\"rows\": 5, \"bench\": 1}"] {
            std::fs::write(file.path(), text).unwrap();
            let error = read(file.path()).unwrap_err();
            assert_eq!(onebit::code_of(&error), Code::Request, "{text}: {error}");
        }
        assert!(read(Path::new("/nonexistent")).is_err());
    }
}
