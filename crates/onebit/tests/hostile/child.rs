//! The program as a child that is watched: a time after which it hangs, and the most memory it had.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What counts as hanging; everything here takes a moment on any machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Memory that the program may take beyond a small multiple of its input, in bytes: its own, and that of a debug build.
const BASE: u64 = 200 << 20;

/// How a child ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    /// Most bytes of resident memory seen; 0 where the system does not say.
    peak: u64,
    args: String,
}

/// Runs the program with nothing on stdin.
pub(crate) fn onebit(args: &[&str]) -> Ended {
    watch(program(args).stdin(Stdio::null()), args, &[])
}

/// Runs the program with `input` on stdin.
pub(crate) fn onebit_with(args: &[&str], input: &[u8]) -> Ended {
    watch(program(args).stdin(Stdio::piped()), args, input)
}

/// The program, with a cache of its own.
pub(crate) fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onebit"));
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile-cache");
    command.args(args).env("ONEBIT_CACHE", cache);
    command
}

fn watch(command: &mut Command, args: &[&str], input: &[u8]) -> Ended {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let (out, err) = (read(child.stdout.take()), read(child.stderr.take()));
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        thread::spawn(move || drop(stdin.write_all(&input)));
    }
    let (start, mut peak) = (Instant::now(), 0);
    let status = loop {
        peak = peak.max(resident(&child));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{args:?} hangs");
        }
        thread::sleep(Duration::from_millis(1));
    };
    Ended {
        code: status.code(),
        out: out.join().unwrap(),
        err: err.join().unwrap(),
        peak,
        args: format!("{args:?}").chars().take(500).collect(),
    }
}

fn read(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    let mut pipe = pipe.unwrap();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The most memory that a child has had so far.
fn resident(child: &Child) -> u64 {
    let mut status = String::new();
    let read = File::open(format!("/proc/{}/status", child.id()))
        .and_then(|mut file| file.read_to_string(&mut status));
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    read.ok().and(kilobytes).unwrap_or(0) << 10
}

impl Ended {
    /// Fails unless it ended with one of `codes` and a message that has each of `words`, without a panic, and with
    /// memory in proportion to `bytes` of input.
    #[track_caller]
    pub(crate) fn refused_for(&self, codes: &[i32], words: &[&str], bytes: u64) {
        let code = self
            .code
            .unwrap_or_else(|| panic!("{}: killed: {}", self.args, self.err));
        assert!(
            codes.contains(&code),
            "{}: code {code}: {}",
            self.args,
            self.err
        );
        assert!(
            !self.err.contains("panicked"),
            "{}: {}",
            self.args,
            self.err
        );
        for word in words {
            assert!(
                self.err.contains(word),
                "{}: `{word}` is not in: {}",
                self.args,
                self.err
            );
        }
        assert_eq!(self.out, "", "{}", self.args);
        self.modest(bytes);
    }

    /// The same for small inputs.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, words: &[&str]) {
        self.refused_for(&[code], words, 0);
    }

    /// Fails unless it ended well.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.code, Some(0), "{}: {}", self.args, self.err);
        &self.out
    }

    /// Fails when it took more memory than a few times `bytes`.
    #[track_caller]
    pub(crate) fn modest(&self, bytes: u64) {
        let most = BASE + 8 * bytes;
        assert!(self.peak < most, "{}: {} MiB", self.args, self.peak >> 20);
    }
}
