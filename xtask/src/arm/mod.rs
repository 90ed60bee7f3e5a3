//! `cargo xtask arm`: what other machines would find, on this one, with an emulator.

mod cpus;
mod packages;
mod toolchain;

use crate::process::{cargo, root, run};
use anyhow::bail;
use clap::Args;
use cpus::Cpu;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;
use toolchain::Toolchain;

/// Names the kernel sets that must have been tested, separated by commas.
const REQUIRE: &str = "ONEBIT_REQUIRE_KERNELS";

/// Names the only kernel sets to test.
const ONLY: &str = "ONEBIT_ONLY_KERNELS";

/// What is tested; always all of them, since the features of the dependencies follow from it.
const PACKAGES: &[&str] = &["onebit-format", "onebit-kernels", "onebit-model"];

/// The arithmetic.
const SETS: &[&str] = &["sets"];

/// A model that was really trained.
const DEMO: &[&str] = &["demo"];

/// The bytes, which are the same on every CPU: `--quick` tests them on one.
const BYTES: &[&str] = &["layouts", "golden", "damage", "file"];

/// Left out: they start themselves anew, which an emulated process cannot.
const SKIP: &[&str] = &["a_full_disk_is_an_error_that_names_the_file"];

/// What `--quick` tests of the arithmetic on the other CPUs, with the kernel sets that the first one lacks, whose wide vectors are
/// slow to emulate: the properties, of any shape and any values.
const PROPERTIES: &[&str] = &["::any_", "anything", "of_any"];

/// Flags of `cargo xtask arm`.
#[derive(Debug, Args)]
pub(crate) struct ArmArgs {
    /// CPUs to emulate, separated by commas [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    cpus: Vec<String>,
    /// An old CPU, a new one with property tests and a model, and no check of the whole workspace
    #[arg(long)]
    quick: bool,
    /// Only check that the whole workspace compiles
    #[arg(long, conflicts_with_all = ["quick", "cpus"])]
    check: bool,
    /// Arguments of the tests
    #[arg(last = true)]
    test_args: Vec<String>,
}

/// Builds and tests for 64-bit Arm.
///
/// Where the tools cannot be had, says so and succeeds, unless the variable demands a set.
pub(crate) fn run_all(args: &ArmArgs) -> anyhow::Result<()> {
    let required = cpus::required(&std::env::var(REQUIRE).unwrap_or_default());
    let cpus = cpus::choose(&args.cpus, args.quick)?;
    if !args.check {
        cpus::demand(&required, &cpus)?;
    }
    let toolchain = match find_toolchain() {
        Ok(toolchain) => toolchain,
        Err(error) if required.is_empty() => {
            eprintln!("arm: not tested, the toolchain cannot be had: {error:#}");
            for cpu in cpus {
                eprintln!("arm: untested on {}: {}", cpu.name, cpu.sets.join(", "));
            }
            return Ok(());
        }
        Err(error) => return Err(error.context(format!("{REQUIRE} names {}", required.join(", ")))),
    };
    let arm = Arm { toolchain };
    if !args.quick && args.cpus.is_empty() {
        arm.step("check", || {
            run(arm.cargo(&["check", "--workspace", "--all-targets"], cpus[0]))
        })?;
    }
    if args.check {
        return Ok(());
    }
    arm.step("build", || {
        run(arm.tests(&["--no-run"], &[BYTES, SETS, DEMO], cpus[0]))
    })?;
    for cpu in &cpus {
        arm.step(cpu.name, || arm.test(cpu, args, cpus[0]))?;
    }
    Ok(())
}

fn find_toolchain() -> anyhow::Result<Toolchain> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        bail!("its programs are made for Linux on x86-64");
    }
    Toolchain::at(target().join("toolchain"))
}

/// Where everything for Arm lies: toolchain and build outputs.
fn target() -> PathBuf {
    root().join("target").join("arm")
}

struct Arm {
    toolchain: Toolchain,
}

impl Arm {
    fn step(&self, name: &str, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let start = Instant::now();
        work()?;
        eprintln!("arm, {name}: ok in {:.0} s", start.elapsed().as_secs_f64());
        Ok(())
    }

    /// A cargo command for Arm.
    fn cargo(&self, args: &[&str], cpu: &Cpu) -> Command {
        let mut command = cargo(args);
        command.arg("--locked");
        self.toolchain.configure(&mut command, &target(), cpu.qemu);
        command
    }

    /// The command that builds or runs tests.
    fn tests(&self, args: &[&str], which: &[&[&str]], cpu: &Cpu) -> Command {
        let mut command = self.cargo(&["test"], cpu);
        command.args(args);
        for package in PACKAGES {
            command.args(["--package", package]);
        }
        for test in which.iter().copied().flatten() {
            command.args(["--test", test]);
        }
        command
    }

    /// Runs the tests on a CPU, which must have the sets that it is known for.
    fn test(&self, cpu: &Cpu, args: &ArmArgs, first: &Cpu) -> anyhow::Result<()> {
        let chosen = args.test_args.iter().map(String::as_str);
        let chosen: Vec<&str> = chosen.collect();
        let everything = [BYTES, SETS, DEMO];
        if !args.quick {
            return self.run(cpu, &[], &everything, &chosen);
        }
        if cpu.name == first.name {
            return self.run(cpu, cpu.sets, &everything, &chosen);
        }
        let new = cpu.beyond(first);
        self.run(cpu, &new, &[SETS], &[PROPERTIES, &chosen].concat())?;
        self.run(cpu, &new, &[DEMO], &chosen)
    }

    /// Runs tests, of `only` these kernel sets if any are named.
    fn run(
        &self,
        cpu: &Cpu,
        only: &[&str],
        which: &[&[&str]],
        args: &[&str],
    ) -> anyhow::Result<()> {
        let mut test = self.tests(&["--quiet"], which, cpu);
        test.arg("--").args(args);
        for name in SKIP {
            test.args(["--skip", name]);
        }
        test.env(REQUIRE, cpu.sets.join(","));
        if !only.is_empty() {
            test.env(ONLY, only.join(","));
        }
        run(test)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_there() {
        let files = std::fs::read_dir(root().join("crates/kernels/tests/sets")).unwrap();
        let texts: String = files
            .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
            .collect();
        for filter in PROPERTIES {
            let name = filter.replace("::", "fn ");
            assert!(texts.contains(&name), "{filter}");
        }
        // Products, and attention.
        assert!(texts.contains("fn any_matrix(") && texts.contains("fn any_shape("));
    }
}
