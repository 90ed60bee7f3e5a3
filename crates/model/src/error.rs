//! What can go wrong, one enum, classified for exit codes.

/// A field of a [`ModelSpec`](crate::ModelSpec) is out of bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("config field {field}: {reason}")]
pub struct SpecError {
    /// The field, as spelled in the config.
    pub field: &'static str,
    /// What is wrong with its value.
    pub reason: String,
}
