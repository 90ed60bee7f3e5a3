//! Text from ids that arrive one by one.

use crate::error::RuntimeError;
use crate::tokenizer::Tokenizer;

/// Turns ids into text as they come: the concatenation of what it returns is what
/// [`Tokenizer::decode`] makes of all ids at once, and every piece is whole characters.
///
/// What a token reads as may depend on its neighbours: a character's bytes may be spread over
/// several tokens, and the first word of a text loses its leading space. So each new id is decoded
/// together with the ids of the piece before, whose text is then cut off; and while the text ends
/// in an unfinished character, or in byte tokens that the next id may continue, it is held back.
#[derive(Debug)]
pub struct StreamDecoder<'t> {
    tokenizer: &'t Tokenizer,
    skip_special: bool,
    /// The ids whose text was returned last, then the ids held back.
    window: Vec<u32>,
    /// How many ids of the window have been returned.
    returned: usize,
    /// What those decode to on their own.
    returned_text: String,
}

impl<'t> StreamDecoder<'t> {
    /// Decodes ids from the beginning of a text.
    pub fn new(tokenizer: &'t Tokenizer, skip_special: bool) -> Self {
        Self {
            tokenizer,
            skip_special,
            window: Vec::new(),
            returned: 0,
            returned_text: String::new(),
        }
    }

    /// Decodes ids that continue the text of `before`: their first word keeps its leading space.
    ///
    /// # Errors
    /// [`RuntimeError::Tokenizer`] where the tokenizer's decoder fails.
    pub fn after(
        tokenizer: &'t Tokenizer,
        skip_special: bool,
        before: &[u32],
    ) -> Result<Self, RuntimeError> {
        let mut decoder = Self::new(tokenizer, skip_special);
        for &id in before {
            decoder.push(id)?;
        }
        decoder.finish()?;
        Ok(decoder)
    }

    /// Takes the next id; returns the text that is certain now, perhaps none.
    ///
    /// # Errors
    /// [`RuntimeError::Tokenizer`] where the tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<String, RuntimeError> {
        let skipped = self.skip_special && self.tokenizer.is_special(id);
        if skipped || self.tokenizer.token(id).is_none() {
            return Ok(String::new());
        }
        self.window.push(id);
        if self.tokenizer.is_byte(id) {
            return Ok(String::new());
        }
        let text = self.tokenizer.decode(&self.window, self.skip_special)?;
        if text.ends_with(char::REPLACEMENT_CHARACTER) {
            return Ok(String::new());
        }
        self.take(&text)
    }

    /// Returns what is held back, however it ends. More ids may follow; they continue the text.
    ///
    /// # Errors
    /// [`RuntimeError::Tokenizer`] where the tokenizer's decoder fails.
    pub fn finish(&mut self) -> Result<String, RuntimeError> {
        let text = self.tokenizer.decode(&self.window, self.skip_special)?;
        self.take(&text)
    }

    /// Returns what of the window's text is new, and moves the window on.
    fn take(&mut self, text: &str) -> Result<String, RuntimeError> {
        let new = &text[common_prefix(text, &self.returned_text)..];
        if !new.is_empty() {
            self.window.drain(..self.returned);
            self.returned = self.window.len();
            self.returned_text = self.tokenizer.decode(&self.window, self.skip_special)?;
        }
        Ok(new.to_owned())
    }
}

/// Length in bytes of the characters that both texts begin with. The whole of `b`, unless text was
/// returned whose last character was not complete.
fn common_prefix(a: &str, b: &str) -> usize {
    if a.starts_with(b) {
        return b.len();
    }
    a.chars()
        .zip(b.chars())
        .take_while(|(a, b)| a == b)
        .map(|(a, _)| a.len_utf8())
        .sum()
}
