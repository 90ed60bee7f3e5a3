//! Run 1-bit and ternary language models from the command line.

fn main() {}
