//! Run 1-bit and ternary language models from the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    onebit::main()
}
