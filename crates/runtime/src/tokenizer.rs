//! Text to token ids and back, as `tokenizer.json` says.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use onebit_format::PackedFile;
use tokenizers::AddedToken;

use crate::error::RuntimeError;
use crate::guard::guarded;
use crate::text_files::{TOKENIZER, TOKENIZER_CONFIG, TextFiles};
use crate::tokenizer_parts::Inner;

/// A tokenizer with its special tokens.
///
/// ```no_run
/// use onebit_runtime::Tokenizer;
///
/// let tokenizer = Tokenizer::from_dir("checkpoint".as_ref())?;
/// let ids = tokenizer.encode("Once upon a time", true)?;
/// assert_eq!(tokenizer.decode(&ids, true)?, "Once upon a time");
/// # Ok::<(), onebit_runtime::RuntimeError>(())
/// ```
#[derive(Debug)]
pub struct Tokenizer {
    inner: Inner,
    roles: BTreeMap<String, String>,
    special_ids: HashSet<u32>,
    byte_fallback: bool,
}

impl Tokenizer {
    /// Builds the tokenizer. Tokens that the config adds and special tokens that it names become
    /// part of it, as in `transformers`.
    ///
    /// # Errors
    /// [`RuntimeError::TokenizerFile`] where a file does not describe a tokenizer.
    pub fn new(files: &TextFiles<'_>) -> Result<Self, RuntimeError> {
        guarded(|| Self::build(files)).unwrap_or_else(|reason| {
            Err(RuntimeError::TokenizerFile {
                file: TOKENIZER,
                reason,
            })
        })
    }

    fn build(files: &TextFiles<'_>) -> Result<Self, RuntimeError> {
        let malformed = |e: tokenizers::Error| RuntimeError::TokenizerFile {
            file: TOKENIZER,
            reason: e.to_string(),
        };
        let mut inner = Inner::new(files)?;
        inner
            .add(config_tokens(files, &inner)?)
            .map_err(malformed)?;

        let roles = files.special_tokens();
        let mut special = inner.added(true);
        let named: Vec<AddedToken> = roles
            .values()
            .filter(|token| special.insert((*token).clone()))
            .map(|token| AddedToken::from(token.as_str(), true))
            .collect();
        inner.add(named).map_err(malformed)?;

        let special_ids = special.iter().filter_map(|token| inner.id(token)).collect();
        let byte_fallback = inner.decoder().is_some_and(decodes_byte_tokens);
        Ok(Self {
            inner,
            roles,
            special_ids,
            byte_fallback,
        })
    }

    /// The tokenizer of a folder.
    ///
    /// # Errors
    /// As [`TextFiles::from_dir`] and [`Tokenizer::new`].
    pub fn from_dir(dir: &Path) -> Result<Self, RuntimeError> {
        Self::new(&TextFiles::from_dir(dir)?)
    }

    /// The tokenizer of a packed file.
    ///
    /// # Errors
    /// As [`TextFiles::from_packed`] and [`Tokenizer::new`].
    pub fn from_packed(file: &PackedFile) -> Result<Self, RuntimeError> {
        Self::new(&TextFiles::from_packed(file)?)
    }

    /// The ids of a text. With `add_special`, the special tokens that the model expects around a
    /// plain text are added; a rendered chat has its own and must be encoded without.
    ///
    /// # Errors
    /// [`RuntimeError::Tokenizer`], for texts that the tokenizer's model has no tokens for.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, RuntimeError> {
        let ids = guarded(|| self.inner.encode(text, add_special));
        ids.map_err(RuntimeError::Tokenizer)?.map_err(failed)
    }

    /// The text of ids; with `skip_special`, special tokens leave no trace. Ids without a token,
    /// which models with a padded vocabulary can produce, stand for nothing.
    ///
    /// # Errors
    /// [`RuntimeError::Tokenizer`] where the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, RuntimeError> {
        let text = guarded(|| self.inner.decode(ids, skip_special));
        text.map_err(RuntimeError::Tokenizer)?.map_err(failed)
    }

    /// Number of tokens, added ones included.
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The token of an id, as it is written in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.token(id)
    }

    /// The id of a token written as in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.id(token)
    }

    /// Whether the id is a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id)
    }

    /// The special tokens by role: `bos_token`, `eos_token`, `pad_token`, ...
    pub fn roles(&self) -> &BTreeMap<String, String> {
        &self.roles
    }

    /// The id of the special token with a role such as `bos_token`.
    pub fn role(&self, role: &str) -> Option<u32> {
        self.id(self.roles.get(role)?)
    }

    /// Whether the id is a single byte of a text that the vocabulary has no token for. A run of
    /// them decodes as a whole.
    pub(crate) fn is_byte(&self, id: u32) -> bool {
        self.byte_fallback
            && self.token(id).is_some_and(|token| {
                token.len() == 6 && token.starts_with("<0x") && token.ends_with('>')
            })
    }
}

/// The added tokens that the config lists and `tokenizer.json` lacks, by id.
fn config_tokens(files: &TextFiles<'_>, inner: &Inner) -> Result<Vec<AddedToken>, RuntimeError> {
    let malformed = |reason: String| RuntimeError::TokenizerFile {
        file: TOKENIZER_CONFIG,
        reason,
    };
    let Some(listed) = files.config.get("added_tokens_decoder") else {
        return Ok(Vec::new());
    };
    let known = inner.added(false);
    let mut missing = BTreeMap::new();
    let listed = listed
        .as_object()
        .ok_or_else(|| malformed("added_tokens_decoder is no object".into()))?;
    for (id, token) in listed {
        let field = || format!("added_tokens_decoder.{id}");
        let id: u32 = id
            .parse()
            .map_err(|e| malformed(format!("{}: {e}", field())))?;
        let flag = |name| token[name].as_bool().unwrap_or(false);
        let content = token["content"]
            .as_str()
            .ok_or_else(|| malformed(format!("{}.content is no string", field())))?;
        let token = AddedToken::from(content, flag("special"))
            .single_word(flag("single_word"))
            .lstrip(flag("lstrip"))
            .rstrip(flag("rstrip"))
            .normalized(token["normalized"].as_bool().unwrap_or(!flag("special")));
        if !known.contains(&token.content) {
            missing.insert(id, token);
        }
    }
    Ok(missing.into_values().collect())
}

/// Whether a decoder turns runs of tokens such as `<0x0A>` into bytes.
fn decodes_byte_tokens(decoder: &tokenizers::DecoderWrapper) -> bool {
    match decoder {
        tokenizers::DecoderWrapper::ByteFallback(_) => true,
        tokenizers::DecoderWrapper::Sequence(sequence) => {
            sequence.get_decoders().iter().any(decodes_byte_tokens)
        }
        _ => false,
    }
}

fn failed(error: tokenizers::Error) -> RuntimeError {
    RuntimeError::Tokenizer(error.to_string())
}
