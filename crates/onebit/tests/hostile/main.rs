//! Broken and hostile input: each case through the library, many of them through the program too. Whatever is wrong, the
//! end is a documented exit code and a message that names it, without a panic, without memory out of proportion, and
//! with nothing left beside the output.

mod child;
mod configs;
mod folders;
mod headers;
mod killed;
mod outputs;
mod packed;
mod requests;
mod source;
mod texts;

use std::path::{Path, PathBuf};

/// A file or folder of the fixtures.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(name)
}

/// A path as an argument.
fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}
