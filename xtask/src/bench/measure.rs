//! Runs a program as a fresh child and takes its time and memory.
//!
//! What `wait4` says of a child's memory is not used: a child begins as a copy of its parent, so that the peak of a small
//! program started by a large one is that of the large one. The high-water mark of `/proc/PID/status` belongs to the
//! program that the child has become, and starts with it.

use super::system::Rapl;
use anyhow::Context;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Between two looks at the memory: at first, as small programs end soon, and later, so as not to take time from the program.
const PERIOD: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(20)];
/// How long "at first" is.
const AT_FIRST: Duration = Duration::from_millis(200);
/// Most of what a failed program wrote to stderr that is kept.
const STDERR: usize = 2000;

/// What a run of a program took.
#[derive(Debug)]
pub(crate) struct Measured {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// From its start to its end.
    pub(crate) wall: Duration,
    /// Most that it had in memory, in bytes: as last seen, or as it says itself if that is more; none where it ended
    /// before the first look and does not say.
    pub(crate) peak: Option<u64>,
    /// What it had in memory over time.
    pub(crate) timeline: Vec<Sample>,
    /// The lines that it wrote to stdout.
    pub(crate) lines: Vec<Line>,
    /// The end of what it wrote to stderr, where that was asked for.
    pub(crate) stderr: String,
}

/// What was in memory at one moment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    /// Seconds since the start of the program.
    pub(crate) at: f64,
    /// Not backed by a file.
    pub(crate) anon: u64,
    /// Backed by files.
    pub(crate) file: u64,
}

/// A line of a program's output.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// When it came, in seconds since the start of the program.
    pub(crate) at: f64,
    /// Joules that the CPUs had taken then, where the system says.
    pub(crate) joules: Option<f64>,
    /// Its text.
    pub(crate) text: String,
}

impl Measured {
    /// Its stdout as JSON.
    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        let text: Vec<&str> = self.lines.iter().map(|line| line.text.as_str()).collect();
        serde_json::from_str(&text.join("\n")).context("the output is not one JSON object")
    }

    /// The last line of its stdout as JSON.
    pub(crate) fn last_json(&self) -> anyhow::Result<Value> {
        let line = self.lines.last().context("the program wrote nothing")?;
        serde_json::from_str(&line.text).context("the last line of the output is not a JSON object")
    }

    /// The most that it had in memory as a figure: no number where it is not known.
    pub(crate) fn peak_figure(&self) -> f64 {
        self.peak.map_or(f64::NAN, |peak| peak as f64)
    }

    /// Fails with the program's own words where it failed.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let words = self.stderr.trim();
        anyhow::ensure!(
            self.status.success(),
            "the program failed: {}{}{words}",
            self.status,
            if words.is_empty() { "" } else { ": " }
        );
        Ok(())
    }
}

/// Runs `command` to its end; its stderr is this program's.
pub(crate) fn measure(command: Command) -> anyhow::Result<Measured> {
    run(command, Stdio::inherit(), None)
}

/// The same, keeping the end of its stderr, and counting joules where there is a meter.
pub(crate) fn measure_quietly(command: Command, meter: Option<&Rapl>) -> anyhow::Result<Measured> {
    run(command, Stdio::piped(), meter.cloned())
}

fn run(mut command: Command, stderr: Stdio, meter: Option<Rapl>) -> anyhow::Result<Measured> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let stdout = child.stdout.take().context("a pipe was asked for")?;
    let lines = std::thread::spawn(move || read_lines(stdout, start, meter));
    let words = child.stderr.take().map(|stderr| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = BufReader::new(stderr).read_to_end(&mut bytes);
            bytes
        })
    });
    let place = format!("/proc/{}/status", child.id());
    let (mut peak, mut timeline) = (None, Vec::new());
    let status = loop {
        if let Ok(text) = std::fs::read_to_string(&place) {
            peak = peak.max(kib(&text, "VmHWM"));
            timeline.extend(sample(&text, start.elapsed()));
        }
        match child.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(PERIOD[usize::from(start.elapsed() > AT_FIRST)]),
        }
    };
    let wall = start.elapsed();
    let failed = |_| anyhow::anyhow!("a reader of output failed");
    let lines = lines.join().map_err(failed)??;
    let words = words.map_or(Ok(Vec::new()), |words| words.join().map_err(failed))?;
    let words = String::from_utf8_lossy(&words[words.len().saturating_sub(STDERR)..]).into_owned();
    let mut measured = Measured {
        status,
        wall,
        peak,
        timeline,
        lines,
        stderr: words,
    };
    // Programs that start the mark anew, phase by phase, know best.
    let own = measured.last_json().ok();
    let own = own.and_then(|json| json["memory"]["peak"].as_u64());
    measured.peak = peak.max(own);
    Ok(measured)
}

fn read_lines(pipe: impl Read, start: Instant, meter: Option<Rapl>) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for bytes in BufReader::new(pipe).split(b'\n') {
        let bytes = bytes?;
        lines.push(Line {
            at: start.elapsed().as_secs_f64(),
            joules: meter.as_ref().and_then(Rapl::joules),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        });
    }
    Ok(lines)
}

/// What a `/proc/PID/status` says is in memory.
fn sample(status: &str, at: Duration) -> Option<Sample> {
    Some(Sample {
        at: at.as_secs_f64(),
        anon: kib(status, "RssAnon")?,
        file: kib(status, "RssFile")? + kib(status, "RssShmem").unwrap_or(0),
    })
}

/// The bytes of a line `name: 12 kB`.
fn kib(status: &str, name: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_small_child_of_a_large_parent_is_small() {
        let ballast = std::hint::black_box(vec![1u8; 256 << 20]);
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 0.5; echo '{\"x\": 1}'"]);
        let measured = measure(command).unwrap();
        drop(ballast);
        assert!(measured.status.success());
        assert_eq!(measured.json().unwrap()["x"], 1);
        assert!(
            (64 << 10..64 << 20).contains(&measured.peak.unwrap()),
            "{measured:?}"
        );
        assert!(measured.wall >= Duration::from_millis(500));
        assert!(measured.timeline.iter().any(|sample| sample.file > 0));
    }

    #[test]
    fn a_failure_has_the_programs_words_and_lines_have_times() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "echo a; sleep 0.5; echo b; echo no such thing >&2; exit 3",
        ]);
        let measured = measure_quietly(command, None).unwrap();
        assert_eq!(measured.lines.len(), 2);
        assert!(measured.lines[1].at - measured.lines[0].at >= 0.01);
        let error = measured.check().unwrap_err().to_string();
        assert!(error.ends_with("no such thing"), "{error}");
    }

    #[test]
    fn what_a_program_says_itself_counts() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo '{\"memory\": {\"peak\": 123456789012}}'"]);
        assert_eq!(measure(command).unwrap().peak, Some(123_456_789_012));
    }
}
