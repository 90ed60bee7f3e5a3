//! MODEL: from what was typed to an open packed file.

mod cache;
mod demo;

use crate::cli::Load;
use crate::exit;
use crate::progress::ConversionBar;
use onebit_format::PackedFile;
use std::fmt;
use std::path::{Path, PathBuf};

/// What MODEL stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The model built into the program.
    Demo,
    /// A packed file.
    Packed(PathBuf),
    /// A Hugging Face folder.
    Folder(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Demo => f.write_str("the demo model"),
            Self::Packed(path) | Self::Folder(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Source {
    /// Finds out what MODEL stands for.
    ///
    /// # Errors
    /// Exit code 3 where there is nothing of that name, 4 for a hub id or a file of a kind that is not read.
    pub fn find(model: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = model else {
            return Ok(Self::Demo);
        };
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_dir() => Ok(Self::Folder(path.to_owned())),
            Ok(meta) if meta.is_file() => Ok(Self::Packed(path.to_owned())),
            Ok(_) => Err(exit::bad_model(format!(
                "{} is neither a file nor a folder",
                path.display()
            ))),
            Err(_) if is_hub_id(path) => Err(exit::unsupported(format!(
                "{}: there is no such file or folder, and hub ids are not supported yet: download the model and pass its folder",
                path.display()
            ))),
            Err(e) => Err(exit::bad_model(format!(
                "cannot open model {}: {e}",
                path.display()
            ))),
        }
    }

    /// Opens it as a packed file; a folder is converted first unless the cache has it.
    ///
    /// # Errors
    /// What is wrong with the file, or with the folder.
    pub fn open(&self, load: Load) -> anyhow::Result<PackedFile> {
        match self {
            Self::Demo => demo::open(),
            Self::Packed(path) => open_file(path, load),
            Self::Folder(folder) => cache::open(folder, &mut ConversionBar::new()?, |path| {
                open_file(path, load)
            }),
        }
    }
}

/// Refuses what cannot be the source of a conversion.
///
/// # Errors
/// As [`Source::find`], and exit code 3 for a file.
pub fn require_folder(path: &Path) -> anyhow::Result<()> {
    match Source::find(Some(path))? {
        Source::Folder(_) => Ok(()),
        _ => Err(exit::bad_model(format!(
            "{} is not a Hugging Face folder",
            path.display()
        ))),
    }
}

fn open_file(path: &Path, load: Load) -> anyhow::Result<PackedFile> {
    refuse_gguf(path)?;
    let opened = match load {
        Load::Heap => PackedFile::read_to_heap(path),
        _ => PackedFile::open(path),
    };
    opened.map_err(|e| match e.kind() {
        onebit_format::ErrorKind::Io => e.into(),
        _ => anyhow::Error::new(e).context(path.display().to_string()),
    })
}

fn refuse_gguf(path: &Path) -> anyhow::Result<()> {
    let mut magic = [0; 4];
    let read = std::fs::File::open(path)
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut magic));
    if read.is_ok() && &magic == b"GGUF" {
        return Err(exit::unsupported(format!(
            "{}: GGUF files are not supported yet",
            path.display()
        )));
    }
    Ok(())
}

/// Whether a path that names no file looks like `user/name[@revision]`.
fn is_hub_id(path: &Path) -> bool {
    let Some((user, rest)) = path.to_str().and_then(|text| text.split_once('/')) else {
        return false;
    };
    let name = rest.split_once('@').map_or(rest, |(name, _)| name);
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    let is_file_name = [".onebit", ".safetensors", ".gguf"]
        .iter()
        .any(|end| name.ends_with(end));
    plain(user) && plain(name) && !is_file_name && !Path::new(user).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hub_ids_are_told_from_missing_files() {
        assert!(is_hub_id(Path::new("microsoft/bitnet-b1.58-2B-4T")));
        assert!(is_hub_id(Path::new("user/name@main")));
        for path in [
            "model.onebit",
            "dir/model.onebit",
            "/a/b",
            "./a/b",
            "a/b/c",
            "../x",
            "src/b",
        ] {
            assert!(!is_hub_id(Path::new(path)), "{path}");
        }
    }
}
