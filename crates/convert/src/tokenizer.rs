//! Tokenizer files and the chat template.

use onebit_format::blob_sha256;
use onebit_tokenizer::{Origin, class};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::config::fields::Fields;
use crate::error::{ConvertError, Result};
use crate::source::Checkpoint;
use crate::source::file::read_optional;
use crate::source::json;

pub(crate) const TOKENIZER: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
/// Where older checkpoints name their special tokens.
const SPECIAL_TOKENS: &str = "special_tokens_map.json";
/// The blob of the compact form, which is made here.
const COMPACT: &str = "tokenizer.bpe";
const TEMPLATE: &str = "chat_template.jinja";
/// All files that are read here.
pub(crate) const FILES: [&str; 4] = [TOKENIZER, CONFIG, SPECIAL_TOKENS, TEMPLATE];
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

/// Reads the tokenizer files, all of which may be absent. `architecture` is the model's.
pub(crate) fn read(checkpoint: &Checkpoint, architecture: &str) -> Result<Text> {
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
    let config = object(checkpoint, CONFIG, &mut text)?;
    object(checkpoint, SPECIAL_TOKENS, &mut text)?;
    add_compact(&mut text, config.as_ref(), architecture);
    text.chat_template = match read_optional(&dir.join(TEMPLATE), json::MAX_JSON)? {
        Some(bytes) => Some(
            String::from_utf8(bytes).map_err(|error| ConvertError::malformed(TEMPLATE, error))?,
        ),
        None => config.map_or(Ok(None), |config| template(&config, &mut text.notes))?,
    };
    Ok(text)
}

/// Adds the compact form of the tokenizer, which takes less memory and time to load, where it has one.
fn add_compact(text: &mut Text, config: Option<&Map<String, Value>>, architecture: &str) {
    let blob =
        |name| (text.blobs.iter()).find_map(|(blob, bytes)| (*blob == name).then_some(bytes));
    let Some(json) = blob(TOKENIZER) else {
        return;
    };
    let origin = Origin {
        tokenizer: blob_sha256(json),
        config: blob(CONFIG).map_or([0; 32], |bytes| blob_sha256(bytes)),
        class_ignored: class::is_ignored_for(architecture),
    };
    let none = Map::new();
    match onebit_tokenizer::build(json, config.unwrap_or(&none), &origin) {
        Ok(compact) => text.blobs.push((COMPACT, compact)),
        Err(reason) => text.notes.push(format!(
            "the tokenizer has no compact form and is loaded from {TOKENIZER}: {reason}"
        )),
    }
}

/// Takes over a file that holds a JSON object, unchanged, and parses it.
fn object(
    checkpoint: &Checkpoint,
    name: &'static str,
    text: &mut Text,
) -> Result<Option<Map<String, Value>>> {
    let Some(bytes) = read_optional(&checkpoint.dir.join(name), json::MAX_JSON)? else {
        return Ok(None);
    };
    let object = json::parse_object(name, &bytes)?;
    text.blobs.push((name, bytes));
    Ok(Some(object))
}

fn check_object(bytes: &[u8]) -> Result<()> {
    serde_json::from_slice::<std::collections::HashMap<String, IgnoredAny>>(bytes)
        .map(drop)
        .map_err(|error| ConvertError::malformed(TOKENIZER, error))
}

/// `chat_template`: a string, or a list of named ones of which `default` is taken.
fn template(config: &Map<String, Value>, notes: &mut Vec<String>) -> Result<Option<String>> {
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
        Some(Value::Array(list)) => {
            let template = named(list);
            if template.is_none() {
                notes.push("no chat template is named default: there is none in the file".into());
            }
            Ok(template)
        }
        Some(other) => Err(fields.malformed(
            "chat_template",
            format!("expected a template, found {}", json::kind(other)),
        )),
    }
}
