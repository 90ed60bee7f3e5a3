//! JSON that people can get wrong: size and depth are bounded, and a repeated key is an error.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{ConvertError, Result};
use crate::source::file::read_optional;

/// Largest config accepted, in bytes.
const MAX_CONFIG: u64 = 4 << 20;
/// Largest index or tokenizer config accepted, in bytes.
pub(crate) const MAX_JSON: u64 = 32 << 20;

/// A JSON object from a file of the checkpoint; `None` when there is no such file.
pub(crate) fn read_object(dir: &Path, name: &str) -> Result<Option<Map<String, Value>>> {
    let Some(bytes) = read_optional(&dir.join(name), MAX_CONFIG)? else {
        return Ok(None);
    };
    parse_object(name, &bytes).map(Some)
}

/// Parses a JSON object. Nesting deeper than 128 and keys given twice are errors.
pub(crate) fn parse_object(name: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
    check_unique_keys(name, bytes)?;
    match serde_json::from_slice(bytes).map_err(|error| ConvertError::malformed(name, error))? {
        Value::Object(object) => Ok(object),
        other => Err(ConvertError::malformed(
            name,
            format!("expected a JSON object, found {}", kind(&other)),
        )),
    }
}

/// Fails on the first object of a JSON document that has a key twice.
pub(crate) fn check_unique_keys(name: &str, bytes: &[u8]) -> Result<()> {
    onebit_format::json::check(bytes, usize::MAX)
        .map_err(|error| ConvertError::malformed(name, error))
}

/// What to call a value in a message.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> String {
        parse_object("x.json", json.as_bytes())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn objects_with_unique_keys_only() {
        assert_eq!(
            parse_object("x.json", br#"{"a": [1, {"b": null}]}"#)
                .unwrap()
                .len(),
            1
        );
        assert!(refused(r#"{"a": 1, "a": 2}"#).contains("key `a` is given twice"));
        assert!(refused(r#"{"a": [{"b": 1, "b": 1}]}"#).contains("key `b`"));
        assert!(refused("[]").contains("expected a JSON object, found an array"));
        assert!(refused("{").contains("x.json"));
        assert!(refused(r#"{"a": 1} x"#).contains("trailing"));
        let deep = format!("{{\"a\": {}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(refused(&deep).contains("recursion limit"));
    }
}
