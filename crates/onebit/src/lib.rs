//! The `onebit` command line as a library, so that `cargo xtask` shares its commands.
//!
//! [`main`] parses the arguments of the process, does what they ask, prints errors on stderr and returns the
//! exit code. Commands live in [`commands`], one module each; [`cli`] holds the flags they share.

// The examples of the README are compiled like those of any other page.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

pub mod cli;
pub mod commands;
pub mod exit;
mod fit;
pub mod generation;
pub mod interrupt;
pub mod load;
mod placement;
pub mod progress;
pub mod soak;
pub mod source;
pub mod stdout;
pub mod whole_file;

mod classify;

pub use classify::code_of;

use clap::Parser;
use exit::Code;
use std::process::ExitCode;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    onebit_runtime::survive_file_size_limit();
    keep_caught_panics_quiet();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return finish_parse(&error),
    };
    start_logging(cli.verbose);
    finish(commands::dispatch(cli))
}

/// Leaves panics that end as an error to that error.
fn keep_caught_panics_quiet() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !onebit_runtime::in_guard() {
            print(info);
        }
    }));
}

/// Prints what the argument parser has to say: help on stdout with code 0, an error on stderr with code 2.
pub fn finish_parse(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(Code::Request as u8)
    } else {
        ExitCode::SUCCESS
    }
}

/// Prints the error of a command, if any, and gives the exit code.
pub fn finish(result: anyhow::Result<Code>) -> ExitCode {
    let code = result.unwrap_or_else(|error| {
        if exit::is_closed_pipe(&error) {
            return Code::Success;
        }
        exit::print(&error);
        code_of(&error)
    });
    ExitCode::from(code as u8)
}

fn start_logging(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => {
            "onebit=debug,onebit_format=debug,onebit_model=debug,onebit_runtime=debug,onebit_convert=debug,onebit_hub=debug"
        }
        _ => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::new(level);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let _ = subscriber.try_init();
}
