//! `cargo xtask asan`: the tests of kernels and formats under AddressSanitizer.

use crate::process::{root, run, works};
use anyhow::{Context, bail};
use clap::Args;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// How everything is compiled: with checks, and a name for them that stable Rust may ask for.
const FLAGS: &[&str] = &["-Zsanitizer=address", "--cfg", "address_sanitizer"];

/// Flags of `cargo xtask asan`.
#[derive(Debug, Args)]
pub(crate) struct AsanArgs {
    /// Arguments of the tests
    #[arg(last = true)]
    test_args: Vec<String>,
}

/// Runs the tests, or fails where this machine cannot.
pub(crate) fn run_all(args: &AsanArgs) -> anyhow::Result<()> {
    match missing()? {
        Some(why) => bail!("AddressSanitizer cannot be used: {why}"),
        None => test(&args.test_args),
    }
}

/// Builds the tests with the checks and runs them.
pub(super) fn test(test_args: &[String]) -> anyhow::Result<()> {
    let host = host()?;
    for package in ["onebit-format", "onebit-kernels"] {
        let mut command = nightly("cargo");
        command.args(["test", "--locked", "--quiet", "--package", package]);
        command.args(["--lib", "--tests"]);
        // Naming the target keeps the checks out of build scripts and procedural macros.
        command.args(["--target", &host]);
        command.arg("--target-dir").arg(target());
        command.arg("--").args(test_args);
        // The variable that wins over all other ways to give flags.
        command.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
        run(command)?;
    }
    Ok(())
}

/// Why the checks cannot be had here: what is not installed, or what the compiler says.
pub(super) fn missing() -> anyhow::Result<Option<&'static str>> {
    if !works({
        let mut command = nightly("rustc");
        command.arg("--version");
        command
    }) {
        return Ok(Some("it needs a nightly toolchain, installed by rustup"));
    }
    // The runtime library is there for some targets only, and needs more addresses than some containers grant.
    let folder = target();
    std::fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    let program = folder.join(format!("probe{}", std::env::consts::EXE_SUFFIX));
    let mut compile = nightly("rustc");
    compile.args(["-Zsanitizer=address", "--crate-name", "probe", "-o"]);
    compile.arg(&program).arg("-");
    if !compiles(compile, "fn main() {}") || !works(Command::new(&program)) {
        return Ok(Some(
            "an empty program with it cannot be built and run on this machine",
        ));
    }
    Ok(None)
}

/// Whether the compiler takes a program from standard input.
fn compiles(mut command: Command, source: &str) -> bool {
    use std::io::Write;
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else {
        return false;
    };
    let sent = child
        .stdin
        .take()
        .map(|mut to| to.write_all(source.as_bytes()));
    matches!(sent, Some(Ok(()))) && child.wait().is_ok_and(|status| status.success())
}

/// A program of the nightly toolchain, whatever toolchain and flags this one was started with.
fn nightly(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .arg("+nightly")
        .current_dir(root())
        // Not by the way: a toolchain is large.
        .env("RUSTUP_AUTO_INSTALL", "0");
    for name in [
        "RUSTUP_TOOLCHAIN",
        "RUSTC",
        "RUSTDOC",
        "CARGO",
        "ASAN_OPTIONS",
    ] {
        command.env_remove(name);
    }
    command
}

/// The target that the nightly compiler is made for.
fn host() -> anyhow::Result<String> {
    let mut command = nightly("rustc");
    command.args(["--print", "host-tuple"]);
    Ok(crate::process::output(command)?.trim().to_owned())
}

/// Where everything with checks lies.
fn target() -> PathBuf {
    root().join("target").join("asan")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_know_the_name_of_the_checks() {
        let memory = root().join("crates/kernels/tests/sets/memory.rs");
        let text = std::fs::read_to_string(memory).unwrap();
        assert!(text.contains("cfg(address_sanitizer)") && FLAGS.contains(&"address_sanitizer"));
    }
}
