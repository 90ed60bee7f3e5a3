//! Tokenizer files and the chat template.

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::config::fields::Fields;
use crate::error::{ConvertError, Result};
use crate::source::Checkpoint;
use crate::source::file::read_optional;
use crate::source::json;

const TOKENIZER: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
const TEMPLATE: &str = "chat_template.jinja";
/// Largest `tokenizer.json` accepted, in bytes.
const MAX_TOKENIZER: u64 = 256 << 20;

/// What the packed file carries for text.
#[derive(Debug, Default)]
pub(crate) struct Text {
    /// Byte strings by name.
    pub(crate) blobs: Vec<(&'static str, Vec<u8>)>,
    pub(crate) chat_template: Option<String>,
    pub(crate) notes: Vec<String>,
}

/// Reads the tokenizer files, all of which may be absent.
pub(crate) fn read(checkpoint: &Checkpoint) -> Result<Text> {
    let dir = &checkpoint.dir;
    let mut text = Text::default();
    match read_optional(&dir.join(TOKENIZER), MAX_TOKENIZER)? {
        Some(bytes) => {
            check_object(&bytes)?;
            text.blobs.push((TOKENIZER, bytes));
        }
        None => text.notes.push(format!(
            "there is no {TOKENIZER}: the file takes token ids only"
        )),
    }
    let config = read_optional(&dir.join(CONFIG), json::MAX_JSON)?;
    let object = config
        .as_deref()
        .map(|bytes| json::parse_object(CONFIG, bytes))
        .transpose()?;
    text.blobs.extend(config.map(|bytes| (CONFIG, bytes)));
    text.chat_template = match read_optional(&dir.join(TEMPLATE), json::MAX_JSON)? {
        Some(bytes) => Some(
            String::from_utf8(bytes).map_err(|error| ConvertError::malformed(TEMPLATE, error))?,
        ),
        None => object.as_ref().map_or(Ok(None), template)?,
    };
    Ok(text)
}

fn check_object(bytes: &[u8]) -> Result<()> {
    serde_json::from_slice::<std::collections::HashMap<String, IgnoredAny>>(bytes)
        .map(drop)
        .map_err(|error| ConvertError::malformed(TOKENIZER, error))
}

/// `chat_template`: a string, or a list of named ones of which `default` is taken.
fn template(config: &Map<String, Value>) -> Result<Option<String>> {
    let place = format!("{CONFIG}: ");
    let fields = Fields::new(config, &place);
    let named = |list: &[Value]| {
        let default = list
            .iter()
            .find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"));
        Some(default?.get("template")?.as_str()?.to_owned())
    };
    match fields.value("chat_template") {
        None => Ok(None),
        Some(Value::String(template)) => Ok(Some(template.clone())),
        Some(Value::Array(list)) => match named(list) {
            Some(template) => Ok(Some(template)),
            None => {
                Err(fields.malformed("chat_template", "the list has no template named default"))
            }
        },
        Some(other) => Err(fields.malformed(
            "chat_template",
            format!("expected a template, found {}", json::kind(other)),
        )),
    }
}
