//! The messages of a conversation.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Value};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::RuntimeError;

/// The names under which templates look for the reasoning before an answer, the best one first.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// One message of a conversation: an object with a `role`, mostly a `content`, and whatever else
/// the template looks at, in the order given.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Message(Value);

impl Message {
    /// A message with a role (`system`, `user`, `assistant`, ...) and a text.
    pub fn new(role: &str, content: &str) -> Self {
        let fields = [("role", role), ("content", content)];
        Self(object(
            fields.map(|(name, value)| (name.to_owned(), value.into())),
        ))
    }

    /// The messages of a JSON array.
    ///
    /// # Errors
    /// [`RuntimeError::Messages`] where it is not an array of objects with a `role`.
    pub fn list_from_json(json: &[u8]) -> Result<Vec<Self>, RuntimeError> {
        serde_json::from_slice(json).map_err(|e| RuntimeError::Messages(e.to_string()))
    }

    /// Who speaks.
    pub fn role(&self) -> String {
        let role = self.0.get_attr("role");
        role.map(|role| role.to_string()).unwrap_or_default()
    }

    /// What is said, if it is a plain text.
    pub fn content(&self) -> Option<String> {
        self.0.get_attr("content").ok()?.as_str().map(str::to_owned)
    }

    /// The message as templates see it in `transformers`: fields without a value are left out, and
    /// the reasoning has both of its names.
    pub(super) fn for_template(&self) -> Value {
        let mut fields: Vec<(String, Value)> = Vec::new();
        for name in self.0.try_iter().into_iter().flatten() {
            let value = self.0.get_item(&name).unwrap_or_default();
            if !value.is_none() {
                fields.push((name.to_string(), value));
            }
        }
        let find = |name: &str| {
            let field = fields.iter().find(|(field, _)| field == name);
            field.map(|(_, value)| value.clone())
        };
        if let Some(reasoning) = REASONING.into_iter().find_map(find) {
            if find("thinking").is_none() {
                fields.insert(0, ("thinking".into(), reasoning.clone()));
            }
            match fields.iter_mut().find(|(name, _)| name == REASONING[0]) {
                Some((_, value)) => *value = reasoning,
                None => fields.push((REASONING[0].into(), reasoning)),
            }
        }
        object(fields)
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let role = value.get_attr("role").ok();
        if role.as_ref().and_then(Value::as_str).is_none() {
            return Err(serde::de::Error::custom(
                "a message is an object with a role",
            ));
        }
        Ok(Self(value))
    }
}

/// An object that keeps the order of its fields.
#[derive(Debug)]
struct Fields(Vec<(String, Value)>);

fn object(fields: impl IntoIterator<Item = (String, Value)>) -> Value {
    Value::from_object(Fields(fields.into_iter().collect()))
}

impl Object for Fields {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, name: &Value) -> Option<Value> {
        let name = name.as_str()?;
        let field = self.0.iter().find(|(field, _)| field == name);
        field.map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let names: Vec<Value> = self
            .0
            .iter()
            .map(|(name, _)| name.as_str().into())
            .collect();
        Enumerator::Values(names)
    }
}
