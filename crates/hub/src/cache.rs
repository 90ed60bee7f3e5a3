//! The folder of one repository in the cache, laid out as `huggingface_hub` does:
//!
//! ```text
//! CACHEDIR.TAG
//! .locks/models--user--name/<etag>.lock
//! models--user--name/blobs/<etag>                        the content; <etag>.incomplete while it is being fetched
//!                    refs/<revision>                     the commit that a branch or tag meant when last asked for
//!                    snapshots/<commit>/<file>           -> ../../blobs/<etag>
//!                    .no_exist/<commit>/<file>           empty: the commit is known not to have the file
//! ```

use crate::error::{HubError, Result};
use crate::names::is_component;
use crate::repo::{RepoId, Revision};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This folder is a cache; backups may leave it out. See https://bford.info/cachedir/\n";

/// Longest file of a reference, in bytes: a commit and the line end that an editor adds.
const MAX_REFERENCE: u64 = 1 << 10;

/// The folder of one repository.
#[derive(Clone, Debug)]
pub(crate) struct RepoCache {
    root: PathBuf,
    repo: String,
    symlinks: bool,
}

impl RepoCache {
    pub(crate) fn new(root: &Path, repo: &RepoId, symlinks: bool) -> Self {
        Self {
            root: root.to_owned(),
            repo: repo.folder_name(),
            symlinks,
        }
    }

    fn folder(&self) -> PathBuf {
        self.root.join(&self.repo)
    }

    /// The folder with the files of a commit.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder().join("snapshots").join(commit)
    }

    /// Where the content with that etag lies.
    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.folder().join("blobs").join(etag)
    }

    /// Where content with that etag lies as long as it is not complete.
    pub(crate) fn part(&self, etag: &str) -> PathBuf {
        self.blob(&format!("{etag}.incomplete"))
    }

    /// The file whose lock is held while that content is being fetched.
    pub(crate) fn lock(&self, etag: &str) -> PathBuf {
        self.root
            .join(".locks")
            .join(&self.repo)
            .join(format!("{etag}.lock"))
    }

    /// The file of a commit, where the cache has it.
    pub(crate) fn file(&self, commit: &str, name: &str) -> Option<PathBuf> {
        Some(self.snapshot(commit).join(name)).filter(|path| path.is_file())
    }

    /// The etag of a file of a commit, where a link tells.
    pub(crate) fn etag(&self, commit: &str, name: &str) -> Option<String> {
        let target = fs::read_link(self.snapshot(commit).join(name)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// Whether a commit is known not to have a file.
    pub(crate) fn is_absent(&self, commit: &str, name: &str) -> bool {
        self.folder()
            .join(".no_exist")
            .join(commit)
            .join(name)
            .is_file()
    }

    /// Remembers that a commit does not have a file. That is worth no error.
    pub(crate) fn set_absent(&self, commit: &str, name: &str) {
        let path = self.folder().join(".no_exist").join(commit).join(name);
        if !path.exists() && make_parent(&path).is_ok() {
            let _ = fs::File::create(&path);
        }
    }

    /// The commit that a revision meant when it was last asked for.
    pub(crate) fn commit(&self, revision: &Revision) -> Option<String> {
        let bytes = read_bounded(&self.reference(revision), MAX_REFERENCE).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_component(commit))
    }

    /// Remembers what a revision means. A cache that cannot be written to may know it already.
    pub(crate) fn set_commit(&self, revision: &Revision, commit: &str) -> Result<()> {
        if revision.as_str() == commit || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.reference(revision);
        make_parent(&path)?;
        let temporary = beside(&path, "tmp");
        fs::write(&temporary, commit)
            .and_then(|()| fs::rename(&temporary, &path))
            .inspect_err(|_| drop(fs::remove_file(&temporary)))
            .map_err(HubError::io("write", &path))
    }

    fn reference(&self, revision: &Revision) -> PathBuf {
        self.folder().join("refs").join(revision.as_str())
    }

    /// Makes the folders that a blob needs.
    pub(crate) fn prepare(&self, etag: &str) -> Result<()> {
        make_parent(&self.blob(etag))?;
        let tag = self.root.join("CACHEDIR.TAG");
        if let Ok(mut file) = fs::File::options().write(true).create_new(true).open(tag) {
            let _ = file.write_all(TAG.as_bytes());
        }
        Ok(())
    }

    /// Makes a file of a commit out of a blob: a link, or where that is impossible the blob itself if it is new, else
    /// a copy of it.
    pub(crate) fn point(&self, commit: &str, name: &str, etag: &str, is_new: bool) -> Result<()> {
        let pointer = self.snapshot(commit).join(name);
        if pointer.is_file() {
            return Ok(());
        }
        make_parent(&pointer)?;
        let up = "../".repeat(2 + name.matches('/').count());
        let target = format!("{up}blobs/{etag}");
        match self.link(&target, &pointer) {
            Ok(()) => return Ok(()),
            // Either another process was faster, or the link leads nowhere because somebody removed the blob.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if pointer.is_file() {
                    return Ok(());
                }
                fs::remove_file(&pointer)
                    .and_then(|()| self.link(&target, &pointer))
                    .or_else(|_| self.put(etag, &pointer, is_new))
            }
            Err(_) => self.put(etag, &pointer, is_new),
        }
        .map_err(HubError::io("write", &pointer))
    }

    fn link(&self, target: &str, pointer: &Path) -> io::Result<()> {
        if !self.symlinks {
            return Err(io::ErrorKind::Unsupported.into());
        }
        #[cfg(unix)]
        return std::os::unix::fs::symlink(target, pointer);
        #[cfg(windows)]
        return std::os::windows::fs::symlink_file(target.replace('/', "\\"), pointer);
        #[cfg(not(any(unix, windows)))]
        Err(io::ErrorKind::Unsupported.into())
    }

    fn put(&self, etag: &str, pointer: &Path, is_new: bool) -> io::Result<()> {
        let blob = self.blob(etag);
        if is_new {
            return fs::rename(&blob, pointer);
        }
        let temporary = beside(pointer, "tmp");
        fs::copy(&blob, &temporary)
            .and_then(|_| fs::rename(&temporary, pointer))
            .inspect_err(|_| drop(fs::remove_file(&temporary)))
    }
}

