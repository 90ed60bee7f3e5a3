//! From a repository and a revision to a folder with files.

use crate::api::{self, FileInfo, Listing};
use crate::cache::{RepoCache, read_bounded};
use crate::client::Client;
use crate::download::Download;
use crate::error::{ErrorKind, HubError, Result};
use crate::names::is_relative_path;
use crate::progress::Progress;
use crate::repo::{RepoId, Revision};
use crate::settings::Settings;
use crate::snapshot::{Resolved, Snapshot};
use crate::space;
use crate::wanted::{self, INDEX, SINGLE, Want};
use std::collections::BTreeSet;
use std::path::PathBuf;
use ureq::http::Uri;

/// Largest index of shards read, in bytes; the conversion accepts no larger one.
const MAX_INDEX: u64 = 32 << 20;

/// The hub together with its cache on this machine.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
    client: Client,
}

/// A file that is still to be fetched.
struct Missing {
    name: String,
    url: Uri,
    info: FileInfo,
}

impl Hub {
    /// A hub as `settings` describe it. Nothing is asked and nothing written yet.
    ///
    /// # Errors
    /// [`HubError::Request`] for an endpoint that is no URL or for useless certificates, [`HubError::Io`] for
    /// certificates that cannot be read.
    pub fn new(settings: Settings) -> Result<Self> {
        let client = Client::new(&settings)?;
        Ok(Self { settings, client })
    }

