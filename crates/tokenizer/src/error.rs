//! Why there is no compact form, and why bytes are none.

use std::borrow::Cow;

/// Why a tokenizer has no compact form: it is another kind of model, or has a part that the form does not represent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub(crate) Cow<'static, str>);

impl Unfit {
    pub(crate) fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(reason.into())
    }
}

/// Why bytes are no compact tokenizer.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompactError {
    /// They do not begin like one.
    #[error("these bytes are no compact tokenizer")]
    Magic,
    /// It is of a version, or has flags, that this program does not know.
    #[error("version {version} with flags {flags:#x} is not known to this program")]
    Version {
        /// The version.
        version: u32,
        /// The flags.
        flags: u32,
    },
    /// The header announces another number of bytes.
    #[error("the tables take {expected} bytes, but there are {found}")]
    Length {
        /// Bytes that the header announces.
        expected: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// The counts of the header do not belong together.
    #[error("{tokens} tokens with {ids} ids")]
    Counts {
        /// Tokens.
        tokens: u32,
        /// Ids.
        ids: u32,
    },
    /// The JSON of the other parts does not describe them.
    #[error("the parts beside the model: {0}")]
    Parts(String),
}
