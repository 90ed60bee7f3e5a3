//! Folders converted once, kept under a name made from their content.
//!
//! The key of a folder is the SHA-256 over the names, sizes and bytes of its files. So that a large folder is not
//! read again at every start, the key is remembered together with sizes and modification times; it counts only
//! while those are unchanged.

use crate::{exit, whole_file};
use anyhow::Context;
use onebit_convert::{Options, Progress, convert, source_files};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Opens the converted form of `folder`, converting it where the cache lacks it or holds it broken.
pub(super) fn open<T>(
    folder: &Path,
    progress: &mut dyn Progress,
    open: impl Fn(&Path) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let cache = created_directory()?;
    let packed = cache.join(packed_name(folder, &key(folder, &cache)?));
    open_or_convert(&packed, folder, Options::default(), progress, open)
}

/// Opens `packed`, converting `folder` into it where it is not there or broken.
pub(super) fn open_or_convert<T>(
    packed: &Path,
    folder: &Path,
    mut options: Options,
    progress: &mut dyn Progress,
    open: impl Fn(&Path) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    if packed.exists() {
        match open(packed) {
            Ok(opened) => return Ok(opened),
            Err(e) => tracing::warn!("converting again, the cached file is broken: {e:#}"),
        }
    }
    options.force = true;
    convert(folder, packed, &options, progress)?;
    open(packed)
}

/// The folder of the cache, made where it is not there.
pub(super) fn created_directory() -> anyhow::Result<PathBuf> {
    let cache = directory()?;
    fs::create_dir_all(&cache)
        .with_context(|| format!("cannot create the cache folder {}", cache.display()))?;
    Ok(cache)
}

/// `$ONEBIT_CACHE`, else `$XDG_CACHE_HOME/onebit`, else `~/.cache/onebit`.
pub(super) fn directory() -> anyhow::Result<PathBuf> {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    variable("ONEBIT_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("onebit")))
        .or_else(|| Some(std::env::home_dir()?.join(".cache").join("onebit")))
        .ok_or_else(|| {
            exit::request("there is no place for converted models: set ONEBIT_CACHE to a folder")
        })
}

fn packed_name(folder: &Path, key: &str) -> String {
    let name = folder
        .canonicalize()
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    format!(
        "{}-{}.onebit",
        name.as_deref().unwrap_or("model"),
        &key[..16]
    )
}

/// What tells an unchanged file from a changed one without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    name: String,
    bytes: u64,
    modified_ns: u128,
}

/// A key and the state of the folder it was computed from.
#[derive(Serialize, Deserialize)]
struct Remembered {
    stamps: Vec<Stamp>,
    key: String,
}

/// The key of a folder's content.
fn key(folder: &Path, cache: &Path) -> anyhow::Result<String> {
    let stamps = stamps(folder)?;
    let place = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let place = hex(&Sha256::digest(place.as_os_str().as_encoded_bytes()));
    let memory = cache.join(format!("{}.key.json", &place[..16]));
    let remembered = fs::read(&memory)
        .ok()
        .and_then(|json| serde_json::from_slice::<Remembered>(&json).ok());
    if let Some(known) = remembered.filter(|known| known.stamps == stamps && known.key.len() == 64)
    {
        return Ok(known.key);
    }
    let key = hash_files(folder, &stamps)?;
    let json = serde_json::to_vec(&Remembered {
        stamps,
        key: key.clone(),
    })?;
    if let Err(e) = whole_file::write(&memory, &json) {
        tracing::warn!("cannot remember the key of {}: {e:#}", folder.display());
    }
    Ok(key)
}

/// The files that a conversion reads, by name, wherever below the folder they are.
fn stamps(folder: &Path) -> anyhow::Result<Vec<Stamp>> {
    let files = source_files(folder)?;
    let stamp = |file: &PathBuf| {
        let path = folder.join(file);
        stamp(&path, file.to_string_lossy().into_owned()).map_err(|e| unreadable(&path, &e))
    };
    files.iter().map(stamp).collect()
}

fn stamp(path: &Path, name: String) -> io::Result<Stamp> {
    let meta = fs::metadata(path)?;
    let modified = meta.modified()?.duration_since(UNIX_EPOCH);
    Ok(Stamp {
        name,
        bytes: meta.len(),
        modified_ns: modified.unwrap_or_default().as_nanos(),
    })
}

fn unreadable(path: &Path, error: &io::Error) -> anyhow::Error {
    exit::bad_model(format!("cannot read {}: {error}", path.display()))
}

fn hash_files(folder: &Path, stamps: &[Stamp]) -> anyhow::Result<String> {
    let mut all = Sha256::new();
    all.update(concat!("onebit ", env!("CARGO_PKG_VERSION"), "\0"));
    let mut buffer = vec![0; 1 << 20];
    for stamp in stamps {
        all.update(format!("{}\0{}\0", stamp.name, stamp.bytes));
        let path = folder.join(&stamp.name);
        hash_into(&mut all, &path, &mut buffer).map_err(|e| unreadable(&path, &e))?;
    }
    Ok(hex(&all.finalize()))
}

fn hash_into(hash: &mut Sha256, path: &Path, buffer: &mut [u8]) -> io::Result<()> {
    let mut file = File::open(path)?;
    loop {
        match file.read(buffer)? {
            0 => return Ok(()),
            n => hash.update(&buffer[..n]),
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_follows_the_content() {
        let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("config.json", "{}");
        write("readme.md", "one");
        let first = key(folder.path(), cache.path()).unwrap();
        assert_eq!(key(folder.path(), cache.path()).unwrap(), first);
        write("readme.md", "two");
        assert_eq!(key(folder.path(), cache.path()).unwrap(), first);
        write("config.json", "{ }");
        assert_ne!(key(folder.path(), cache.path()).unwrap(), first);
        write("config.json", "{}");
        assert_eq!(key(folder.path(), cache.path()).unwrap(), first);
    }

    #[test]
    fn shards_in_folders_below_count() {
        let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(folder.path().join("sub")).unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let index = r#"{"weight_map": {"a": "sub/a.safetensors", "b": "b.safetensors"}}"#;
        write("model.safetensors.index.json", index);
        write("b.safetensors", "b");
        let mut seen = vec![key(folder.path(), cache.path()).unwrap()];
        for (name, text) in [
            ("sub/a.safetensors", "one"),
            ("sub/a.safetensors", "longer"),
            ("sub/a.safetensors", "other!"),
            ("b.safetensors", "c"),
        ] {
            write(name, text);
            let now = key(folder.path(), cache.path()).unwrap();
            assert!(!seen.contains(&now), "{name}: {text}");
            seen.push(now);
        }
        write("sub/unused.safetensors", "x");
        assert_eq!(key(folder.path(), cache.path()).unwrap(), seen[4]);
    }

    #[test]
    fn an_index_that_leads_out_of_the_folder_is_refused() {
        let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let index = r#"{"weight_map": {"a": "../a.safetensors"}}"#;
        fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
        let error = key(folder.path(), cache.path()).unwrap_err();
        assert_eq!(crate::code_of(&error), exit::Code::Model);
    }
}
