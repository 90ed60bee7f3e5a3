//! Ctrl-C.

#![cfg(unix)]

use crate::{TINY, fixture_arg, program};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

fn interrupt(child: &Child) {
    assert!(
        Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn run_prints_what_there_is_and_ends_with_130() {
    let model = fixture_arg(TINY.0);
    let endless = [
        "run",
        &model,
        "--ids",
        "1",
        "-n",
        "-1",
        "-c",
        "1000000",
        "--ignore-eos",
        "--json-lines",
    ];
    let mut child = program(&endless)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    interrupt(&child);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let last: serde_json::Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
    assert_eq!(last["stop"], "interrupted");
    assert_eq!(
        last["ids"].as_array().unwrap().len(),
        rest.lines().count(),
        "one line a token, then the object"
    );
}

/// Ctrl-C while the packed file is compared with its source. Where the comparison was faster, there is a file.
#[test]
fn an_interrupted_verification_leaves_nothing_and_ends_with_130() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a.onebit");
    let demo = fixture_arg("demo/checkpoint");
    let args = [
        "convert",
        &demo,
        "-o",
        out.to_str().unwrap(),
        "--verify",
        "512",
        "-v",
    ];
    let mut child = program(&args)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    assert!(lines.any(|line| line.contains("comparing with the source")));
    interrupt(&child);
    lines.for_each(drop);
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    match child.wait().unwrap().code() {
        Some(130) => assert_eq!(left, 0),
        Some(0) => {
            assert_eq!(left, 1);
            eprintln!("skipped: the verification was over before it was interrupted");
        }
        other => panic!("{other:?}"),
    }
}
