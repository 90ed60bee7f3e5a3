//! The files that turn text into tokens and back, wherever they lie.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use onebit_format::{PackedFile, SharedBlob};
use onebit_tokenizer::{CompactError, Header, Origin, class};
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
/// Name of the blob that holds the tokenizer in its compact form.
pub(crate) const COMPACT: &str = "tokenizer.bpe";
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
    /// The compact form of `tokenizer`, where a packed file has one that was made of these files.
    pub(crate) compact: Option<SharedBlob>,
}

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
            compact: None,
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
            class_ignored: model.is_some_and(|model| class_ignored(&model["model_type"])),
            ..files
        })
    }

    /// The blobs of a packed file.
    ///
    /// # Errors
    /// [`RuntimeError::NoTokenizer`] without the blob `tokenizer.json`,
    /// [`RuntimeError::TokenizerFile`] where one is malformed. The bytes of `tokenizer.json` are not
    /// looked at here.
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
            class_ignored: class_ignored(&file.meta().model["architecture"]),
            compact: compact(file)?,
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

/// Whether `transformers` ignores the class that the config of such a model names.
fn class_ignored(model: &Value) -> bool {
    model.as_str().is_some_and(class::is_ignored_for)
}

/// The compact form of a packed file's tokenizer. `None` where there is none, where it is of a newer version, and
/// where it was made of other files than those beside it, which count then: their hashes are compared, as the
/// metadata gives them.
///
/// # Errors
/// [`RuntimeError::TokenizerFile`] where the blob is none.
pub(crate) fn compact(file: &PackedFile) -> Result<Option<SharedBlob>, RuntimeError> {
    let Ok(blob) = file.share_blob(COMPACT) else {
        return Ok(None);
    };
    let header = match Header::parse(blob.as_ref()) {
        Ok(header) => header,
        Err(CompactError::Version { .. }) => return Ok(None),
        Err(error) => return Err(malformed(COMPACT, error.to_string())),
    };
    let hash = |name| {
        file.meta()
            .sha256
            .get(name)
            .map_or([0; 32], |hex| unhex(hex))
    };
    let beside = Origin {
        tokenizer: hash(TOKENIZER),
        config: hash(TOKENIZER_CONFIG),
        class_ignored: class_ignored(&file.meta().model["architecture"]),
    };
    Ok((header.origin == beside).then_some(blob))
}

/// The bytes of a hash in the metadata, whose digits were checked when the file was opened.
fn unhex(digits: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let digit = |at: usize| {
            pair.get(at)
                .and_then(|&c| char::from(c).to_digit(16))
                .unwrap_or(0)
        };
        *byte = (digit(0) * 16 + digit(1)) as u8;
    }
    bytes
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
