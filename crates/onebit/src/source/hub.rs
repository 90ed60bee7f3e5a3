//! MODEL on the Hugging Face Hub: fetched into the hub's cache, converted into ours.
//!
//! Beside the converted files lies what was learned about each repository: which commit a revision meant, and which
//! file a commit was converted into. So a second start converts nothing, and without a network a converted file is
//! enough even where the hub's cache is gone.

use super::cache;
use super::memory::{Memory, is_out_of_reach};
use crate::cli::HubArgs;
use crate::progress::{ConversionBar, DownloadBar};
use crate::{exit, note};
use onebit_convert::{Options, check_config};
use onebit_format::PackedFile;
use onebit_hub::{Hub, HubError, RepoId, Resolved, Revision, Settings, Snapshot, Want};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};

/// A model of the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubModel {
    repo: RepoId,
    revision: Revision,
    offline: bool,
}

impl fmt::Display for HubModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.revision == Revision::default() {
            write!(f, "{}", self.repo)
        } else {
            write!(f, "{}@{}", self.repo, self.revision)
        }
    }
}

/// Where a tokenizer is.
pub(super) enum TokenizerPlace {
    Folder(PathBuf),
    Packed(PathBuf),
}

impl HubModel {
    /// Reads `user/name[@revision]`; `None` for what looks more like a path that leads nowhere.
    ///
    /// # Errors
    /// Exit code 2 for a revision that is none, or for two different ones.
    pub(super) fn parse(path: &Path, args: &HubArgs) -> anyhow::Result<Option<Self>> {
        let Some(text) = path.to_str() else {
            return Ok(None);
        };
        let (id, inside) = match text.split_once('@') {
            Some((id, revision)) => (id, Some(revision)),
            None => (text, None),
        };
        let Ok(repo) = id.parse::<RepoId>() else {
            return Ok(None);
        };
        let revision = match (inside, args.revision.as_deref()) {
            (Some(one), Some(other)) if one != other => {
                return Err(exit::request(format!(
                    "{text} and --revision {other} are two revisions"
                )));
            }
            (inside, outside) => inside.or(outside),
        };
        if revision.is_none() && looks_like_a_path(id) {
            return Ok(None);
        }
        Ok(Some(Self {
            repo,
            revision: revision.map_or(Ok(Revision::default()), str::parse)?,
            offline: args.offline,
        }))
    }

    /// Opens the converted model with `open`, fetching and converting what is missing. Where the hub is out of reach
    /// and its cache does not have the model, what was converted last is enough.
    pub(super) fn open(
        &self,
        open: impl Fn(&Path) -> anyhow::Result<PackedFile>,
    ) -> anyhow::Result<PackedFile> {
        let mut memory = Memory::of(&self.repo)?;
        let error = match self.fetch_and_open(&mut memory, &open) {
            Ok(file) => return Ok(file),
            Err(error) => error,
        };
        let cause = error.downcast_ref::<HubError>();
        let commit = cause.and_then(|cause| memory.commit_without(cause, &self.revision));
        match memory.packed(commit) {
            Some(packed) => {
                if !self.offline {
                    note!("{error}; using {self} as it was converted last");
                }
                open(&packed)
            }
            None => Err(error),
        }
    }

    fn fetch_and_open(
        &self,
        memory: &mut Memory,
        open: &dyn Fn(&Path) -> anyhow::Result<PackedFile>,
    ) -> anyhow::Result<PackedFile> {
        let hub = self.hub()?;
        let mut bar = DownloadBar::new()?;
        let resolved = hub.resolve(&self.repo, &self.revision, &mut bar)?;
        if let Some(packed) = memory.packed(Some(resolved.commit())) {
            match open(&packed) {
                Ok(file) => {
                    memory.learn(&self.revision, resolved.commit(), None);
                    return Ok(file);
                }
                Err(error) => {
                    tracing::warn!("converting again, the cached file is broken: {error:#}")
                }
            }
        }
        let snapshot = fetch_model(&hub, &resolved, &mut bar)?;
        drop(bar);
        let packed = cache::created_directory()?.join(packed_name(&resolved, &snapshot));
        let mut options = Options::default();
        name_source(&mut options, &resolved);
        let mut bar = ConversionBar::new()?;
        let file = cache::open_or_convert(&packed, &snapshot.folder, options, &mut bar, open)?;
        memory.learn(&self.revision, resolved.commit(), Some(&packed));
        Ok(file)
    }

