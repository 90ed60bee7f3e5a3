//! Developer commands of the onebit workspace.

fn main() {}
