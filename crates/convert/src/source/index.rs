//! `model.safetensors.index.json`: which shard holds which tensor.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde_json::Value;

use crate::error::{ConvertError, Result};
use crate::source::json;

/// Name of the index of a sharded checkpoint.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// Parses the index and returns tensor name to shard file name. Shard names stay in the folder.
pub(crate) fn parse(bytes: &[u8]) -> Result<BTreeMap<String, String>> {
    let mut index = json::parse_object(INDEX, bytes)?;
    let wrong = |reason: String| ConvertError::malformed(INDEX, reason);
    let map = match index.remove("weight_map") {
        Some(Value::Object(map)) => map,
        Some(other) => {
            return Err(wrong(format!(
                "weight_map: expected an object, found {}",
                json::kind(&other)
            )));
        }
        None => return Err(wrong("it has no weight_map".into())),
    };
    if map.is_empty() {
        return Err(wrong("weight_map names no tensor".into()));
    }
    map.into_iter()
        .map(|(tensor, shard)| match shard {
            Value::String(shard) if stays_inside(&shard) => Ok((tensor, shard)),
            Value::String(shard) => Err(wrong(format!(
                "shard `{shard}` of tensor `{tensor}` is outside the folder"
            ))),
            other => Err(wrong(format!(
                "shard of tensor `{tensor}`: expected a file name, found {}",
                json::kind(&other)
            ))),
        })
        .collect()
}

/// Whether a path from an index is relative and made of plain names only, on every system.
fn stays_inside(shard: &str) -> bool {
    !shard.is_empty()
        && !shard.contains(['\\', ':', '\0'])
        && Path::new(shard)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_names_stay_in_the_folder() {
        for name in [
            "a.safetensors",
            "model-00001-of-00002.safetensors",
            "sub/a.safetensors",
            "..a",
        ] {
            assert!(stays_inside(name), "{name}");
        }
        for name in [
            "",
            "/etc/passwd",
            "../a",
            "a/../../b",
            "./a",
            "..",
            "a\\..\\b",
            "C:a",
            "\\\\host\\a",
            "a\0",
        ] {
            assert!(!stays_inside(name), "{name}");
        }
    }

    #[test]
    fn every_malformed_index_says_what_is_wrong() {
        let cases = [
            ("{}", "no weight_map"),
            (
                r#"{"weight_map": []}"#,
                "expected an object, found an array",
            ),
            (r#"{"weight_map": {}}"#, "names no tensor"),
            (r#"{"weight_map": {"a": 1}}"#, "`a`: expected a file name"),
            (
                r#"{"weight_map": {"a": "../b"}}"#,
                "shard `../b` of tensor `a` is outside",
            ),
            (
                r#"{"weight_map": {"a": "x", "a": "y"}}"#,
                "`a` is given twice",
            ),
        ];
        for (json, message) in cases {
            let error = parse(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(message), "{json}: {error}");
        }
        assert_eq!(parse(br#"{"weight_map": {"a": "x"}}"#).unwrap()["a"], "x");
    }
}
