//! `cargo xtask bench` with programs that stand for onebit and llama-bench.
#![cfg(target_os = "linux")]

use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Prints what `onebit run --json-lines` prints.
const ONEBIT: &str = r#"#!/bin/sh
for i in 1 2 3 4; do echo '{"id":5,"text":"x"}'; sleep 0.01; done
echo '{"ids":[5,5,5,5],"timings":{"load_s":0.5,"ttft_s":0.25,"prefill_tok_s":400.0,"decode_tok_s":100.0,"decode_ms_p50":10.0,"decode_ms_p95":11.0,"decode_ms_p99":12.0},"memory":{"planned":1000,"peak":900000000,"anon":300000000,"file":600000000,"phases":[]},"weights":{"bytes_per_token":1000,"skipped":0.25},"kernels":"none","threads":3}'
"#;

/// Prints what `llama-bench -o json` prints, after a line that some builds put first. Its memory is looked at from outside,
/// so it lasts long enough for that on a busy machine.
const LLAMA_BENCH: &str = r#"#!/bin/sh
[ "$1" = -m ] || exit 9
sleep 0.5
echo 'ggml_init: found 1 device'
cat <<'END'
[
  {
    "build_commit": "8337e4cd",
    "cuda": false,
    "model_filename": "x.gguf",
    "model_type": "bitnet 2B IQ2_BN",
    "model_size": 1000,
    "n_prompt": 128,
    "n_gen": 0,
    "avg_ns": 1000,
    "avg_ts": 200.0,
    "stddev_ts": 0.0,
    "samples_ns": [ 1 ],
    "samples_ts": [ 1 ]
  },
  {
    "model_type": "bitnet 2B IQ2_BN",
    "n_prompt": 0,
    "n_gen": 64,
    "avg_ts": 80.0,
    "samples_ns": [ 1 ],
    "samples_ts": [ 1 ]
  }
]
END
"#;

fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/demo/demo.onebit")
}

/// `cargo xtask bench` on the demo model with another program for `onebit`.
fn bench(onebit: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.arg("bench").arg("--model").arg(demo());
    command.arg("--onebit").arg(onebit);
    command
}

