//! Runs a program as a fresh child and takes its time and memory.
//!
//! What `wait4` says of a child's memory is not used: a child begins as a copy of its parent, so that the peak of a small
//! program started by a large one is that of the large one. The high-water mark of `/proc/PID/status` belongs to the
//! program that the child has become, and starts with it.

use anyhow::Context;
use serde_json::Value;
use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Between two looks at the high-water mark.
const PERIOD: Duration = Duration::from_millis(2);

/// What a run of a program took.
#[derive(Debug)]
pub(crate) struct Measured {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// From its start to its end.
    pub(crate) wall: Duration,
    /// Most that it had in memory, in bytes: as last seen, or as it says itself if that is more.
    pub(crate) peak: u64,
    /// What it wrote to stdout.
    pub(crate) stdout: String,
}

impl Measured {
    /// Its stdout as JSON.
    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.stdout).context("the output is not one JSON object")
    }
}

/// Runs `command` to its end; its stderr is this program's.
pub(crate) fn measure(mut command: Command) -> anyhow::Result<Measured> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let mut pipe = child.stdout.take().context("a pipe was asked for")?;
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).map(|_| bytes)
    });
    let place = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let status = loop {
        let seen = std::fs::read_to_string(&place).ok();
        peak = peak.max(seen.as_deref().and_then(high_water_mark).unwrap_or(0));
        match child.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(PERIOD),
        }
    };
    let wall = start.elapsed();
    let bytes = reader
        .join()
        .map_err(|_| anyhow::anyhow!("the reader failed"))??;
    let stdout = String::from_utf8_lossy(&bytes).into_owned();
    // Programs that start the mark anew, phase by phase, know best.
    let own = serde_json::from_str::<Value>(&stdout).ok();
    let own = own.and_then(|json| json["memory"]["peak"].as_u64());
    Ok(Measured {
        status,
        wall,
        peak: peak.max(own.unwrap_or(0)),
        stdout,
    })
}

/// `VmHWM` in bytes.
fn high_water_mark(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
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
        command.args(["-c", "sleep 0.05; echo '{\"x\": 1}'"]);
        let measured = measure(command).unwrap();
        drop(ballast);
        assert!(measured.status.success());
        assert_eq!(measured.json().unwrap()["x"], 1);
        assert!(
            (64 << 10..64 << 20).contains(&measured.peak),
            "{measured:?}"
        );
        assert!(measured.wall >= Duration::from_millis(50));
    }

    #[test]
    fn what_a_program_says_itself_counts() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo '{\"memory\": {\"peak\": 123456789012}}'"]);
        assert_eq!(measure(command).unwrap().peak, 123_456_789_012);
    }
}
