//! `/save` on a disk that is full: a small file system of memory that only the program started in the test sees.
#![cfg(target_os = "linux")]

use crate::{Done, program};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// The size of the disk: messages fit, keys and values do not.
const SIZE: &str = "size=64k";

/// Runs `chat` with `input` on a small disk mounted at `disk`, which the shell commands `before` have filled; then lists what is on
/// it, after a line `left:` on stderr. `None` where nothing can be mounted.
fn chat_on_a_small_disk(disk: &Path, before: &str, input: &str) -> Option<Done> {
    let disk = disk.display();
    let mount = format!("mount -t tmpfs -o {SIZE} onebit-test '{disk}'");
    let possible = Command::new("unshare")
        .args(["-m", "sh", "-c", &mount])
        .output();
    let why = match possible {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    };
    if let Some(why) = why {
        eprintln!("skipped: no file system can be mounted here: {why}");
        return None;
    }
    let script = format!(
        "{mount} && cd '{disk}' && {before} && {{ \"$@\"; code=$?; echo left: >&2; ls -A >&2; exit $code; }}"
    );
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, "sh"]);
    let chat = program(&["chat", "-n", "8", "--temp", "0"]);
    command.arg(chat.get_program()).args(chat.get_args());
    command.envs(chat.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let pipes = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    Some(child.wait_with_output().unwrap().into())
}

/// What was said, and the names of the files left.
fn parts(done: &Done) -> (&str, Vec<&str>) {
    let (said, left) = done.err.split_once("left:\n").unwrap();
    (said, left.lines().collect())
}

#[test]
fn a_state_that_does_not_fit_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let input = "Tell me a story about a cat.\n/save talk.json\nAnd a dog?\n";
    let before = "echo old > talk.json.kv";
    let Some(done) = chat_on_a_small_disk(folder.path(), before, input) else {
        return;
    };
    let (said, left) = parts(&done);
    for part in [
        "error: ",
        "talk.json.kv",
        "cannot write it",
        "No space left on device",
    ] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    assert!(!said.contains("messages in"), "{said}");
    // The messages had room; the state did not.
    assert_eq!(left, ["talk.json", "talk.json.kv"]);
    // The talk went on.
    assert_eq!(done.out.lines().count(), 2);
    assert_eq!(done.code, 0);
}

#[test]
fn messages_that_do_not_fit_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let input = "Tell me a story about a cat.\n/save talk.json\nAnd a dog?\n";
    let before = "{ cat /dev/zero > filler 2> /dev/null || true; }";
    let Some(done) = chat_on_a_small_disk(folder.path(), before, input) else {
        return;
    };
    let (said, left) = parts(&done);
    for part in [
        "error: ",
        "cannot write talk.json",
        "No space left on device",
    ] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    assert_eq!(left, ["filler"]);
    assert_eq!((done.out.lines().count(), done.code), (2, 0));
}
