//! `--threads`, `--cpus`, `--numa`: what is placed where, and what is refused.
#![cfg(target_os = "linux")]

use crate::{Done, TINY, fixture_arg, onebit, program};
use onebit_runtime::{NumaNode, allowed_cpus};

const SHORT: [&str; 6] = ["--ids", "1,2", "-n", "2", "--temp", "0"];

fn run(flags: &[&str]) -> Done {
    let model = fixture_arg(TINY.0);
    onebit(&[&["run", &model, "--json"][..], &SHORT, flags].concat())
}

fn threads(done: Done) -> u64 {
    done.json()["threads"].as_u64().unwrap()
}

#[test]
fn each_cpu_that_is_listed_gets_a_thread() {
    let allowed = allowed_cpus().unwrap();
    let count = allowed.cpus().len() as u64;
    let all = allowed.to_string();
    assert_eq!(threads(run(&["--cpus", &all])), count);
    assert_eq!(threads(run(&["--cpus", &all, "-t", "1"])), 1);
    let first = allowed.first(1).to_string();
    assert_eq!(threads(run(&["--cpus", &first])), 1);
    let ids = |flags: &[&str]| run(flags).json()["ids"].clone();
    assert_eq!(ids(&["--cpus", &all]), ids(&[]));
    let more = (count + 1).to_string();
    run(&["--cpus", &all, "-t", &more]).refused(2, &["-t", "--cpus", &all]);
}

#[test]
fn cpus_that_are_malformed_or_not_there_are_named() {
    for (list, parts) in [
        ("1-", &["`1-`", "2-3"][..]),
        ("0,,1", &["``"]),
        ("x", &["`x`"]),
        ("0,0", &["CPU 0", "twice"]),
        ("8191", &["CPU 8191", "not available"]),
        ("9000", &["`9000`"]),
    ] {
        run(&["--cpus", list]).refused(2, parts);
    }
    let chat = onebit(&["chat", "--cpus", "8191"]);
    chat.refused(2, &["8191"]);
    onebit(&["score", "--ids", "1", "--cpus", "8191"]).refused(2, &["8191"]);
}

/// What `taskset` or a control group leaves is the default.
#[test]
fn an_affinity_from_outside_is_respected() {
    let first = allowed_cpus().unwrap().first(1);
    let below = |flags: &[&str]| -> Done {
        let run = program(&[]);
        let mut command = std::process::Command::new("taskset");
        command
            .args(["-c", &first.to_string()])
            .arg(run.get_program());
        let model = fixture_arg(TINY.0);
        command
            .args(["run", &model, "--json"])
            .args(SHORT)
            .args(flags);
        command.envs(run.get_envs().filter_map(|(k, v)| Some((k, v?))));
        match command.output() {
            Ok(output) => output.into(),
            Err(error) => panic!("taskset of util-linux: {error}"),
        }
    };
    assert_eq!(threads(below(&[])), 1);
    if let Some(other) = allowed_cpus().unwrap().cpus().get(1) {
        let other = other.to_string();
        below(&["--cpus", &other]).refused(2, &["not available", &first.to_string()]);
    }
}

/// A control group of this test, removed at the end.
struct Group(std::path::PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_quota_is_respected() {
    let group = Group(format!("/sys/fs/cgroup/cpu/onebit-test-{}", std::process::id()).into());
    let quota = group.0.join("cpu.cfs_quota_us");
    let made = std::fs::create_dir(&group.0)
        .and_then(|()| std::fs::write(group.0.join("cpu.cfs_period_us"), "100000"))
        .and_then(|()| std::fs::write(quota, "90000"));
    if let Err(error) = made {
        eprintln!("skipped: no control group of version 1 with a quota can be made here: {error}");
        return;
    }
    let enter = format!(
        "echo $$ > {}/cgroup.procs && exec \"$@\"",
        group.0.display()
    );
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &enter, "sh", env!("CARGO_BIN_EXE_onebit"), "run"]);
    command.args([&fixture_arg(TINY.0), "--json"]).args(SHORT);
    let outer = program(&[]);
    command.envs(outer.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let done: Done = command.output().unwrap().into();
    assert_eq!(threads(done), 1);
}

#[test]
fn nodes_are_checked_and_bound_to() {
    run(&["--numa", "none"]).ok();
    for policy in ["bind", "bind:", "bind:x", "bind:+0", "spread"] {
        run(&["--numa", policy]).refused(2, &["none, or bind:N"]);
    }
    let nodes = NumaNode::all();
    let Some(node) = nodes.first() else {
        run(&["--numa", "bind:0"]).refused(4, &["--numa"]);
        return;
    };
    run(&["--numa", "bind:4321"]).refused(2, &["4321", &node.id.to_string()]);
    let bind = format!("bind:{}", node.id);
    for flags in [&["--numa", &bind][..], &["--numa", &bind, "--load", "heap"]] {
        let done = run(flags);
        if done.code == 2 && done.err.contains("the system refuses it") {
            eprintln!("skipped: {}", done.err);
            return;
        }
        assert_eq!(
            done.err.contains("--load heap"),
            nodes.len() > 1 && flags.len() == 2
        );
        done.ok();
    }
}
