//! A tokenizer around the model.

use serde::Deserialize;
use serde_json::Value;
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    TokenizerBuilder, TokenizerImpl,
};

use crate::bpe::CompactBpe;
use crate::error::CompactError;

/// A tokenizer of the crate `tokenizers` with the compact model.
pub type CompactTokenizer<B> = TokenizerImpl<
    CompactBpe<B>,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

/// The parts of `tokenizer.json` beside the model that count here: truncation and padding do not.
#[derive(Deserialize)]
pub(crate) struct Parts {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    post_processor: Option<PostProcessorWrapper>,
    decoder: Option<DecoderWrapper>,
}

/// An added token. Its id is the model's, or the next free one.
#[derive(Deserialize)]
struct Added {
    #[serde(rename = "id")]
    _id: u32,
    #[serde(flatten)]
    token: AddedToken,
}

/// The tokenizer that [`build`](crate::build) made these bytes of. They are kept: pages of a mapped file are touched
/// where tokens and merges are looked up.
///
/// # Errors
/// [`CompactError`] where the bytes are none. Tables are not read before they are used; what is wrong in them gives
/// wrong ids, or ids without a token.
pub fn load<B: AsRef<[u8]>>(bytes: B) -> Result<CompactTokenizer<B>, CompactError> {
    let model = CompactBpe::new(bytes)?;
    let wrong = |e: serde_json::Error| CompactError::Parts(e.to_string());
    // By way of values: the library takes it for granted that the parts are well-formed JSON.
    let parts: Value = serde_json::from_slice(model.parts()).map_err(wrong)?;
    let parts: Parts = serde_json::from_value(parts).map_err(wrong)?;
    let refused = |e: tokenizers::Error| CompactError::Parts(e.to_string());
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(model)
        .with_normalizer(parts.normalizer)
        .with_pre_tokenizer(parts.pre_tokenizer)
        .with_post_processor(parts.post_processor)
        .with_decoder(parts.decoder)
        .build()
        .map_err(refused)?;
    if !parts.added_tokens.is_empty() {
        let added = parts.added_tokens.into_iter().map(|added| added.token);
        tokenizer.add_tokens(added).map_err(refused)?;
    }
    Ok(tokenizer)
}
