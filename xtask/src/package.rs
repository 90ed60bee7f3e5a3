//! `cargo xtask package`: each library crate must stand alone.
//!
//! The crates are packaged, and what the packages hold is built in a workspace of its own, whose members need one another
//! in place of crates.io. The check that `cargo package` offers itself is not used: it keeps what it unpacked under the
//! name and version of a crate in the user's cache, and meets it again when the sources of that version have changed.

use crate::process::{cargo, root, run};
use anyhow::Context;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

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

/// All crates of the workspace have one version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Packages every library crate and builds what is in the packages.
pub(crate) fn run_all() -> anyhow::Result<()> {
    let target = root().join("target");
    let mut package = cargo(&["package", "--locked", "--allow-dirty", "--no-verify"]);
    package.arg("--target-dir").arg(&target);
    for name in LIBRARIES {
        package.args(["--package", name]);
    }
    run(package)?;

    let place = target.join("packages");
    unpack(&target.join("package"), &place)?;
    for name in LIBRARIES {
        let mut check = cargo(&["check", "--package", name]);
        check.current_dir(&place).arg("--target-dir").arg(&target);
        run(check)?;
    }
    Ok(())
}

/// Makes `place` a workspace of the contents of the packages.
fn unpack(packages: &Path, place: &Path) -> anyhow::Result<()> {
    if place.exists() {
        std::fs::remove_dir_all(place)
            .with_context(|| format!("cannot remove {}", place.display()))?;
    }
    std::fs::create_dir_all(place).with_context(|| format!("cannot make {}", place.display()))?;
    for name in LIBRARIES {
        let mut tar = Command::new("tar");
        tar.arg("-xzf")
            .arg(packages.join(format!("{name}-{VERSION}.crate")));
        tar.arg("-C").arg(place);
        run(tar)?;
    }
    let workspace = std::fs::read_to_string(root().join("Cargo.toml"))?;
    std::fs::write(place.join("Cargo.toml"), manifest(&workspace))?;
    // The versions of everything else are those the workspace is tested with.
    std::fs::copy(root().join("Cargo.lock"), place.join("Cargo.lock"))?;
    Ok(())
}

/// The manifest of the workspace of packages. Its profiles are those of `workspace`, the manifest of this one, so that what is
/// compiled for the one serves the other.
fn manifest(workspace: &str) -> String {
    let mut text = String::from("[workspace]\nresolver = \"3\"\nmembers = [\"onebit-*\"]\n\n");
    text.push_str("[patch.crates-io]\n");
    for name in LIBRARIES {
        let _ = writeln!(text, "{name} = {{ path = \"{name}-{VERSION}\" }}");
    }
    let mut is_profile = false;
    for line in workspace.lines() {
        if line.starts_with('[') {
            is_profile = line.starts_with("[profile.");
        }
        if is_profile {
            text += line;
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_taken_over() {
        let workspace =
            "[a]\nx = 1\n[profile.dev]\ny = 2\n\n[profile.dev.package.b]\nz = 3\n[c]\nw = 4\n";
        let manifest = manifest(workspace);
        assert!(
            manifest.ends_with("}\n[profile.dev]\ny = 2\n\n[profile.dev.package.b]\nz = 3\n"),
            "{manifest}"
        );
        assert!(manifest.contains("onebit-hub = { path = \"onebit-hub-"));
    }
}
