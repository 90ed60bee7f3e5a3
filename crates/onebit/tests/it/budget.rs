//! `--memory-limit`: what is chosen, what is refused, and that it holds.

use crate::{onebit, synthetic};
use serde_json::Value;
use tempfile::TempDir;

/// The synthetic model, and the folder it lies in.
fn model() -> (TempDir, String) {
    let (folder, shape) = (tempfile::tempdir().unwrap(), synthetic::shape());
    let encoding = shape.encoding(shape.linear, shape.keep);
    let path = synthetic::write(folder.path(), &shape, &encoding);
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

const SHORT: [&str; 7] = ["--ids", "1", "-n", "1", "--json", "-t", "1"];

fn number(json: &Value, key: &str) -> u64 {
    json[key].as_u64().unwrap()
}

#[test]
fn what_is_open_is_chosen_to_fit() {
    let (_folder, path) = model();
    let run = |more: &[&str]| onebit(&[&["run", &path][..], &SHORT, more].concat());
    let limit = ["--memory-limit", "100M"];
    let kv = |json: &Value| json["kv"].as_str().unwrap().to_owned();

    // 16 KiB a position, and about 50 MB for everything else.
    let largest = run(&[&["-c", "auto"], &limit[..]].concat());
    assert!(largest.err.contains("--memory-limit"), "{}", largest.err);
    let largest = largest.json();
    assert!((2048..5000).contains(&number(&largest, "ctx")), "{largest}");
    assert!(number(&largest["memory"], "planned") <= 100_000_000);

    let both = run(&[&["-c", "auto", "--kv", "auto"], &limit[..]].concat()).json();
    assert_eq!((kv(&both), &both["ctx"]), ("f16".into(), &largest["ctx"]));
    let smaller = run(&[&["-c", "5000", "--kv", "auto"], &limit[..]].concat()).json();
    assert_ne!(kv(&smaller), "f16");
    assert_eq!(number(&smaller, "ctx"), 5000);
    assert!(number(&smaller["memory"], "planned") <= 100_000_000);

    // 1024 positions leave room for a batch of fewer than 256 tokens only. That of these kernels is 128.
    let sized = ["-c", "1024", "--kernels", "scalar"];
    let all = run(&sized).json();
    let just = number(&all["memory"], "planned").to_string();
    let limited = [&sized[..], &["--memory-limit", &just]].concat();
    let batch = run(&limited);
    assert!(batch.err.contains("-c 1024 --kv f16 -b "), "{}", batch.err);
    batch.ok();
    run(&[&limited[..], &["-b", "256"]].concat()).refused(5, &["-b "]);
    run(&["-c", "auto", "--memory_limit_mb", "100"]).ok();
}

#[test]
fn what_cannot_fit_is_refused_with_what_would() {
    let (_folder, path) = model();
    let run = |more: &[&str]| onebit(&[&["run", &path][..], &SHORT, more].concat());
    let refused = run(&["-c", "20000", "--memory-limit", "100M"]);
    refused.refused(
        5,
        &[
            "20000",
            "100.0 MB",
            "what would fit",
            "--kv q8",
            "--memory-limit ",
        ],
    );
    // Each of the settings named does fit.
    let (_, settings) = refused.err.trim().split_once("what would fit: ").unwrap();
    for setting in settings.split(", or ") {
        let mut args: Vec<&str> = setting.split(' ').collect();
        let rest: &[&str] = match args[0] {
            "-c" => &["--memory-limit", "100M"],
            _ => &["-c", "20000"],
        };
        args.extend(rest);
        run(&args).ok();
    }
    // The default context counts as asked for.
    run(&["--memory-limit", "60M"]).refused(5, &["2048"]);
    run(&["-c", "auto", "--kv", "auto", "--memory-limit", "20M"])
        .refused(5, &["smallest settings", "--memory-limit "]);
    run(&["--memory-limit", "200k"]).refused(5, &["less than one layer"]);
    run(&["--load", "heap", "--memory-limit", "15M"]).refused(5, &["--load mmap"]);
    onebit(&["chat", "--memory-limit", "5M"]).refused(5, &["--memory-limit"]);
    onebit(&["score", "--ids", "1,2", "--memory-limit", "5M"]).refused(5, &["--memory-limit"]);
}

#[test]
fn sizes_and_choices_are_checked() {
    let run = |more: &[&str]| onebit(&[&["run", "-p", "x", "-n", "1"], more].concat());
    run(&["--memory-limit", "much"]).refused(2, &["much", "900M"]);
    run(&["--memory-limit", "1G", "--memory_limit_mb", "5"]).refused(2, &["cannot be used"]);
    run(&["-c", "many"]).refused(2, &["auto"]);
    run(&["--kv-k", "auto"]).refused(2, &["auto"]);
    onebit(&["info", "--kv", "auto"]).refused(2, &["auto"]);
    run(&["-c", "auto", "--kv", "auto"]).ok();
}

/// Runs the program with its context filled, below what the shell commands `before` set up.
#[cfg(target_os = "linux")]
fn run_below(before: &str, path: &str, tokens: usize, more: &[&str]) -> crate::Done {
    let ids: Vec<String> = (0..tokens).map(|i| (100 + i % 16).to_string()).collect();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &format!("{before} && exec \"$@\""), "sh"]);
    command.args([
        env!("CARGO_BIN_EXE_onebit"),
        "run",
        path,
        "--ids",
        &ids.join(","),
    ]);
    command.args(["-n", "1", "--json", "-t", "2"]);
    command.args(more).output().unwrap().into()
}

