//! Token ids as an argument: `1,2,3`, also with spaces.

use std::str::FromStr;

/// A list of token ids, exactly as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdList(pub Vec<u32>);

impl FromStr for IdList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_ids(text).map(Self)
    }
}

/// Reads ids separated by commas, white space, or both; surrounding brackets are allowed.
///
/// # Errors
/// A message naming the first piece that is not a token id.
pub fn parse_ids(text: &str) -> Result<Vec<u32>, String> {
    let trimmed = text.trim();
    let inner = trimmed
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(trimmed);
    inner
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|piece| !piece.is_empty())
        .map(|piece| {
            piece
                .parse()
                .map_err(|_| format!("`{piece}` is not a token id"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_may_be_mixed() {
        assert_eq!(parse_ids("1,2, 3 4\n5").unwrap(), [1, 2, 3, 4, 5]);
        assert_eq!(parse_ids("[7, 8]").unwrap(), [7, 8]);
        assert_eq!(parse_ids(" ").unwrap(), [0u32; 0]);
    }

    #[test]
    fn what_is_not_an_id_is_named() {
        assert!(parse_ids("1,x").unwrap_err().contains("`x`"));
        assert!(parse_ids("-1").unwrap_err().contains("`-1`"));
        assert!(parse_ids("4294967296").is_err());
    }
}