    /// Fetches the checkpoint, and has the conversion name it as its source.
    pub(super) fn checkpoint(&self, options: &mut Options) -> anyhow::Result<PathBuf> {
        let hub = self.hub()?;
        let mut bar = DownloadBar::new()?;
        let resolved = hub.resolve(&self.repo, &self.revision, &mut bar)?;
        name_source(options, &resolved);
        Ok(fetch_model(&hub, &resolved, &mut bar)?.folder)
    }

    /// Fetches the tokenizer's files only; without a network a converted model has them too.
    pub(super) fn tokenizer(&self) -> anyhow::Result<TokenizerPlace> {
        let hub = self.hub()?;
        let memory = Memory::of(&self.repo)?;
        let mut bar = DownloadBar::new()?;
        let mut commit = None;
        let fetched = hub
            .resolve(&self.repo, &self.revision, &mut bar)
            .and_then(|resolved| {
                commit = Some(resolved.commit().to_owned());
                hub.fetch(&resolved, Want::Tokenizer, &mut bar)
            });
        fetched
            .map(|snapshot| TokenizerPlace::Folder(snapshot.folder))
            .or_else(|error| {
                let known = memory.commit_without(&error, &self.revision);
                let packed = memory.packed(
                    commit
                        .as_deref()
                        .filter(|_| is_out_of_reach(&error))
                        .or(known),
                );
                packed
                    .map(TokenizerPlace::Packed)
                    .ok_or_else(|| error.into())
            })
    }

    fn hub(&self) -> anyhow::Result<Hub> {
        let mut settings = Settings::from_env()?;
        settings.offline |= self.offline;
        Ok(Hub::new(settings)?)
    }
}

/// Fetches the description first, so that a model of a kind that is refused costs no download.
fn fetch_model(hub: &Hub, resolved: &Resolved, bar: &mut DownloadBar) -> anyhow::Result<Snapshot> {
    let description = hub.fetch(resolved, Want::Description, bar)?;
    check_config(&description.folder)?;
    Ok(hub.fetch(resolved, Want::Model, bar)?)
}

fn name_source(options: &mut Options, resolved: &Resolved) {
    options.source = Some(resolved.repo().to_string());
    options.revision = Some(resolved.commit().to_owned());
}

/// A name made from the commit and the hashes of its files.
fn packed_name(resolved: &Resolved, snapshot: &Snapshot) -> String {
    let mut all = Sha256::new();
    all.update(concat!("onebit ", env!("CARGO_PKG_VERSION"), "\0"));
    all.update(format!("{}\0", resolved.commit()));
    for file in &snapshot.files {
        let etag = file.etag.as_deref().unwrap_or_default();
        all.update(format!("{}\0{}\0{etag}\0", file.name, file.bytes));
    }
    let repo = resolved.repo().as_str().replace('/', "--");
    format!("{repo}-{}.onebit", &cache::hex(&all.finalize())[..16])
}

/// A path that names no file, rather than a model: it ends as files do, or begins with a folder that is there.
fn looks_like_a_path(id: &str) -> bool {
    let ends = [".onebit", ".safetensors", ".gguf"]
        .iter()
        .any(|end| id.ends_with(end));
    ends || id
        .split_once('/')
        .is_some_and(|(folder, _)| Path::new(folder).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, revision: Option<&str>) -> anyhow::Result<Option<HubModel>> {
        let args = HubArgs {
            revision: revision.map(str::to_owned),
            offline: false,
        };
        HubModel::parse(Path::new(text), &args)
    }

    #[test]
    fn hub_ids_are_told_from_missing_files() {
        for (text, revision, shown) in [
            (
                "microsoft/bitnet-b1.58-2B-4T",
                None,
                "microsoft/bitnet-b1.58-2B-4T",
            ),
            ("user/name@main", None, "user/name"),
            ("user/name@v1", None, "user/name@v1"),
            ("user/name@v1", Some("v1"), "user/name@v1"),
            ("user/name", Some("refs/pr/1"), "user/name@refs/pr/1"),
            ("src/b@main", None, "src/b"),
        ] {
            assert_eq!(parse(text, revision).unwrap().unwrap().to_string(), shown);
        }
        for path in [
            "model.onebit",
            "dir/model.onebit",
            "/a/b",
            "./a/b",
            "a/b/c",
            "../x",
            "src/b",
            "a/b--c",
        ] {
            assert_eq!(parse(path, None).unwrap(), None, "{path}");
        }
    }

    #[test]
    fn revisions_must_agree_and_be_some() {
        for (text, revision) in [
            ("a/b@v1", Some("v2")),
            ("a/b@", None),
            ("a/b@..", None),
            ("a/b", Some("x\\y")),
        ] {
            let error = parse(text, revision).unwrap_err();
            assert_eq!(crate::code_of(&error), exit::Code::Request, "{text}");
        }
    }
}
