//! Converts a checkpoint folder: `convert SOURCE OUTPUT`.

use std::path::Path;
use std::process::ExitCode;

use onebit_convert::{Options, convert};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [source, output] = &args[..] else {
        eprintln!("usage: convert SOURCE OUTPUT");
        return ExitCode::from(2);
    };
    match convert(
        Path::new(source),
        Path::new(output),
        &Options::default(),
        &mut (),
    ) {
        Ok(report) => println!("{report}"),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
