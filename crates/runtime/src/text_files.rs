//! The files that turn text into tokens and back, wherever they lie.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use onebit_format::PackedFile;
use serde_json::Value;

use crate::error::RuntimeError;

/// Largest file read, in bytes.
const MAX_FILE: u64 = 256 << 20;
/// Name of the tokenizer's file, and of its blob in a packed file.
pub(crate) const TOKENIZER: &str = "tokenizer.json";
/// Name of the file, and of the blob, that names the special tokens.
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// Name of the file, and of the blob, in which older checkpoints name the special tokens.
pub(crate) const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
/// Name of the file that describes the network.
const MODEL_CONFIG: &str = "config.json";
/// Name of the file that holds the chat template where the tokenizer's config does not.
pub(crate) const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// The contents of the files that [`Tokenizer`](crate::Tokenizer) and
/// [`ChatTemplate`](crate::ChatTemplate) are made of.
#[derive(Clone, Debug)]
pub struct TextFiles<'a> {
    /// `tokenizer.json`.
    pub tokenizer: Cow<'a, [u8]>,
    /// `tokenizer_config.json`, parsed; an empty object where there is none.
    pub config: serde_json::Map<String, Value>,
    /// `special_tokens_map.json`, parsed; an empty object where there is none.
    pub special_tokens: serde_json::Map<String, Value>,
    /// The chat template kept apart from the config, which it takes precedence over.
    pub chat_template: Option<String>,
    /// Whether `tokenizer.json` counts as it is, whatever class the config names: so it is for the
    /// models that `transformers` has no class of tokenizers of their own for.
    pub class_ignored: bool,
}

/// `model_type` and architecture for which `transformers` ignores the named class.
const CLASS_IGNORED: [&str; 2] = ["mistral", "MistralForCausalLM"];

impl<'a> TextFiles<'a> {
    /// Files given as bytes; the optional ones are JSON objects.
    ///
    /// # Errors
    /// [`RuntimeError::TokenizerFile`] where a JSON object is none.
    pub fn new(
        tokenizer: impl Into<Cow<'a, [u8]>>,
        config: Option<&[u8]>,
        special_tokens: Option<&[u8]>,
        chat_template: Option<String>,
    ) -> Result<Self, RuntimeError> {
        Ok(Self {
            tokenizer: tokenizer.into(),
            config: object(TOKENIZER_CONFIG, config)?,
            special_tokens: object(SPECIAL_TOKENS_MAP, special_tokens)?,
            chat_template,
            class_ignored: false,
        })
    }

