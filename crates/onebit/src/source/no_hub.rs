//! Stands in for the hub in a program that is built without the feature `hub`.

use crate::cli::HubArgs;
use crate::exit;
use onebit_convert::Options;
use onebit_format::PackedFile;
use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};

/// A model of the hub: there is none here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubModel(Infallible);

impl fmt::Display for HubModel {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {}
    }
}

/// Where a tokenizer is.
pub(super) enum TokenizerPlace {
    #[expect(dead_code, reason = "made by the hub only")]
    Folder(PathBuf),
    #[expect(dead_code, reason = "made by the hub only")]
    Packed(PathBuf),
}

impl HubModel {
    /// Refuses what looks like a hub id (exit code 4).
    pub(super) fn parse(path: &Path, _: &HubArgs) -> anyhow::Result<Option<Self>> {
        let text = path.to_str().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./@".contains(c);
        let is_id = text.matches('/').count() == 1
            && !text.starts_with(['/', '.'])
            && text.chars().all(plain);
        if !is_id
            || [".onebit", ".safetensors", ".gguf"]
                .iter()
                .any(|end| text.ends_with(end))
        {
            return Ok(None);
        }
        Err(exit::unsupported(format!(
            "{text}: there is no such file or folder, and this program was built without the hub"
        )))
    }

    pub(super) fn open(
        &self,
        _: impl Fn(&Path) -> anyhow::Result<PackedFile>,
    ) -> anyhow::Result<PackedFile> {
        match self.0 {}
    }

    pub(super) fn checkpoint(&self, _: &mut Options) -> anyhow::Result<PathBuf> {
        match self.0 {}
    }

    pub(super) fn tokenizer(&self) -> anyhow::Result<TokenizerPlace> {
        match self.0 {}
    }
}
