//! A cross compiler and an emulator for 64-bit Arm from Debian packages, unpacked into a folder of the
//! build directory: nothing is installed, and no privileges are needed.
//!
//! The Rust compiler is Debian's own, because the standard library for Arm that Debian has fits that
//! compiler only; cargo stays the one that runs this command.

use super::packages::Packages;
use anyhow::Context;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The platform that is built for.
pub(super) const TARGET: &str = "aarch64-unknown-linux-gnu";

/// Changes when what is unpacked changes, so that older folders are made anew.
const RECIPE: &str = "1";

/// Packages taken with everything they depend on.
const WITH_DEPENDENCIES: &[&str] = &[
    "libstd-rust-web-dev",
    "gcc-12-aarch64-linux-gnu",
    "libc6-dev-arm64-cross",
];

/// Packages taken alone.
const ALONE: &[&str] = &["rustc-web", "libstd-rust-web-dev:arm64", "qemu-user-static"];

/// A folder with compiler, linker, libraries and emulator.
#[derive(Debug)]
pub(super) struct Toolchain {
    dir: PathBuf,
}

impl Toolchain {
    /// The toolchain in `dir`, unpacked there first if need be.
    pub(super) fn at(dir: PathBuf) -> anyhow::Result<Self> {
        let stamp = dir.join("ready");
        let toolchain = Self { dir };
        if fs::read_to_string(&stamp).is_ok_and(|recipe| recipe == RECIPE) {
            return Ok(toolchain);
        }
        if toolchain.dir.exists() {
            fs::remove_dir_all(&toolchain.dir).context("cannot clear the toolchain's folder")?;
        }
        toolchain.unpack()?;
        toolchain.write_wrappers()?;
        fs::write(stamp, RECIPE)?;
        Ok(toolchain)
    }

    fn unpack(&self) -> anyhow::Result<()> {
        let packages = Packages::index(&self.dir.join("apt"))?;
        let mut names = packages.with_dependencies(WITH_DEPENDENCIES)?;
        names.extend(ALONE.iter().map(|name| (*name).to_owned()));
        packages.unpack(&names, &self.root())?;
        for entry in fs::read_dir(self.root().join("usr/bin"))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("qemu-") && name != "qemu-aarch64-static" {
                fs::remove_file(&path)?;
            }
        }
        fs::remove_dir_all(self.dir.join("apt"))?;
        Ok(())
    }

    /// Scripts that give the programs their libraries and the place of the others.
    fn write_wrappers(&self) -> anyhow::Result<()> {
        let root = self.root();
        let root = root.display();
        let script = |name: &str, program: &str, flag: &str| {
            let path = self.dir.join(name);
            let text = format!(
                "#!/bin/sh\nlib='{root}/usr/lib/x86_64-linux-gnu'\n\
                 LD_LIBRARY_PATH=\"$lib${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\" \
                 exec '{root}/usr/bin/{program}' {flag} \"$@\"\n"
            );
            fs::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        };
        script("rustc", "rustc", &format!("--sysroot '{root}/usr'"))?;
        script("rustdoc", "rustdoc", &format!("--sysroot '{root}/usr'"))?;
        script(
            "cc",
            "aarch64-linux-gnu-gcc-12",
            &format!("--sysroot='{root}'"),
        )?;
        script("ar", "aarch64-linux-gnu-ar", "")?;
        Ok(())
    }

    fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// Makes a cargo command build for Arm, into `target`, and run what it built on `cpu`.
    pub(super) fn configure(&self, cargo: &mut Command, target: &Path, cpu: &str) {
        let tool = |name: &str| self.dir.join(name);
        cargo
            .args(["--target", TARGET])
            .env("CARGO_TARGET_DIR", target)
            .env("RUSTC", tool("rustc"))
            .env("RUSTDOC", tool("rustdoc"))
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTFLAGS")
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", tool("cc"))
            .env("CC_aarch64_unknown_linux_gnu", tool("cc"))
            .env("AR_aarch64_unknown_linux_gnu", tool("ar"))
            .env(
                "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
                self.emulator(cpu),
            );
    }

    /// The emulator's command line, as cargo takes a runner.
    fn emulator(&self, cpu: &str) -> OsString {
        let root = self.root();
        let mut line = root.join("usr/bin/qemu-aarch64-static").into_os_string();
        line.push(format!(" -cpu {cpu} -L "));
        line.push(root.join("usr/aarch64-linux-gnu"));
        line
    }
}
