//! What was learned about repositories of the hub, beside the converted files.

use super::cache;
use crate::whole_file;
use onebit_hub::{ErrorKind, HubError, RepoId, Revision};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What was learned about a repository.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Learned {
    repo: String,
    /// Revisions, and the commits that they meant last.
    revisions: BTreeMap<String, String>,
    /// Commits, and the files that they were converted into.
    packed: BTreeMap<String, Packed>,
}

/// A converted file and the program that made it.
#[derive(Debug, Serialize, Deserialize)]
struct Packed {
    program: String,
    file: String,
}

/// What was learned about a repository, and the file that keeps it.
#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    learned: Learned,
}

impl Memory {
    /// What is known about `repo`; nothing where nothing is.
    pub(super) fn of(repo: &RepoId) -> anyhow::Result<Self> {
        let name = cache::hex(&Sha256::digest(repo.as_str()));
        let path = cache::directory()?.join(format!("{}.hub.json", &name[..16]));
        let read = std::fs::read(&path).ok();
        let learned = read.and_then(|json| serde_json::from_slice::<Learned>(&json).ok());
        let learned = learned.filter(|learned| learned.repo == repo.as_str());
        Ok(Self {
            path,
            learned: learned.unwrap_or_else(|| Learned {
                repo: repo.to_string(),
                ..Learned::default()
            }),
        })
    }

    /// The commit that a revision meant last, where `error` only says that nobody could be asked.
    pub(super) fn commit_without(&self, error: &HubError, revision: &Revision) -> Option<&str> {
        let known = self
            .learned
            .revisions
            .get(revision.as_str())
            .map(String::as_str);
        known.filter(|_| is_out_of_reach(error))
    }

    /// The file that a commit was converted into by this version of the program.
    pub(super) fn packed(&self, commit: Option<&str>) -> Option<PathBuf> {
        let packed = self.learned.packed.get(commit?)?;
        let is_plain = Path::new(&packed.file).file_name() == Some(packed.file.as_ref());
        let path = self.path.with_file_name(&packed.file);
        (packed.program == env!("CARGO_PKG_VERSION") && is_plain && path.is_file()).then_some(path)
    }

    /// Remembers what a revision means, and what it was converted into. A cache that cannot be written to costs a
    /// conversion, not the model.
    pub(super) fn learn(&mut self, revision: &Revision, commit: &str, packed: Option<&Path>) {
        let before = self
            .learned
            .revisions
            .insert(revision.to_string(), commit.to_owned());
        if packed.is_none() && before.as_deref() == Some(commit) {
            return;
        }
        if let Some(file) = packed.and_then(Path::file_name) {
            let program = env!("CARGO_PKG_VERSION").to_owned();
            let file = file.to_string_lossy().into_owned();
            self.learned
                .packed
                .insert(commit.to_owned(), Packed { program, file });
        }
        let json = serde_json::to_vec(&self.learned).unwrap_or_default();
        if let Err(error) = whole_file::write(&self.path, &json) {
            tracing::warn!("cannot remember {}: {error:#}", self.learned.repo);
        }
    }
}

/// Whether the hub could not be asked, rather than gave an answer.
pub(super) fn is_out_of_reach(error: &HubError) -> bool {
    error.kind() == ErrorKind::Network || matches!(error, HubError::Offline { .. })
}
