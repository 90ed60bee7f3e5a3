//! The machine of a measurement, and what else it did meanwhile, as every report states them.

use super::models::sha256;
use super::report::NOISY_LOAD;
use super::system::{self, Monitor};
use crate::process::root;
use onebit::stdout;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};

/// Of the CPUs, the system, the commit and the program (by its SHA-256), with `seen`, what a [`Monitor`] ends with.
pub(super) fn describe(seen: Value, onebit: Option<&Path>) -> Value {
    json!({
        "cpu": system::cpu_model(),
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "os": system::os(),
        "governor": system::governors(),
        "seen": seen,
        "commit": commit(),
        "onebit": onebit.and_then(|program| sha256(program).ok()),
    })
}

/// The same at the end of what `monitor` watched.
pub(super) fn watched(monitor: Monitor, onebit: Option<&Path>) -> Value {
    describe(monitor.finish(), onebit)
}

/// CPU, system and what runs on them, in one line; `ran` is kernels and threads.
pub(super) fn line(machine: &Value, ran: &str) -> String {
    format!(
        "{}, {} CPUs, {}; {ran}; governor {}; MHz {}; degrees Celsius {}",
        text(&machine["cpu"]),
        machine["cpus"],
        text(&machine["os"]),
        text(&machine["governor"]),
        range(machine, "mhz"),
        range(machine, "celsius"),
    )
}

/// CPUs that others kept busy.
pub(super) fn load(machine: &Value) -> String {
    match other_load(machine) {
        Some(load) => format!("load by others {load:.2} CPUs"),
        None => "load by others not known".to_owned(),
    }
}

/// The commit.
pub(super) fn revision(machine: &Value) -> String {
    format!("commit {}", text(&machine["commit"]))
}

/// Prints what stands below the table of a measurement whose rows have no load of their own; `ran` is kernels and threads.
pub(super) fn print(machine: &Value, ran: &str) -> anyhow::Result<()> {
    for line in notes(machine, ran) {
        stdout::line(&line)?;
    }
    Ok(())
}

fn notes(machine: &Value, ran: &str) -> Vec<String> {
    let mut lines = vec![
        line(machine, ran),
        format!("{}; {}", load(machine), revision(machine)),
    ];
    if let Some(load) = other_load(machine).filter(|load| *load > NOISY_LOAD) {
        lines.push(format!(
            "noisy: others kept {load:.2} CPUs busy (limit {NOISY_LOAD})"
        ));
    }
    lines
}

/// Kernels and threads that `onebit run --json` reports.
pub(super) fn ran(json: &Value) -> String {
    let (kernels, threads) = (text(&json["kernels"]), text(&json["threads"]));
    format!("kernels {kernels}, {threads} threads")
}

/// A file by name and SHA-256, for JSON.
pub(super) fn file(path: &Path) -> Value {
    json!({
        "name": path.file_name().unwrap_or_default().to_string_lossy(),
        "sha256": sha256(path).ok(),
    })
}

fn other_load(machine: &Value) -> Option<f64> {
    machine["seen"]["other_load_cpus"].as_f64()
}

/// A fact as text.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "not known".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn range(machine: &Value, key: &str) -> String {
    let seen = &machine["seen"][key];
    match (seen["min"].as_f64(), seen["max"].as_f64()) {
        (Some(min), Some(max)) => format!("{min:.0} to {max:.0}"),
        _ => "not known".to_owned(),
    }
}

/// The commit that is checked out, and whether it was changed; `None` outside a repository.
fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.args(args).current_dir(root()).stderr(Stdio::null());
        let output = command.output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    };
    let hash = git(&["rev-parse", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(match changed.is_empty() {
        true => hash,
        false => format!("{hash}, changed"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_said_where_there_was_some() {
        let machine = |load: Value| json!({"cpu": "a", "cpus": 2, "os": "linux", "commit": "c", "seen": {"other_load_cpus": load}});
        let quiet = notes(&machine(json!(0.05)), "kernels avx2, 2 threads");
        assert_eq!(
            quiet[0],
            "a, 2 CPUs, linux; kernels avx2, 2 threads; governor not known; MHz not known; degrees Celsius not known"
        );
        assert_eq!(quiet[1..], ["load by others 0.05 CPUs; commit c"]);
        let noisy = notes(&machine(json!(0.5)), "");
        assert_eq!(noisy[2], "noisy: others kept 0.50 CPUs busy (limit 0.1)");
        assert_eq!(notes(&machine(Value::Null), "").len(), 2);
    }
}
