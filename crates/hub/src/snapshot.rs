//! What a revision means, and the files of it that are here.

use crate::cache::RepoCache;
use crate::error::{HubError, Result};
use crate::repo::{RepoId, Revision};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// A revision and the commit that it means.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub(crate) repo: RepoId,
    pub(crate) revision: Revision,
    pub(crate) commit: String,
    /// The names of all files; `None` where the hub was not asked.
    pub(crate) files: Option<BTreeSet<String>>,
}

/// Files of one commit on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The folder they are in. Other files of the same commit may be there too.
    pub folder: PathBuf,
    /// The files that were asked for and that exist, by name.
    pub files: Vec<SnapshotFile>,
}

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Its name in the repository.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The hash that the hub knows it by: SHA-256 for large files, else git's. `None` where the cache has no links.
    pub etag: Option<String>,
}

impl Resolved {
    /// The repository.
    pub fn repo(&self) -> &RepoId {
        &self.repo
    }

    /// The revision that was asked for.
    pub fn revision(&self) -> &Revision {
        &self.revision
    }

    /// The hash of the commit.
    pub fn commit(&self) -> &str {
        &self.commit
    }
}

impl Snapshot {
    /// The files of a commit, which are there.
    pub(crate) fn of(cache: &RepoCache, commit: &str, names: &[String]) -> Result<Self> {
        let folder = cache.snapshot(commit);
        let files = names.iter().map(|name| {
            let path = folder.join(name);
            let meta = std::fs::metadata(&path).map_err(HubError::io("read", &path))?;
            Ok(SnapshotFile {
                name: name.clone(),
                bytes: meta.len(),
                etag: cache.etag(commit, name),
            })
        });
        Ok(Self {
            files: files.collect::<Result<_>>()?,
            folder,
        })
    }
}
