//! A small checkpoint to be broken.

use crate::child::{Ended, onebit};
use crate::{arg, fixture};
use onebit_convert::{ConvertError, ErrorKind, Options, convert};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// A folder with a checkpoint in `source` and room for an output in `out`.
pub(crate) struct Place {
    dir: TempDir,
}

pub(crate) const WEIGHTS: &str = "model.safetensors";

impl Place {
    /// A copy of a checkpoint of the fixtures.
    pub(crate) fn of(checkpoint: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Self { dir };
        fs::create_dir(place.source()).unwrap();
        fs::create_dir(place.out()).unwrap();
        for entry in fs::read_dir(fixture("checkpoints").join(checkpoint)).unwrap() {
            let entry = entry.unwrap();
            if !entry.file_name().to_str().unwrap().starts_with("golden") {
                fs::copy(
                    entry.path(),
                    place.file(entry.file_name().to_str().unwrap()),
                )
                .unwrap();
            }
        }
        place
    }

    /// A Llama with packed weights and without a tokenizer.
    pub(crate) fn new() -> Self {
        Self::of("llama_bitlinear")
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.source().join(name)
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.out().join("model.onebit")
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.file(name), bytes).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).unwrap();
    }

    pub(crate) fn config(&self) -> Value {
        serde_json::from_slice(&self.read("config.json")).unwrap()
    }

    /// Converts through the library.
    pub(crate) fn convert(&self) -> Result<(), ConvertError> {
        convert(&self.source(), &self.output(), &Options::default(), &mut ()).map(drop)
    }

    /// Converts through the program.
    pub(crate) fn convert_outside(&self) -> Ended {
        onebit(&["convert", arg(&self.source()), "-o", arg(&self.output())])
    }

    /// Fails unless nothing is at the output, nor beside it.
    #[track_caller]
    pub(crate) fn empty(&self, name: &str) {
        let left: Vec<_> = fs::read_dir(self.out()).unwrap().collect();
        assert!(left.is_empty(), "{name}: {left:?}");
    }

    /// Fails unless the library refuses it with one of `codes` and each of `words`; `outside` asks the program too.
    #[track_caller]
    pub(crate) fn refused(&self, name: &str, codes: &[i32], words: &[&str], outside: bool) {
        let error = self.convert().expect_err(name);
        let code = match error.kind() {
            ErrorKind::Request => 2,
            ErrorKind::Malformed => 3,
            ErrorKind::Unsupported => 4,
            _ => 1,
        };
        assert!(codes.contains(&code), "{name}: code {code}: {error}");
        let text = error.to_string();
        for word in words {
            assert!(text.contains(word), "{name}: `{word}` is not in: {text}");
        }
        assert!(
            text.len() < 2000,
            "{name}: a message of {} bytes",
            text.len()
        );
        self.empty(name);
        if outside {
            let bytes = fs::read_dir(self.source()).into_iter().flatten();
            let bytes = bytes.map(|entry| entry.unwrap().metadata().map_or(0, |found| found.len()));
            self.convert_outside()
                .refused_for(&[code], words, bytes.sum());
            self.empty(name);
        }
    }
}