    /// The files of a folder, which need hold nothing else.
    ///
    /// # Errors
    /// [`RuntimeError::NoTokenizer`] without a `tokenizer.json`, [`RuntimeError::Read`] where a
    /// file is there but unreadable, [`RuntimeError::TokenizerFile`] where it is malformed.
    pub fn from_dir(dir: &Path) -> Result<TextFiles<'static>, RuntimeError> {
        let tokenizer = read(dir, TOKENIZER)?.ok_or_else(|| RuntimeError::NoTokenizer {
            place: dir.display().to_string(),
        })?;
        let template = read(dir, CHAT_TEMPLATE)?.map(|bytes| {
            String::from_utf8(bytes).map_err(|e| malformed(CHAT_TEMPLATE, e.to_string()))
        });
        // Another reader's file: whatever is wrong with it is not for the tokenizer to say.
        let model: Option<Value> = read(dir, MODEL_CONFIG)
            .ok()
            .flatten()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let files = TextFiles::new(
            tokenizer,
            read(dir, TOKENIZER_CONFIG)?.as_deref(),
            read(dir, SPECIAL_TOKENS_MAP)?.as_deref(),
            template.transpose()?,
        )?;
        Ok(TextFiles {
            class_ignored: model.is_some_and(|model| names(&model["model_type"], &CLASS_IGNORED)),
            ..files
        })
    }

    /// The blobs of a packed file.
    ///
    /// # Errors
    /// [`RuntimeError::NoTokenizer`] without the blob `tokenizer.json`,
    /// [`RuntimeError::TokenizerFile`] where one is malformed.
    pub fn from_packed(file: &'a PackedFile) -> Result<Self, RuntimeError> {
        let blob = |name| file.blob(name).ok();
        let tokenizer = blob(TOKENIZER).ok_or_else(|| RuntimeError::NoTokenizer {
            place: "the packed file".into(),
        })?;
        let template = file.meta().chat_template.clone();
        let files = TextFiles::new(
            tokenizer,
            blob(TOKENIZER_CONFIG),
            blob(SPECIAL_TOKENS_MAP),
            template,
        )?;
        Ok(TextFiles {
            class_ignored: names(&file.meta().model["architecture"], &CLASS_IGNORED),
            ..files
        })
    }

    /// The chat template: the one kept apart, else the config's (its `default` where it has
    /// several).
    pub fn chat_template(&self) -> Option<&str> {
        if let Some(template) = &self.chat_template {
            return Some(template);
        }
        match self.config.get("chat_template")? {
            Value::String(template) => Some(template),
            Value::Array(named) => named
                .iter()
                .find(|entry| entry["name"] == "default")
                .and_then(|entry| entry["template"].as_str()),
            _ => None,
        }
    }

    /// The special tokens by role (`bos_token`, `eos_token`, ...) as the templates see them.
    /// A role set to `null` has no token. As in `transformers`, the map counts only where the
    /// config does not list the added tokens, and then it comes first.
    pub fn special_tokens(&self) -> BTreeMap<String, String> {
        let mut tokens = BTreeMap::new();
        let class = self.config.get("tokenizer_class").and_then(Value::as_str);
        if let Some(class) = class.filter(|_| !self.class_ignored) {
            tokens.extend(class_defaults(class).map(|(role, token)| (role, Some(token))));
        }
        let extra = self
            .config
            .get("extra_special_tokens")
            .and_then(Value::as_object);
        tokens.extend(
            extra
                .into_iter()
                .flatten()
                .map(|(role, token)| (&**role, token_text(token))),
        );
        tokens.extend(roles(&self.config));
        if !self.config.contains_key("added_tokens_decoder") {
            tokens.extend(roles(&self.special_tokens));
        }
        let owned = |(role, token): (&str, Option<&str>)| Some((role.into(), token?.into()));
        tokens.into_iter().filter_map(owned).collect()
    }
}

/// Whether a value is one of these strings.
fn names(value: &Value, strings: &[&str]) -> bool {
    value.as_str().is_some_and(|text| strings.contains(&text))
}

/// The entries of a config that give a role its token.
fn roles(config: &serde_json::Map<String, Value>) -> impl Iterator<Item = (&str, Option<&str>)> {
    config
        .iter()
        .filter(|(role, token)| role.ends_with("_token") && !token.is_boolean())
        .map(|(role, token)| (role.as_str(), token_text(token)))
}

/// What `transformers` assumes for tokenizer classes whose config leaves a role out.
fn class_defaults(class: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let defaults: &[_] = match class.trim_end_matches("Fast") {
        "LlamaTokenizer" => &[
            ("bos_token", "<s>"),
            ("eos_token", "</s>"),
            ("unk_token", "<unk>"),
        ],
        "Qwen2Tokenizer" => &[
            ("eos_token", "<|endoftext|>"),
            ("unk_token", "<|endoftext|>"),
            ("pad_token", "<|endoftext|>"),
        ],
        _ => &[],
    };
    defaults.iter().copied()
}

/// A token is a string, or an object with its `content`.
fn token_text(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

fn read(dir: &Path, name: &str) -> Result<Option<Vec<u8>>, RuntimeError> {
    let path = dir.join(name);
    match read_regular(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RuntimeError::Read { path, source }),
    }
}

/// Reads a file of bounded size; opening a pipe would block, and a device may never end.
fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let found = std::fs::metadata(path)?;
    if !found.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if found.len() > MAX_FILE {
        let reason = format!("{} bytes, more than the {MAX_FILE} accepted", found.len());
        return Err(io::Error::other(reason));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(MAX_FILE)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn object(
    file: &'static str,
    bytes: Option<&[u8]>,
) -> Result<serde_json::Map<String, Value>, RuntimeError> {
    bytes.map_or(Ok(serde_json::Map::new()), |bytes| {
        serde_json::from_slice(bytes).map_err(|e| malformed(file, e.to_string()))
    })
}

fn malformed(file: &'static str, reason: String) -> RuntimeError {
    RuntimeError::TokenizerFile { file, reason }
}
