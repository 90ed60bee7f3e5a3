//! Debian packages without installing them: apt with an index, a cache and a status of its own.

use crate::process::{output, run};
use anyhow::{Context, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The release whose packages are taken; it brings the compiler as a security update.
const SOURCES: &[&str] = &[
    "http://deb.debian.org/debian bookworm main",
    "http://deb.debian.org/debian-security bookworm-security main",
];

/// Libraries of the machine itself, never replaced: they belong to its loader.
const LEAVE: &[&str] = &["libc6", "libgcc-s1", "libstdc++6", "gcc-12-base"];

/// The packages of a Debian release for two architectures.
pub(super) struct Packages {
    /// Folder of apt's own files.
    dir: PathBuf,
}

impl Packages {
    /// Fetches the index into the new folder `dir`.
    pub(super) fn index(dir: &Path) -> anyhow::Result<Self> {
        if !Path::new(KEYRING).is_file() {
            bail!(
                "there is no {KEYRING} to check Debian's packages with (package debian-archive-keyring)"
            );
        }
        for folder in ["lists/partial", "archives/partial", "debs"] {
            let folder = dir.join(folder);
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let packages = Self {
            dir: dir.to_owned(),
        };
        let sources: String = SOURCES
            .iter()
            .map(|source| format!("deb [signed-by={KEYRING}] {source}\n"))
            .collect();
        fs::write(dir.join("sources.list"), sources)?;
        fs::write(dir.join("status"), "")?;
        fs::write(dir.join("apt.conf"), packages.config())?;
        run(packages.apt("apt-get", &["update", "-qq", "--error-on=any"]))?;
        Ok(packages)
    }

    fn config(&self) -> String {
        let dir = self.dir.display();
        format!(
            "Dir::State \"{dir}\";\n\
             Dir::State::lists \"{dir}/lists\";\n\
             Dir::State::status \"{dir}/status\";\n\
             Dir::Cache \"{dir}\";\n\
             Dir::Etc::sourcelist \"{dir}/sources.list\";\n\
             Dir::Etc::sourceparts \"-\";\n\
             APT::Architecture \"amd64\";\n\
             APT::Architectures {{ \"amd64\"; \"arm64\"; }};\n\
             APT::Sandbox::User \"\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::Retries \"2\";\n"
        )
    }

    fn apt(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .env("APT_CONFIG", self.dir.join("apt.conf"))
            .current_dir(self.dir.join("debs"));
        command
    }

    /// `names` and what they depend on.
    pub(super) fn with_dependencies(&self, names: &[&str]) -> anyhow::Result<Vec<String>> {
        let mut depends = self.apt("apt-cache", &["depends", "--recurse"]);
        for kind in [
            "recommends",
            "suggests",
            "conflicts",
            "breaks",
            "replaces",
            "enhances",
        ] {
            depends.arg(format!("--no-{kind}"));
        }
        depends.args(names);
        Ok(dependencies(&output(depends)?))
    }

    /// Downloads packages and unpacks them below `root`.
    pub(super) fn unpack(&self, names: &[String], root: &Path) -> anyhow::Result<()> {
        let mut download = self.apt("apt-get", &["download", "-qq"]);
        download.args(names);
        run(download)?;
        for entry in fs::read_dir(self.dir.join("debs"))? {
            let mut extract = Command::new("dpkg-deb");
            extract.arg("-x").arg(entry?.path()).arg(root);
            output(extract)?;
        }
        Ok(())
    }
}

/// The packages in what `apt-cache depends --recurse` prints: they stand at the beginning of lines,
/// virtual ones in angle brackets.
fn dependencies(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_alphanumeric()))
        .filter(|name| !LEAVE.contains(name))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn dependencies_are_read_from_apt() {
        let text = "libllvm22\n  Depends: libc6\n  Depends: libxml2\n    libxml2:arm64\n<virtual>\n\
                    libc6\nlibxml2\n  PreDepends: zlib1g\n";
        assert_eq!(super::dependencies(text), ["libllvm22", "libxml2"]);
    }
}
