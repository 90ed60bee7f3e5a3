//! What `verify` says about correct packed files, and what it catches in wrong ones.

mod caught;
#[allow(dead_code)]
#[path = "../it/common.rs"]
mod common;
mod correct;
mod few_bits;
mod made;
mod mutate;
mod requests;

use std::fs;
use std::path::{Path, PathBuf};

use onebit_convert::{ConvertError, DownType, Options, Verification, Verify, convert, verify};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// Every checkpoint of the fixtures, the demo model's last.
fn sources() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir(fixtures().join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("config.json").is_file())
        .collect();
    folders.sort();
    assert!(folders.len() >= 16, "{folders:?}");
    folders.push(demo());
    folders
}

fn demo() -> PathBuf {
    fixtures().join("demo/checkpoint")
}

fn checkpoint(name: &str) -> PathBuf {
    fixtures().join("checkpoints").join(name)
}

/// A folder for packed files.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("a.onebit")
    }

    /// Packs a checkpoint; fails where its weights do not take these types.
    fn pack(&self, source: &Path, options: &Options) -> Result<PathBuf, ConvertError> {
        let mut options = options.clone();
        options.force = true;
        convert(source, &self.path(), &options, &mut ())?;
        Ok(self.path())
    }
}

/// What was measured, and why it is not good enough.
fn measure(source: &Path, packed: &Path, tokens: usize) -> (Verification, Option<String>) {
    match verify(source, packed, &Verify::new(tokens), &mut ()) {
        Ok(found) => (found, None),
        Err(ConvertError::Verification { reason, found }) => (*found, Some(reason)),
        Err(other) => panic!("{}: {other}", source.display()),
    }
}
