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