#[test]
fn a_report_has_rows_figures_and_pairs() {
    let folder = tempfile::tempdir().unwrap();
    let onebit = script(folder.path(), "onebit", ONEBIT);
    let peer = script(folder.path(), "llama-bench", LLAMA_BENCH);
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("x.gguf"), "not read").unwrap();
    let output = bench(&onebit)
        .args(["--repeat", "2", "--depth", "7"])
        .arg("--peer")
        .arg(format!(
            "ik@demo={}:{}",
            peer.display(),
            file("x.gguf").display()
        ))
        .args(["--batch", "1,2", "--prompt", "8", "--tokens", "4"])
        .arg("--json")
        .arg(file("a.json"))
        .arg("--html")
        .arg(file("a.html"))
        .arg("--markdown")
        .arg(file("a.md"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.starts_with("weights of the files given\n"), "{text}");
    let report: Value = serde_json::from_slice(&std::fs::read(file("a.json")).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(
        (&rows[0]["name"], &rows[1]["name"]),
        (&"demo".into(), &"ik".into())
    );
    let figure = &rows[0]["figures"]["decode_tok_s"];
    let expected = serde_json::json!({"median": 100.0, "min": 100.0, "max": 100.0, "n": 2});
    assert_eq!(*figure, expected);
    assert_eq!(rows[0]["figures"]["decode_tok_s@7"], expected);
    assert_eq!(
        rows[0]["figures"]["weight_bytes_per_token"]["median"],
        750.0
    );
    assert_eq!(rows[0]["figures"]["peak_rss"]["median"], 9e8);
    // The batches are real.
    assert!(
        rows[0]["figures"]["batch2_tok_s"]["median"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    assert_eq!(rows[1]["format"], "bitnet 2B IQ2_BN");
    assert!(rows[1]["figures"]["peak_rss"]["median"].as_f64().unwrap() > 1e5);
    assert_eq!(report["pairs"][0]["decode"]["median"], 1.25);
    assert_eq!(report["pairs"][0]["prefill"]["median"], 2.0);
    assert!(report["limits"]["read_bytes_per_second"].as_f64().unwrap() > 0.0);
    let page = std::fs::read_to_string(file("a.html")).unwrap();
    assert!(page.matches("<svg").count() >= 4);
    for outside in [
        "http:", "https:", "src=", "<link", "<script", "@import", "NaN",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(
        std::fs::read_to_string(file("a.md"))
            .unwrap()
            .contains("| demo |")
    );

    // A file whose shape is not known is paired only where that is said.
    let unpaired = bench(&onebit)
        .arg("--peer")
        .arg(format!(
            "ik={}:{}",
            peer.display(),
            file("x.gguf").display()
        ))
        .output()
        .unwrap();
    assert_eq!(unpaired.status.code(), Some(2));
    let words = String::from_utf8_lossy(&unpaired.stderr);
    assert!(words.contains("no GGUF file; ik@ROW"), "{words}");

    // Compared with itself, and with a slower copy.
    let compare = |b: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(["bench", "compare"])
            .arg(file("a.json"))
            .arg(b);
        command.output().unwrap()
    };
    assert_eq!(compare(&file("a.json")).status.code(), Some(0));
    let mut slower = report.clone();
    let slow = serde_json::json!({"median": 50.0, "min": 50.0, "max": 50.0, "n": 2});
    slower["rows"][0]["figures"]["decode_tok_s"] = slow;
    std::fs::write(file("b.json"), slower.to_string()).unwrap();
    let output = compare(&file("b.json"));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("WORSE"));
    assert_eq!(compare(&file("a.md")).status.code(), Some(2));
}

#[test]
fn a_program_that_fails_is_a_row_with_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let onebit = script(
        folder.path(),
        "onebit",
        "#!/bin/sh\necho no weights >&2; exit 3\n",
    );
    let output = bench(&onebit).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("no weights"), "{text}");
}

#[test]
fn loading_and_threads_have_a_row_for_each_case() {
    let folder = tempfile::tempdir().unwrap();
    let onebit = script(folder.path(), "onebit", ONEBIT);
    let pinning = script(
        folder.path(),
        "pinning",
        &ONEBIT.replace("for i", "[ \"$2\" = --help ] && echo --cpus LIST; for i"),
    );
    // A file of its own: its pages are dropped.
    let model = folder.path().join("demo.onebit");
    std::fs::copy(demo(), &model).unwrap();
    let rows = |what: &[&str], program: &Path| -> Vec<String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.arg("bench").args(what).arg(&model);
        command
            .args(["--repeat", "2", "--json", "--onebit"])
            .arg(program);
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_states_machine(&json);
        assert_eq!(json["file"]["name"], "demo.onebit");
        assert_eq!(json["file"]["sha256"].as_str().unwrap().len(), 64);
        let rows = json["rows"].as_array().unwrap().iter();
        rows.map(|row| {
            let figures = row["figures"].as_object().unwrap();
            assert!(figures.len() >= 4 && figures.values().all(|figure| figure["n"] == 2));
            row["name"].as_str().unwrap().to_owned()
        })
        .collect()
    };
    assert_eq!(
        rows(&["load"], &onebit),
        ["cold mmap", "warm mmap", "cold heap", "warm heap"]
    );
    let plain = rows(&["threads", "--most", "2"], &onebit);
    assert_eq!(plain, ["1 threads", "2 threads"]);
    let beside = rows(&["threads", "--most", "1", "--noise", "1"], &onebit);
    assert_eq!(beside, ["1 threads", "1 threads beside 1"]);
    let pinned = rows(&["threads", "--most", "1"], &pinning);
    assert_eq!(pinned.len(), 2);
    assert!(pinned[1].starts_with("1 threads on "), "{pinned:?}");
}

