//! The access token, which no message and no log may show.

use crate::error::{HubError, Result};
use std::fmt;

/// An access token of the hub. It is sent to the endpoint's own scheme, host and port only.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token without the white space around it; `None` where nothing is left.
    ///
    /// # Errors
    /// [`HubError::Request`] for characters that cannot be part of an HTTP header.
    pub fn new(text: &str) -> Result<Option<Self>> {
        let text = text.trim();
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(HubError::Request(
                "the access token of the hub (HF_TOKEN or the token file) has characters that no token has".into(),
            ));
        }
        Ok((!text.is_empty()).then(|| Self(text.to_owned())))
    }

    /// The value of the `Authorization` header.
    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_trimmed_checked_and_hidden() {
        assert_eq!(Token::new(" \r\n").unwrap(), None);
        let token = Token::new(" hf_secret\r\n").unwrap().unwrap();
        assert_eq!(token.header(), "Bearer hf_secret");
        assert!(!format!("{token:?}").contains("secret"));
        let error = Token::new("hf_se\ncret").unwrap_err().to_string();
        assert!(!error.contains("cret"), "{error}");
    }
}
