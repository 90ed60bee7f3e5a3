//! `docs/cli.md` against the program.

use crate::onebit;
use std::collections::BTreeSet;

const COMMANDS: [&str; 7] = [
    "run",
    "chat",
    "score",
    "info",
    "convert",
    "tokenize",
    "completions",
];

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
    std::fs::read_to_string(path).unwrap()
}

/// The long and short flags in `text`, as words that begin with a dash.
fn flags(text: &str) -> BTreeSet<String> {
    let part_of_flag = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let words = text.split(|c: char| !part_of_flag(c));
    let is_flag = |word: &&str| {
        let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
        name.is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()))
    };
    words.filter(is_flag).map(str::to_owned).collect()
}

/// The flags that the help of a command defines: those that begin its lines.
fn defined(command: &str) -> BTreeSet<String> {
    let help = onebit(&["help", command]).ok();
    let lines = help.lines().map(str::trim_start);
    let heads = lines.filter(|line| line.starts_with('-'));
    let head = |line: &str| line.split("  ").next().unwrap_or(line).to_owned();
    heads.flat_map(|line| flags(&head(line))).collect()
}

/// What the page says of flags of a command: its own section, those that several commands share, and the beginning.
fn documented(page: &str, command: &str) -> BTreeSet<String> {
    let engine = ["run", "chat", "score"].contains(&command);
    let sections = page.split("\n## ").flat_map(|part| part.split("\n### "));
    let of_command = sections.enumerate().filter(|(i, text)| {
        let title = text.lines().next().unwrap_or_default();
        let shared = title.starts_with("Sampling") || title.starts_with("Engine");
        *i == 0 || title == "MODEL" || title == command || engine && shared
    });
    of_command.flat_map(|(_, text)| flags(text)).collect()
}

#[test]
fn every_flag_is_documented_with_its_command() {
    let page = page();
    for command in COMMANDS {
        let defined = defined(command);
        assert!(defined.contains("--help"), "{command}: {defined:?}");
        let known = documented(&page, command);
        let known = |flag: &&String| match flag.as_str() {
            "--help" | "--version" | "--verbose" => true,
            flag => known.contains(flag),
        };
        let missing: Vec<_> = defined.iter().filter(|flag| !known(flag)).collect();
        assert!(missing.is_empty(), "docs/cli.md, {command}: {missing:?}");
    }
}

#[test]
fn no_flag_is_documented_that_does_not_exist() {
    let mut known: BTreeSet<String> = COMMANDS.iter().flat_map(|c| defined(c)).collect();
    let other_names = [
        "--num_threads",
        "--kv-cache-dtype",
        "--cache-type-k",
        "--cache-type-v",
        "--kv-sinks",
        "--mmap",
        "--no-mmap",
        "--mlock",
        "--memory_limit_mb",
        "--for",
        "-vv",
    ];
    known.extend(other_names.map(str::to_owned));
    let unknown: Vec<_> = flags(&page()).difference(&known).cloned().collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// The fields of objects that the program prints.
fn fields(value: &serde_json::Value, of: &mut BTreeSet<String>) {
    if let Some(object) = value.as_object() {
        of.extend(object.keys().cloned());
    }
}

#[test]
fn every_field_is_documented() {
    let mut found = BTreeSet::new();
    let run = onebit(&["run", "-p", "One", "-n", "2", "--json"]).json();
    let score = onebit(&["score", "--text", "One two.", "--json"]).json();
    let info = onebit(&["info", "--check", "--json"]).json();
    let shape = onebit(&["info", "--shape", "xl", "--json"]).json();
    for value in [
        &run,
        &run["timings"],
        &run["weights"],
        &run["memory"],
        &run["memory"]["phases"][0],
        &run["memory"]["cgroup"],
        &score,
        &score["memory"],
        &info,
        &info["kernels"],
        &info["memory"],
        &info["memory"]["plan"]["items"][0],
        &info["memory"]["limit"],
        &shape,
        &shape["plans"][0],
    ] {
        fields(value, &mut found);
    }
    assert!(found.contains("decode_ms_p95") && found.contains("largest_contexts"));
    let page = page();
    let is_missing = |field: &&String| {
        let ticked = format!("`{field}`");
        !page.contains(&ticked) && !page.contains(&format!("`{field}."))
    };
    let missing: Vec<_> = found.iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
