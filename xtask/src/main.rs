//! Developer commands of the onebit workspace: `cargo xtask COMMAND`.

mod arm;
mod bench;
mod check;
mod guard;
mod package;
mod process;
mod synth;

use clap::{Parser, Subcommand};
use onebit::commands::convert::{self, ConvertArgs};
use onebit::exit::Code;
use std::process::ExitCode;

/// Developer commands of the onebit workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Convert a Hugging Face folder or a model of the hub into a packed file: the same as `onebit convert`.
    Convert(ConvertArgs),
    /// Write a packed file of a real shape with random weights, to measure speed and memory with.
    Synth(synth::SynthArgs),
    /// Measure on this machine, beside what its hardware allows.
    Bench(Box<bench::BenchArgs>),
    /// Everything a change must pass: fmt, clippy, docs, tests, AddressSanitizer, a short fuzz run.
    Check(check::CheckArgs),
    /// Tests of kernels and formats under AddressSanitizer, with a nightly toolchain.
    Asan(check::AsanArgs),
    /// Build for 64-bit Arm and run tests on several emulated CPUs, with a toolchain from Debian packages.
    Arm(arm::ArmArgs),
    /// Check that each library crate can be packaged on its own.
    Package,
    /// Become another program that ends with this process's parent.
    #[command(hide = true)]
    Guard(guard::GuardArgs),
    /// A measurement of this program itself, in this process.
    #[command(hide = true, name = bench::HERE)]
    BenchHere(Box<bench::HereArgs>),
    /// Decode several sequences together, and print the times.
    #[command(hide = true)]
    DecodeBatch(bench::BatchArgs),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return onebit::finish_parse(&error),
    };
    onebit::finish(match cli.command {
        Command::Convert(args) => convert::run(&args),
        Command::Synth(args) => synth::run(&args).map(|()| Code::Success),
        Command::Bench(args) => bench::run(&args),
        Command::Check(args) => check::run(&args).map(|()| Code::Success),
        Command::Asan(args) => check::run_asan(&args).map(|()| Code::Success),
        Command::Arm(args) => arm::run_all(&args).map(|()| Code::Success),
        Command::Package => package::run_all().map(|()| Code::Success),
        Command::Guard(args) => guard::run(&args),
        Command::BenchHere(args) => bench::run_here(&args),
        Command::DecodeBatch(args) => bench::decode_batch(&args).map(|()| Code::Success),
    })
}
