//! Conversion from outside: whole checkpoints in, packed files and errors out.

mod broken;
mod common;
mod convert;
mod families;
mod few_bits;
mod fixtures;
mod foreign;
mod options;
mod output;
