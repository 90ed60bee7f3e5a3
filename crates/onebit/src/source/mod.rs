//! MODEL: from what was typed to an open packed file.

mod cache;
mod demo;
#[cfg_attr(not(feature = "hub"), path = "no_hub.rs")]
mod hub;
#[cfg(feature = "hub")]
mod memory;

pub use hub::HubModel;

use crate::cli::{HubArgs, Load};
use crate::exit;
use crate::progress::ConversionBar;
use hub::TokenizerPlace;
use onebit_convert::Options;
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
    /// A model of the Hugging Face Hub.
    Hub(HubModel),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Demo => f.write_str("the demo model"),
            Self::Packed(path) | Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Hub(model) => model.fmt(f),
        }
    }
}

impl Source {
    /// Finds out what MODEL stands for. What is on the disk comes before what is on the hub.
    ///
    /// # Errors
    /// Exit code 3 where there is nothing of that name, 2 for a revision of what has none.
    pub fn find(model: Option<&Path>, hub: &HubArgs) -> anyhow::Result<Self> {
        let found = match model {
            None => Self::Demo,
            Some(path) => Self::at(path, hub)?,
        };
        match (&found, &hub.revision) {
            (Self::Hub(_), _) | (_, None) => Ok(found),
            _ => Err(exit::request(format!(
                "--revision goes with a hub id, and {found} is none"
            ))),
        }
    }

    fn at(path: &Path, hub: &HubArgs) -> anyhow::Result<Self> {
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_dir() => Ok(Self::Folder(path.to_owned())),
            Ok(meta) if meta.is_file() => Ok(Self::Packed(path.to_owned())),
            Ok(_) => Err(exit::bad_model(format!(
                "{} is neither a file nor a folder",
                path.display()
            ))),
            Err(e) => match HubModel::parse(path, hub)? {
                Some(model) => Ok(Self::Hub(model)),
                None => Err(exit::bad_model(format!(
                    "cannot open model {}: {e}",
                    path.display()
                ))),
            },
        }
    }

    /// Opens it as a packed file; a folder or a model of the hub is converted first unless the cache has it.
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
            Self::Hub(model) => model.open(|path| open_file(path, load)),
        }
    }

    /// A model of the hub becomes what its tokenizer can be read from: a folder with its tokenizer's files, or the
    /// file that it was converted into. All else stays what it is.
    ///
    /// # Errors
    /// What the hub refuses, or what is missing where it must not be asked.
    pub fn with_tokenizer(self) -> anyhow::Result<Self> {
        let Self::Hub(model) = self else {
            return Ok(self);
        };
        Ok(match model.tokenizer()? {
            TokenizerPlace::Folder(folder) => Self::Folder(folder),
            TokenizerPlace::Packed(path) => Self::Packed(path),
        })
    }

    /// The folder to convert; for a model of the hub it is fetched, and `options` told where it comes from.
    ///
    /// # Errors
    /// Exit code 3 for what is no folder, and what the hub refuses.
    pub fn checkpoint(self, options: &mut Options) -> anyhow::Result<PathBuf> {
        match self {
            Self::Folder(folder) => Ok(folder),
            Self::Hub(model) => model.checkpoint(options),
            other => Err(exit::bad_model(format!(
                "{other} is not a Hugging Face folder"
            ))),
        }
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
