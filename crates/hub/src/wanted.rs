//! Which files of a repository a model is made of.

use crate::error::{HubError, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// What the files are needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Turning text into tokens and back.
    Tokenizer,
    /// Everything but the weights: enough to see whether a model is of a kind that can be run.
    Description,
    /// The whole model.
    Model,
}

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const TOKENIZER: &str = "tokenizer.json";
/// The weights in one file.
pub(crate) const SINGLE: &str = "model.safetensors";
/// The list of files that the weights are in.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

const TOKENIZER_FILES: &[&str] = &[
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];
const DESCRIPTION_FILES: &[&str] = &[
    CONFIG,
    "generation_config.json",
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];

impl Want {
    /// The files besides the weights, in the order in which they are fetched.
    pub(crate) fn texts(self) -> &'static [&'static str] {
        match self {
            Self::Tokenizer => TOKENIZER_FILES,
            Self::Description | Self::Model => DESCRIPTION_FILES,
        }
    }

    /// The file without which the rest is of no use.
    pub(crate) fn required(self) -> &'static str {
        match self {
            Self::Tokenizer => TOKENIZER,
            Self::Description | Self::Model => CONFIG,
        }
    }
}

/// The largest size accepted for a file that is read into memory; `None` for weights, which are not.
pub(crate) fn largest(name: &str) -> Option<u64> {
    match name {
        TOKENIZER => Some(256 << 20),
        name if name.ends_with(".safetensors") => None,
        _ => Some(64 << 20),
    }
}

/// The files that an index places tensors in, each a safetensors file of the repository.
pub(crate) fn shards(index: &[u8]) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let wrong = |reason: String| HubError::Content {
        file: INDEX.into(),
        reason,
    };
    let index: Index = serde_json::from_slice(index).map_err(|error| wrong(error.to_string()))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    if shards.is_empty() {
        return Err(wrong("weight_map names no tensor".into()));
    }
    for shard in &shards {
        let name = crate::names::printable(shard);
        if !crate::names::is_relative_path(shard) {
            return Err(wrong(format!(
                "shard `{name}` is outside the folder, or no file name everywhere"
            )));
        }
        if !shard.ends_with(".safetensors") {
            return Err(wrong(format!("shard `{name}` is no safetensors file")));
        }
    }
    Ok(shards)
}

/// Says why a repository without safetensors weights is no model, naming what it has instead.
pub(crate) fn no_weights(repo: &str, files: &BTreeSet<String>) -> HubError {
    let other = [
        ".gguf",
        ".bin",
        ".pth",
        ".pt",
        ".onnx",
        ".h5",
        ".msgpack",
        ".safetensors",
        ".npz",
    ];
    let found = other
        .iter()
        .find_map(|end| files.iter().find(|file| file.ends_with(end)));
    match found {
        Some(file) => HubError::Unsupported(format!(
            "{repo} has neither {SINGLE} nor {INDEX}, only other weights such as {}",
            crate::names::printable(file)
        )),
        None => HubError::NotFound(format!(
            "{repo} has neither {SINGLE} nor {INDEX}: it holds no model"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_safetensors_below_the_folder() {
        let index = br#"{"metadata": {},
            "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors", "c": "m-1.safetensors"}}"#;
        let names: Vec<_> = shards(index).unwrap().into_iter().collect();
        assert_eq!(names, ["m-1.safetensors", "m-2.safetensors"]);
        for (index, part) in [
            ("[]", "invalid length"),
            ("{}", "weight_map"),
            (r#"{"weight_map": {}}"#, "no tensor"),
            (r#"{"weight_map": {"a": 1}}"#, "invalid type"),
            (r#"{"weight_map": {"a": "../x.safetensors"}}"#, "outside"),
            (r#"{"weight_map": {"a": "/x.safetensors"}}"#, "outside"),
            (r#"{"weight_map": {"a": "..\\x.safetensors"}}"#, "outside"),
            (r#"{"weight_map": {"a": "x.bin"}}"#, "no safetensors"),
        ] {
            let error = shards(index.as_bytes()).unwrap_err().to_string();
            assert!(
                error.contains(part) && error.contains(INDEX),
                "{index}: {error}"
            );
        }
    }

    #[test]
    fn other_weights_are_named() {
        let files = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let gguf = no_weights("a/b", &files(&["README.md", "m.gguf", "config.json"]));
        assert!(
            matches!(&gguf, HubError::Unsupported(text) if text.contains("m.gguf")),
            "{gguf}"
        );
        assert!(matches!(
            no_weights("a/b", &files(&["README.md"])),
            HubError::NotFound(_)
        ));
    }
}
