//! The built program from outside: exit codes, messages, what goes to stdout, and the goldens of the fixtures.

mod budget;
mod chat;
mod cli_docs;
mod convert;
mod demo;
mod exit_codes;
mod families;
mod few_bits;
mod files;
mod full_disk;
#[cfg(feature = "hub")]
mod hub;
mod info;
mod interrupt;
mod loading;
mod memory;
mod memory_plan;
mod run;
mod score;
mod synthetic;
mod threads;
mod tokenize;
mod verify;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

/// What a run of the program left.
struct Done {
    code: i32,
    out: String,
    err: String,
}

impl Done {
    /// Fails unless the program ended with `code` and said each of `parts` on stderr, and nothing on stdout.
    #[track_caller]
    fn refused(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "stderr: {}", self.err);
        for part in parts {
            assert!(self.err.contains(part), "`{part}` is not in: {}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
        assert_eq!(self.out, "");
    }

    /// Its stdout, after success.
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, 0, "stderr: {}", self.err);
        self.out
    }

    /// Its stdout as JSON, after success.
    #[track_caller]
    fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The program, without input, with a cache of its own.
fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onebit"));
    command
        .args(args)
        .stdin(Stdio::null())
        .env("ONEBIT_CACHE", cache())
        // No test may reach the real hub, nor see this user's settings of it.
        .env("HF_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("hf"))
        .env("HF_HUB_OFFLINE", "1");
    for name in [
        "HF_ENDPOINT",
        "HF_TOKEN",
        "HF_TOKEN_PATH",
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
    ] {
        command.env_remove(name);
    }
    command
}

/// Runs the program to its end.
fn onebit(args: &[&str]) -> Done {
    program(args).output().unwrap().into()
}

/// The same, with `input` on stdin.
fn onebit_with_input(args: &[&str], input: &str) -> Done {
    let mut command = program(args);
    let pipes = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap().into()
}

/// A file or folder of the fixtures.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name)
}

/// A fixture's path as an argument.
fn fixture_arg(name: &str) -> String {
    fixture(name).to_str().unwrap().to_owned()
}

/// A cache for converted models that begins empty with every run of the tests.
fn cache() -> &'static Path {
    static CACHE: LazyLock<PathBuf> = LazyLock::new(|| {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
        let _ = std::fs::remove_dir_all(&cache);
        cache
    });
    &CACHE
}

/// Ids as an argument.
fn ids_arg(ids: &serde_json::Value) -> String {
    let ids: Vec<String> = ids
        .as_array()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    ids.join(",")
}

/// A small checkpoint without a tokenizer, and the size of its vocabulary.
const TINY: (&str, usize) = ("checkpoints/llama_bitlinear", 211);

/// Packs a checkpoint of the fixtures into `folder`.
fn pack(checkpoint: &str, folder: &Path) -> PathBuf {
    let packed = folder.join("model.onebit");
    onebit(&[
        "convert",
        &fixture_arg(checkpoint),
        "-o",
        packed.to_str().unwrap(),
    ])
    .ok();
    packed
}