/// That a report says where it was measured, and beside what.
fn assert_states_machine(report: &Value) {
    let machine = &report["machine"];
    assert!(machine["cpus"].as_u64() >= Some(1), "{report}");
    let seen = machine["seen"]["other_load_cpus"].as_f64();
    assert!(!cfg!(target_os = "linux") || seen.is_some(), "{report}");
    for key in ["cpu", "governor", "commit"] {
        assert!(machine.get(key).is_some(), "{key}: {report}");
    }
}

/// Ends a program with each signal in turn; `begun` waits until it is at work and gives what must have ended with it.
fn killed(start: impl Fn(&Path) -> Command, begun: impl Fn(&Path, &Child) -> PathBuf) {
    for signal in ["KILL", "TERM", "INT"] {
        let (folder, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut command = start(folder.path());
        command.env("TMPDIR", temporary.path());
        // The group of a terminal's foreground, all of which Ctrl-C reaches.
        command.process_group(0);
        let mut parent = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let child = begun(folder.path(), &parent);
        assert!(is_alive(&child), "{}", child.display());
        let group = if signal == "INT" { "-" } else { "" };
        let mut kill = Command::new("kill");
        kill.args(["-s", signal, "--", &format!("{group}{}", parent.id())]);
        assert!(kill.status().unwrap().success());
        assert!(!parent.wait().unwrap().success());
        wait(|| !is_alive(&child));
        let rest = names(folder.path())
            .into_iter()
            .chain(names(temporary.path()));
        let rest: Vec<String> = rest.filter(|name| name.ends_with(".tmp")).collect();
        assert!(rest.is_empty(), "{signal}: {rest:?}");
        assert!(names(temporary.path()).is_empty(), "{signal}");
    }
}

#[test]
fn memory_shows_phases_and_what_heads_and_window_spare() {
    let folder = tempfile::tempdir().unwrap();
    let run = |planned: u64, more: &[&str]| {
        let memory = r#""peak":900000000,"anon":1,"file":2,"phases":[{"name":"open","anon":1000000,"file":2000000}]"#;
        let text = format!("#!/bin/sh\necho '{{\"memory\":{{\"planned\":{planned},{memory}}}}}'\n");
        let onebit = script(folder.path(), "onebit", &text);
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(["bench", "memory", "--onebit"]).arg(onebit);
        command.arg(demo()).args(["-c", "512", "--window", "128"]);
        let done = command.args(more).output().unwrap();
        (
            done.status.success(),
            String::from_utf8(done.stdout).unwrap(),
        )
    };
    let (right, table) = run(900_000_000, &[]);
    assert!(right && table.contains("| 3.0 MB |"), "{table}");
    assert!(table.contains("load by others"), "{table}");
    let (right, text) = run(990_000_000, &["--json"]);
    assert!(!right, "a plan that is 10 % too large");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_states_machine(&json);
    assert_eq!(json["files"][0]["name"], "demo.onebit");
    let row = &json["rows"][0];
    assert_eq!(row["phases"]["open"], 3_000_000);
    assert_eq!(row["peaks"]["n"], 3);
    let bytes = |key: &str| row[key].as_u64().unwrap();
    assert!(bytes("cache") < bytes("cache_without_window"));
    assert!(bytes("cache") < bytes("cache_without_gqa"));
}

#[test]
fn a_killed_parent_leaves_no_child() {
    let text = "#!/bin/sh\necho $$ > \"$0.new\"; mv \"$0.new\" \"$0.pid\"; exec sleep 600\n";
    let child = |folder: &Path, _: &Child| {
        let place = folder.join("onebit.pid");
        wait(|| place.exists());
        let child = std::fs::read_to_string(place).unwrap();
        PathBuf::from(format!("/proc/{}", child.trim()))
    };
    killed(|folder| bench(&script(folder, "onebit", text)), child);
    for what in ["load", "memory"] {
        let start = |folder: &Path| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
            let onebit = script(folder, "onebit", text);
            command.args(["bench", what, "--onebit"]).arg(onebit);
            let model = folder.join("demo.onebit");
            std::fs::copy(demo(), &model).unwrap();
            command.arg(model);
            command
        };
        killed(start, child);
    }
}

