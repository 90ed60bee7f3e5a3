//! `cargo xtask package`: each library crate must stand alone.

use crate::process::{cargo, run};

/// The library crates, each after those it depends on.
const LIBRARIES: &[&str] = &[
    "onebit-format",
    "onebit-tokenizer",
    "onebit-kernels",
    "onebit-model",
    "onebit-runtime",
    "onebit-convert",
    "onebit-hub",
];

/// Packages and builds every library crate from its package.
pub(crate) fn run_all() -> anyhow::Result<()> {
    let mut package = cargo(&["package", "--locked", "--allow-dirty"]);
    for name in LIBRARIES {
        package.args(["--package", name]);
    }
    run(package)
}
