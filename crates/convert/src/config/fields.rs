//! Typed access to the fields of a config, with errors that name them.

use serde_json::{Map, Value};

use crate::error::{ConvertError, Result};
use crate::source::json::kind;

/// A JSON object of the checkpoint and what to put before its field names in messages.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    place: &'a str,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(map: &'a Map<String, Value>, place: &'a str) -> Self {
        Self { map, place }
    }

    /// The field as people find it, such as `config.json: rope_theta`.
    pub(crate) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.place)
    }

    /// Whether the field is there, even as null.
    pub(crate) fn given(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// The field unless it is absent or null.
    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.map.keys().map(String::as_str)
    }

    pub(crate) fn usize(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a whole number that is not negative", |value| {
            value
                .as_u64()
                .and_then(|number| usize::try_from(number).ok())
        })
    }

    pub(crate) fn u32(&self, key: &str) -> Result<Option<u32>> {
        self.typed(key, "a whole number below 2^32", |value| {
            value.as_u64().and_then(|number| u32::try_from(number).ok())
        })
    }

    /// A number that is finite as `f64`; integers are numbers.
    pub(crate) fn f64(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a finite number", |value| {
            value.as_f64().filter(|number| number.is_finite())
        })
    }

    pub(crate) fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub(crate) fn str(&self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "a string", Value::as_str)
    }

    pub(crate) fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>> {
        self.typed(key, "an object", Value::as_object)
    }

    /// A list of strings.
    pub(crate) fn strings(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        self.typed(key, "a list of strings", |value| {
            value.as_array()?.iter().map(Value::as_str).collect()
        })
    }

    /// One id or a list of ids.
    pub(crate) fn ids(&self, key: &str) -> Result<Option<Vec<u32>>> {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        self.typed(
            key,
            "a token id or a list of token ids",
            |value| match value {
                Value::Array(list) => list.iter().map(id).collect(),
                one => id(one).map(|id| vec![id]),
            },
        )
    }

    /// An error about the value of a field.
    pub(crate) fn malformed(&self, key: &str, reason: impl std::fmt::Display) -> ConvertError {
        ConvertError::malformed(self.name(key), reason)
    }

    /// An error about a value that is known, but not supported.
    pub(crate) fn unsupported(&self, key: &str, reason: impl std::fmt::Display) -> ConvertError {
        let value = self.map.get(key).map_or("absent".into(), shorten);
        ConvertError::unsupported(format!("{} = {value}", self.name(key)), reason)
    }

    /// The same for something within the field `key`, at `path`.
    pub(crate) fn unsupported_at(
        &self,
        path: &str,
        key: &str,
        reason: impl std::fmt::Display,
    ) -> ConvertError {
        if path == key {
            self.unsupported(key, reason)
        } else {
            ConvertError::unsupported(self.name(path), reason)
        }
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        match read(value) {
            Some(typed) => Ok(Some(typed)),
            None => Err(self.malformed(
                key,
                format!(
                    "expected {expected}, found {} ({})",
                    kind(value),
                    shorten(value)
                ),
            )),
        }
    }
}

/// A value as JSON, cut to a length that a message can carry.
fn shorten(value: &Value) -> String {
    let mut text = value.to_string();
    if text.chars().count() > 60 {
        text = text.chars().take(57).chain("...".chars()).collect();
    }
    text
}