/// Makes the folder that `path` will be in.
pub(crate) fn make_parent(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(HubError::io("create the folder", folder))
}

/// A name beside `path` that no other process and no other thread uses.
pub(crate) fn beside(path: &Path, extension: &str) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let unique = format!(
        ".{:x}-{:x}-{:x}.{extension}",
        std::process::id(),
        now.unwrap_or_default().subsec_nanos(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(unique);
    path.with_file_name(name)
}

/// Reads a regular file of at most `max` bytes; opening a pipe would block, and a device may never end.
pub(crate) fn read_bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let found = fs::metadata(path)?;
    if !found.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if found.len() > max {
        let reason = format!("{} bytes, more than the {max} accepted", found.len());
        return Err(io::Error::other(reason));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(symlinks: bool) -> (tempfile::TempDir, RepoCache) {
        let root = tempfile::tempdir().unwrap();
        let cache = RepoCache::new(root.path(), &"user/name".parse().unwrap(), symlinks);
        for (etag, content) in [("one", "1"), ("two", "2")] {
            cache.prepare(etag).unwrap();
            fs::write(cache.blob(etag), content).unwrap();
        }
        (root, cache)
    }

    #[cfg(unix)]
    #[test]
    fn files_are_links_to_blobs() {
        let (root, cache) = cache(true);
        cache.point("c", "config.json", "one", true).unwrap();
        cache.point("c", "a/b/deep.json", "two", true).unwrap();
        let repo = root.path().join("models--user--name");
        let target = |name: &str| fs::read_link(repo.join("snapshots/c").join(name)).unwrap();
        assert_eq!(target("config.json"), Path::new("../../blobs/one"));
        assert_eq!(target("a/b/deep.json"), Path::new("../../../../blobs/two"));
        assert_eq!(
            fs::read(cache.file("c", "a/b/deep.json").unwrap()).unwrap(),
            b"2"
        );
        assert_eq!(cache.etag("c", "config.json").unwrap(), "one");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_nowhere_is_replaced() {
        let (_root, cache) = cache(true);
        cache.point("c", "x", "one", true).unwrap();
        fs::remove_file(cache.blob("one")).unwrap();
        assert_eq!(cache.file("c", "x"), None);
        cache.point("c", "x", "two", true).unwrap();
        assert_eq!(fs::read(cache.file("c", "x").unwrap()).unwrap(), b"2");
    }

    #[test]
    fn without_links_new_blobs_are_moved_and_old_ones_copied() {
        let (_root, cache) = cache(false);
        cache.point("c", "new.json", "one", true).unwrap();
        cache.point("c", "old.json", "two", false).unwrap();
        assert!(!cache.blob("one").exists() && cache.blob("two").exists());
        for (name, content) in [("new.json", b"1"), ("old.json", b"2")] {
            assert_eq!(fs::read(cache.file("c", name).unwrap()).unwrap(), content);
            assert_eq!(cache.etag("c", name), None);
        }
        assert_eq!(
            fs::read_dir(cache.snapshot("c")).unwrap().count(),
            2,
            "nothing else is left"
        );
    }

    #[test]
    fn references_and_absences_are_remembered() {
        let (_root, cache) = cache(true);
        let revision: Revision = "refs/pr/1".parse().unwrap();
        assert_eq!(cache.commit(&revision), None);
        cache.set_commit(&revision, "c1").unwrap();
        cache.set_commit(&revision, "c2").unwrap();
        assert_eq!(cache.commit(&revision).unwrap(), "c2");
        assert!(!cache.is_absent("c2", "chat_template.jinja"));
        cache.set_absent("c2", "chat_template.jinja");
        assert!(cache.is_absent("c2", "chat_template.jinja"));
        fs::write(cache.reference(&revision), "../../elsewhere").unwrap();
        assert_eq!(cache.commit(&revision), None);
    }

    #[test]
    fn references_that_never_end_are_none() {
        let (_root, cache) = cache(true);
        let revision = Revision::default();
        let place = cache.reference(&revision);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, "a".repeat(1 << 20)).unwrap();
        assert_eq!(cache.commit(&revision), None);
        #[cfg(unix)]
        {
            fs::remove_file(&place).unwrap();
            std::os::unix::fs::symlink("/dev/zero", &place).unwrap();
            assert_eq!(cache.commit(&revision), None);
        }
    }
}
