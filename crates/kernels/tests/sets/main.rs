//! Every kernel set against the naive reference and against each other.

mod attention;
mod chosen;
mod common;
mod elementwise;
mod floats;
mod integers;
mod limits;
mod many;
mod memory;
mod misuse;
mod prefill;
mod signs;
mod sparse;
mod ternary;
mod tiles;
mod unseen;