#[test]
fn a_killed_soak_leaves_no_child() {
    killed(
        |_| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
            command.args(["bench", "soak", "--generations", "4000000000"]);
            command
        },
        |_, parent| wait_for_child(parent, "bench-here"),
    );
}

#[test]
fn a_killed_table_leaves_no_half_written_model() {
    killed(
        |folder| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
            command.args(["bench", "--only", "1.3B", "--head", "f16", "--models"]);
            let onebit = script(folder, "onebit", ONEBIT);
            command.arg(folder).arg("--onebit").arg(onebit);
            command
        },
        |folder, parent| {
            let child = wait_for_child(parent, "synth");
            wait(|| names(folder).iter().any(|name| name.ends_with(".tmp")));
            child
        },
    );
}

#[test]
fn a_soak_is_measured_by_a_child_and_reported() {
    let soak = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(["bench", "soak", "--generations", "20", "--tokens", "2"]);
        command.args(more).output().unwrap()
    };
    let report: Value = serde_json::from_slice(&soak(&["--json"]).stdout).unwrap();
    assert_eq!(
        (&report["generations"], &report["warm_up"]),
        (&20.into(), &2.into())
    );
    assert!(report["first"].as_u64().unwrap() > 1 << 20);
    assert_states_machine(&report);
    let text = soak(&[]).stdout;
    let text = String::from_utf8_lossy(&text);
    assert!(
        [
            "20 of 2 tokens",
            "resident at last",
            "load by others",
            "kernels "
        ]
        .iter()
        .all(|words| text.contains(words)),
        "{text}"
    );
    // What the child says of its arguments, and its exit code, are given on.
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["bench", "kernels", "--kernels", "no such set"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(words.matches("no such set").count(), 1, "{words}");
}

#[test]
fn a_synthesis_whose_reader_has_gone_leaves_no_file() {
    // A terminal's Ctrl-C reaches the reader too: it ends, and that must not count as having pressed it twice.
    for interrupted in [false, true, true, true, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(["synth", "--shape", "large", "--until-stdin-ends", "-o"])
            .arg(folder.path().join("large.onebit"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait(|| !names(folder.path()).is_empty());
        drop(child.stdin.take());
        if interrupted {
            // Where it has ended already there is nobody to tell.
            let id = child.id().to_string();
            let _ = Command::new("kill").args(["-s", "INT", &id]).status();
        }
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert!(names(folder.path()).is_empty());
    }
}

/// Names of the files in a folder.
fn names(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap();
    files
        .map(|file| file.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

/// The child of `parent` that has become a program with this argument, once there is one.
fn wait_for_child(parent: &Child, argument: &str) -> PathBuf {
    let parent = parent.id().to_string();
    let is_it = |process: &Path| {
        let read = |name| std::fs::read_to_string(process.join(name)).unwrap_or_default();
        let stat = read("stat");
        let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let arguments = read("cmdline");
        fields.split(' ').nth(1) == Some(&parent) && arguments.split('\0').nth(1) == Some(argument)
    };
    let find = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        processes.map(|entry| entry.path()).find(|path| is_it(path))
    };
    wait(|| find().is_some());
    find().unwrap()
}

/// Waits for something that happens soon, or later on a busy machine.
fn wait(happened: impl Fn() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(
            start.elapsed() < Duration::from_secs(300),
            "it never happened"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process runs; those that have ended may still be waited for.
fn is_alive(process: &Path) -> bool {
    let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
    !matches!(state, None | Some("Z" | "X"))
}
