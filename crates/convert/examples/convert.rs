//! Converts a checkpoint folder: `convert SOURCE OUTPUT [TOKENS]`, with so many tokens verified.

use std::path::Path;
use std::process::ExitCode;

use onebit_convert::{Options, convert};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut options = Options::default();
    let (source, output) = match &args[..] {
        [source, output] => (source, output),
        [source, output, tokens] if tokens.parse::<usize>().is_ok() => {
            options.verify.tokens = tokens.parse().unwrap_or_default();
            (source, output)
        }
        _ => {
            eprintln!("usage: convert SOURCE OUTPUT [TOKENS]");
            return ExitCode::from(2);
        }
    };
    match convert(Path::new(source), Path::new(output), &options, &mut ()) {
        Ok(report) => println!("{report}"),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
