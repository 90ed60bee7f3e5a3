//! `cargo xtask check`: everything a change must pass.

mod asan;

pub(crate) use asan::{AsanArgs, run_all as run_asan};

use crate::process::{self, cargo, root, works};
use clap::Args;
use std::process::Command;
use std::time::Instant;

/// Flags of `cargo xtask check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Leave the tests out, for when they have just run
    #[arg(long)]
    no_tests: bool,
    /// Seconds to run each fuzz target
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    fuzz_seconds: u32,
}

/// Runs all steps, stopping at the first that fails.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<()> {
    step("fmt", || process::run(cargo(&["fmt", "--all", "--check"])))?;
    step("clippy", || {
        process::run(cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    step("without the hub", || {
        process::run(cargo(&[
            "clippy",
            "--package",
            "onebit",
            "--no-default-features",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    step("docs", || {
        let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
        doc.env("RUSTDOCFLAGS", "-D warnings");
        process::run(doc)
    })?;
    if !args.no_tests {
        step("tests", || {
            process::run(cargo(&["test", "--workspace", "--locked"]))
        })?;
    }
    // Of the whole workspace: with the features of one package alone, most dependencies would be compiled a second time.
    step("benches", || {
        process::run(cargo(&[
            "test",
            "--workspace",
            "--bench",
            "*",
            "--locked",
            "--quiet",
        ]))
    })?;
    address_sanitizer()?;
    fuzz(args.fuzz_seconds)
}

fn step(name: &str, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let start = Instant::now();
    work()?;
    eprintln!("{name}: ok in {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Runs tests with AddressSanitizer where the tools are there.
fn address_sanitizer() -> anyhow::Result<()> {
    match asan::missing()? {
        Some(why) => eprintln!("address sanitizer: skipped, {why}"),
        None => step("address sanitizer", || asan::test(&[]))?,
    }
    Ok(())
}

/// Runs every fuzz target for a moment where the tools are there.
fn fuzz(seconds: u32) -> anyhow::Result<()> {
    let skip = |why: &str| eprintln!("fuzz: skipped, {why}");
    if !root().join("fuzz").join("Cargo.toml").is_file() {
        skip("there is no fuzz target");
        return Ok(());
    }
    if !works(fuzz_command(&["--version"])) {
        skip("it needs a nightly toolchain and `cargo install cargo-fuzz`");
        return Ok(());
    }
    let targets = fuzz_command(&["list"]).output()?.stdout;
    for target in String::from_utf8_lossy(&targets).lines() {
        step(&format!("fuzz {target}"), || {
            process::run(fuzz_command(&[
                "run",
                target,
                "--",
                &format!("-max_total_time={seconds}"),
            ]))
        })?;
    }
    Ok(())
}

fn fuzz_command(args: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command
        .arg("+nightly")
        .arg("fuzz")
        .args(args)
        .current_dir(root());
    command
}