    /// The settings it works with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Finds the commit that a revision means. A full commit hash means itself; a branch or a tag is asked for, and
    /// what it meant last is used where the hub cannot be reached or must not be asked.
    ///
    /// # Errors
    /// Kinds [`Missing`](ErrorKind::Missing), [`Network`](ErrorKind::Network), [`Cancelled`](ErrorKind::Cancelled).
    pub fn resolve(
        &self,
        repo: &RepoId,
        revision: &Revision,
        progress: &mut dyn Progress,
    ) -> Result<Resolved> {
        let resolved = |commit: &str, files| Resolved {
            repo: repo.clone(),
            revision: revision.clone(),
            commit: commit.to_owned(),
            files,
        };
        if revision.is_commit() {
            return Ok(resolved(revision.as_str(), None));
        }
        let cache = self.cache(repo);
        let known = cache.commit(revision);
        if self.settings.offline {
            // A commit whose hash is not a full one, and that somebody put there.
            let is_there = || {
                cache
                    .snapshot(revision.as_str())
                    .is_dir()
                    .then(|| revision.to_string())
            };
            let known = known.or_else(is_there);
            let missing = || self.offline(format!("{repo} at {revision}"));
            return Ok(resolved(&known.ok_or_else(missing)?, None));
        }
        match (
            self.listing(repo, revision, known.is_some(), progress),
            known,
        ) {
            (Ok(listing), _) => {
                if let Err(error) = self.cache(repo).set_commit(revision, &listing.commit) {
                    tracing::warn!("{error}");
                }
                Ok(resolved(&listing.commit, Some(listing.files)))
            }
            (Err(error), Some(known)) if error.kind() == ErrorKind::Network => {
                progress.note(&format!(
                    "{error}; using what {repo} was when it was last fetched"
                ));
                Ok(resolved(&known, None))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Makes sure that the files of a commit are in the cache, fetching those that are missing.
    ///
    /// # Errors
    /// Every kind but [`Request`](ErrorKind::Request). What was fetched before the error stays in the cache.
    pub fn fetch(
        &self,
        resolved: &Resolved,
        want: Want,
        progress: &mut dyn Progress,
    ) -> Result<Snapshot> {
        let cache = self.cache(&resolved.repo);
        if let Some(names) = self.cached(&cache, resolved, want, self.settings.offline)? {
            return Snapshot::of(&cache, &resolved.commit, &names);
        }
        if self.settings.offline {
            return Err(self.what_is_missing(&cache, resolved, want));
        }
        let listed;
        let files = match &resolved.files {
            Some(files) => files,
            None => {
                let commit: Revision = resolved.commit.parse()?;
                match self.listing(&resolved.repo, &commit, false, progress) {
                    Ok(listing) => listed = listing.files,
                    Err(error) if error.kind() == ErrorKind::Network => {
                        let names = self.cached(&cache, resolved, want, true)?.ok_or(error)?;
                        return Snapshot::of(&cache, &resolved.commit, &names);
                    }
                    Err(error) => return Err(error),
                }
                &listed
            }
        };
        if !files.contains(want.required()) {
            let (repo, required) = (&resolved.repo, want.required());
            return Err(HubError::NotFound(format!("{repo} has no {required}")));
        }
        let mut names: Vec<String> = Vec::new();
        for name in want.texts() {
            match files.contains(*name) {
                true => names.push((*name).to_owned()),
                false => cache.set_absent(&resolved.commit, name),
            }
        }
        if want == Want::Model {
            names.push(self.weights(&cache, resolved, files)?.to_owned());
        }
        self.fetch_files(&cache, resolved, &names, progress)?;
        if want == Want::Model && names.last().is_some_and(|name| name == INDEX) {
            let shards = self.shards(&cache, resolved)?;
            if let Some(missing) = shards.iter().find(|shard| !files.contains(*shard)) {
                return Err(HubError::Content {
                    file: INDEX.into(),
                    reason: format!(
                        "it names the shard {missing}, which {} does not have",
                        resolved.repo
                    ),
                });
            }
            let shards: Vec<String> = shards.into_iter().collect();
            self.fetch_files(&cache, resolved, &shards, progress)?;
            names.extend(shards);
        }
        Snapshot::of(&cache, &resolved.commit, &names)
    }

    fn cache(&self, repo: &RepoId) -> RepoCache {
        RepoCache::new(&self.settings.cache, repo, self.settings.symlinks)
    }

    fn offline(&self, what: String) -> HubError {
        HubError::Offline {
            what,
            cache: self.settings.cache.clone(),
        }
    }

    /// Asks the hub; patiently unless something else would do.
    fn listing(
        &self,
        repo: &RepoId,
        revision: &Revision,
        has_else: bool,
        progress: &mut dyn Progress,
    ) -> Result<Listing> {
        let Settings {
            endpoint,
            metadata_timeout,
            ..
        } = &self.settings;
        let mut unreachable = None;
        let retries = if has_else { 0 } else { self.client.retries() };
        let listing = self.client.retrying(retries, progress, |progress| {
            match api::listing(
                &self.client,
                endpoint,
                (repo, revision),
                *metadata_timeout,
                progress,
            ) {
                Err(
                    error @ HubError::Network {
                        unreachable: true, ..
                    },
                ) => {
                    unreachable = Some(error);
                    Ok(None)
                }
                other => other.map(Some),
            }
        })?;
        match (listing, unreachable) {
            (Some(listing), _) => Ok(listing),
            (None, Some(error)) => Err(error),
            (None, None) => unreachable!("an answer or a reason"),
        }
    }

    /// Which file holds the weights, or lists those that do.
    fn weights(
        &self,
        cache: &RepoCache,
        resolved: &Resolved,
        files: &BTreeSet<String>,
    ) -> Result<&'static str> {
        if files.contains(SINGLE) {
            return Ok(SINGLE);
        }
        cache.set_absent(&resolved.commit, SINGLE);
        if files.contains(INDEX) {
            return Ok(INDEX);
        }
        Err(wanted::no_weights(resolved.repo.as_str(), files))
    }

    fn shards(&self, cache: &RepoCache, resolved: &Resolved) -> Result<BTreeSet<String>> {
        let path = cache.snapshot(&resolved.commit).join(INDEX);
        wanted::shards(&read_bounded(&path, MAX_INDEX).map_err(HubError::io("read", &path))?)
    }

    /// The names of all files wanted, where the cache has them. Optional files that it does not have must be known
    /// to be absent, unless there is no way to ask.
    fn cached(
        &self,
        cache: &RepoCache,
        resolved: &Resolved,
        want: Want,
        is_last_resort: bool,
    ) -> Result<Option<Vec<String>>> {
        let has = |name: &str| cache.file(&resolved.commit, name).is_some();
        let is_absent = |name: &str| match &resolved.files {
            Some(files) => !files.contains(name),
            None => is_last_resort || cache.is_absent(&resolved.commit, name),
        };
        let settled = |name: &str| has(name) || is_absent(name);
        if !has(want.required()) || !want.texts().iter().all(|name| settled(name)) {
            return Ok(None);
        }
        let mut names: Vec<String> = want
            .texts()
            .iter()
            .filter(|name| has(name))
            .map(|name| (*name).into())
            .collect();
        if want != Want::Model {
            return Ok(Some(names));
        }
        if has(SINGLE) {
            names.push(SINGLE.into());
        } else if has(INDEX) && is_absent(SINGLE) {
            let shards = self.shards(cache, resolved)?;
            if !shards.iter().all(|shard| has(shard)) {
                return Ok(None);
            }
            names.push(INDEX.into());
            names.extend(shards);
        } else {
            return Ok(None);
        }
        Ok(Some(names))
    }

    /// Names the first file that the cache does not have.
    fn what_is_missing(&self, cache: &RepoCache, resolved: &Resolved, want: Want) -> HubError {
        let has = |name: &str| cache.file(&resolved.commit, name).is_some();
        let shards = || {
            self.shards(cache, resolved)
                .ok()?
                .into_iter()
                .find(|shard| !has(shard))
        };
        let name = match want.required() {
            required if !has(required) => required.to_owned(),
            _ => shards().unwrap_or_else(|| SINGLE.into()),
        };
        let Resolved {
            repo,
            revision,
            commit,
            ..
        } = resolved;
        let place = match revision.is_commit() {
            true => format!("{repo} at {commit}"),
            false => format!("{repo} at {revision} ({commit})"),
        };
        self.offline(format!("{name} of {place}"))
    }

    fn fetch_files(
        &self,
        cache: &RepoCache,
        resolved: &Resolved,
        names: &[String],
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let mut missing = Vec::new();
        for name in names {
            if cache.file(&resolved.commit, name).is_none() {
                missing.push(self.ask(resolved, name, progress)?);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let size_of = |path: PathBuf| std::fs::metadata(path).map_or(0, |meta| meta.len());
        let left = |info: &FileInfo| match cache.blob(&info.etag).is_file() {
            true => 0,
            false => info
                .size
                .unwrap_or(0)
                .saturating_sub(size_of(cache.part(&info.etag))),
        };
        let needed = missing
            .iter()
            .fold(0u64, |sum, file| sum.saturating_add(left(&file.info)));
        space::check(&self.settings.cache, needed)?;
        progress.begin(missing.iter().fold(0, |sum, file| {
            file.info.size.unwrap_or(0).saturating_add(sum)
        }));
        let mut before = 0;
        for Missing { name, url, info } in missing {
            let download = Download {
                client: &self.client,
                cache,
                repo: &resolved.repo,
                commit: &resolved.commit,
                name: &name,
                url,
                info: &info,
                silence: self.settings.download_timeout,
                before,
            };
            download.run(progress)?;
            before = before.saturating_add(info.size.unwrap_or(0));
            progress.at(&name, before);
        }
        Ok(())
    }

    /// Asks for the hash and the size of a file.
    fn ask(&self, resolved: &Resolved, name: &str, progress: &mut dyn Progress) -> Result<Missing> {
        debug_assert!(is_relative_path(name), "{name} was checked");
        let Settings {
            endpoint,
            metadata_timeout,
            ..
        } = &self.settings;
        let url = api::file_url(endpoint, &resolved.repo, &resolved.commit, name)?;
        let info = self
            .client
            .retrying(self.client.retries(), progress, |progress| {
                api::file_info(
                    &self.client,
                    &resolved.repo,
                    (&url, name),
                    *metadata_timeout,
                    progress,
                )
            })?;
        let largest = wanted::largest(name).unwrap_or(u64::MAX);
        if info.size.is_some_and(|size| size > largest) {
            return Err(HubError::Content {
                file: name.into(),
                reason: format!(
                    "{} bytes are announced, more than the {largest} accepted",
                    info.size.unwrap_or(0)
                ),
            });
        }
        Ok(Missing {
            name: name.to_owned(),
            url,
            info,
        })
    }
}
