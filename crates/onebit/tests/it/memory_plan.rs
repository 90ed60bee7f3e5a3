//! The plan of memory, beside what is measured and what is in the file.

use crate::{onebit, synthetic};
use onebit_format::Layout;
use onebit_model::{Activations, Model};
use onebit_runtime::{MemoryParts, SessionOptions};
use serde_json::Value;

/// `count` ids of few different tokens.
#[cfg(target_os = "linux")]
fn ids(count: usize) -> String {
    let ids: Vec<String> = (0..count).map(|i| (100 + i % 16).to_string()).collect();
    ids.join(",")
}

/// Runs the program in a process that a small one starts, with its context filled, and compares.
#[cfg(target_os = "linux")]
fn compare(model: Option<&str>, context: usize, more: &[&str]) {
    use std::process::Command;

    let (tokens, size) = (ids(context - 1), context.to_string());
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "\"$@\"; exit $?",
        "sh",
        env!("CARGO_BIN_EXE_onebit"),
        "run",
    ]);
    command.args(model).args(["--ids", &tokens, "-c", &size]);
    command.args(["-n", "2", "--ignore-eos", "--temp", "0", "--json"]);
    let done: crate::Done = command.args(more).output().unwrap().into();
    let memory = &done.json()["memory"];
    let number = |key: &str| memory[key].as_f64().unwrap();
    let (planned, peak) = (number("planned"), number("peak"));
    let tolerance = (0.03 * peak).max(8e6);
    assert!((planned - peak).abs() <= tolerance, "{more:?}: {memory}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_plan_is_what_is_measured() {
    compare(None, 256, &["-t", "1"]);
    compare(None, 512, &["-t", "2", "-b", "32", "--kv", "q8"]);
    let (folder, shape) = (tempfile::tempdir().unwrap(), synthetic::shape());
    for linear in [Layout::T2, Layout::T5] {
        let encoding = shape.encoding(linear, shape.keep);
        let path = synthetic::write(folder.path(), &shape, &encoding);
        let path = path.to_str();
        compare(path, 2048, &["-t", "2"]);
        compare(path, 1024, &["-t", "2", "-b", "512"]);
        compare(path, 1024, &["-t", "1", "-b", "64", "--kv", "f32"]);
        compare(path, 64, &["-t", "2", "-b", "64", "--load", "heap"]);
        std::fs::remove_file(path.unwrap()).unwrap();
    }
}

#[test]
fn shapes_and_their_files_have_the_same_plan() {
    let folder = tempfile::tempdir().unwrap();
    let mut shape = synthetic::shape();
    let options = SessionOptions::new(&shape.spec);
    for (linear, tied, by_columns, grouped) in [
        (Layout::T2, true, false, false),
        (Layout::T2, false, true, false),
        (Layout::T2, false, false, true),
        (Layout::T5, false, false, false),
        (Layout::B1, true, false, true),
        (Layout::B1, false, false, false),
    ] {
        // Scales of the last band's rows that are not there count too.
        shape.grouped = grouped;
        shape.keep = if linear == Layout::B1 {
            Layout::B1
        } else {
            Layout::BF16
        };
        shape.spec.tied_head = tied;
        let mut encoding = shape.encoding(linear, shape.keep);
        encoding.by_columns = by_columns;
        let path = synthetic::write(folder.path(), &shape, &encoding);
        let model = Model::open(&path).unwrap();
        let model = model.with_activations(Activations::Auto).unwrap();
        let file = MemoryParts::of_model(&model).plan(&options).unwrap();
        let shape = MemoryParts::of_shape(&shape, &encoding).unwrap();
        let shape = shape.plan(&options).unwrap();
        for name in ["layers", "embeddings", "head", "kv cache", "scratch"] {
            assert_eq!(shape.bytes(name), file.bytes(name), "{name}");
        }
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn shapes_are_compared_as_a_table() {
    let args = ["info", "--shape", "2b4t", "--compare", "-c", "4096"];
    let text = onebit(&args).ok();
    for part in [
        "FP16",
        "4-bit",
        "ternary t2",
        "binary",
        "activations",
        "kv cache",
    ] {
        assert!(text.contains(part), "`{part}` is not in {text}");
    }
    let table = onebit(&[&args[..], &["--json"]].concat()).json();
    let plans = table["plans"].as_array().unwrap();
    let of = |name: &str| {
        let plan = plans.iter().find(|plan| plan["name"] == name).unwrap();
        plan["weight_bytes"].as_u64().unwrap()
    };
    // 2.08 G weights in the layers, 0.33 G in the tied table.
    let layers = 30 * (2560 * (2560 * 2 + 640 * 2) + 3 * 2560 * 6912);
    let weights: u64 = layers + 2560 * 128_256;
    let near = |bytes: u64, expected: u64| bytes.abs_diff(expected) * 100 < expected;
    assert!(near(of("FP16"), 2 * weights));
    assert!(near(of("ternary t2"), layers / 4 + 2 * 2560 * 128_256));
    assert!(of("ternary dense") < of("ternary t2") && of("binary") < of("ternary dense"));
    let kv = |plan: &Value| {
        let items = plan["plan"]["items"].as_array().unwrap();
        let item = items.iter().find(|item| item["name"] == "kv cache");
        item.unwrap()["bytes"].as_u64().unwrap()
    };
    assert!(
        plans
            .iter()
            .all(|plan| kv(plan) == 30 * 2 * 5 * 128 * 2 * 4096)
    );
    assert_eq!(
        onebit(&["info", "--shape", "bonsai-8b", "--json"]).json()["shape"],
        "bonsai-8b"
    );
    onebit(&["info", "--shape", "7b"]).refused(2, &["7b", "bonsai-8b"]);
    onebit(&["info", "--compare"]).refused(2, &["--shape"]);
}

#[test]
fn info_says_which_contexts_fit() {
    let args = ["info", "--json", "--memory-limit", "100M"];
    let memory = &onebit(&args).json()["memory"];
    assert_eq!(memory["limit"]["bytes"], 100_000_000);
    let largest = |kind: &str| memory["largest_contexts"][kind].as_u64().unwrap();
    assert!(largest("f32") < largest("f16") && largest("f16") < largest("q8"));
    let context = largest("q8").to_string();
    let fits = onebit(&[
        "run",
        "-p",
        "Once",
        "-n",
        "1",
        "-c",
        &context,
        "--kv",
        "q8",
        "--memory-limit",
        "100M",
    ]);
    fits.ok();
    let none = onebit(&["info", "--json", "--memory-limit", "1M"]).json();
    assert!(none["memory"]["largest_contexts"]["f16"].is_null());
}