#[cfg(target_os = "linux")]
#[test]
fn resource_limits_count() {
    let (_folder, path) = model();
    for before in ["ulimit -v 1000000", "ulimit -d 200000"] {
        let done = run_below(before, &path, 4, &["-c", "auto"]).json();
        assert!(
            (2048..60_000).contains(&number(&done, "ctx")),
            "{before}: {done}"
        );
        run_below(before, &path, 4, &["-c", "70000"]).refused(5, &["70000"]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_peak_never_passes_the_limit() {
    let (_folder, path) = model();
    for (limit, most) in [("72M", 72_000_000), ("90M", 90_000_000)] {
        let flags = ["-c", "auto", "--memory-limit", limit];
        let context = number(&run_below("true", &path, 1, &flags).json(), "ctx");
        let done = run_below("true", &path, context as usize, &flags).json();
        let peak = number(&done["memory"], "peak");
        assert!(peak <= most, "{limit}: {done}");
    }
}

/// A control group of this test, removed at the end.
#[cfg(target_os = "linux")]
struct Group(std::path::PathBuf);

#[cfg(target_os = "linux")]
impl Group {
    /// With a limit; `None` where groups cannot be made.
    fn new(limit: u64) -> Option<Self> {
        let group =
            Self(format!("/sys/fs/cgroup/memory/onebit-test-{}", std::process::id()).into());
        std::fs::create_dir(&group.0).ok()?;
        let file = group.0.join("memory.limit_in_bytes");
        std::fs::write(file, limit.to_string()).ok()?;
        Some(group)
    }

    fn number(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(self.0.join(name)).unwrap();
        text.trim().parse().unwrap()
    }
}

#[cfg(target_os = "linux")]
impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_control_group_is_never_left_to_kill() {
    const LIMIT: u64 = 88 << 20;
    let Some(group) = Group::new(LIMIT) else {
        eprintln!("skipped: no control group of version 1 can be made here");
        return;
    };
    let (_folder, path) = model();
    let enter = format!("echo $$ > {}/cgroup.procs", group.0.display());
    let asked = run_below(&enter, &path, 1, &["-c", "auto"]).json();
    let context = number(&asked, "ctx");
    assert!(context > 2048 && context < 6000, "{asked}");
    assert_eq!(number(&asked["memory"]["cgroup"], "limit"), LIMIT);
    // The machine leaves less for contexts that are asked for, too.
    run_below(&enter, &path, 1, &["-c", "20000"]).refused(5, &["control group"]);

    let done = run_below(
        &enter,
        &path,
        context as usize,
        &["-c", &context.to_string()],
    )
    .json();
    assert!(number(&done["memory"], "peak") <= LIMIT, "{done}");
    assert!(group.number("memory.max_usage_in_bytes") <= LIMIT);
    let control = std::fs::read_to_string(group.0.join("memory.oom_control")).unwrap();
    assert!(control.contains("oom_kill 0"), "{control}");
}
