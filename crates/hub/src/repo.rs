//! The name of a repository and of a state of it.

use crate::error::{HubError, Result};
use crate::names::is_component;
use std::fmt;
use std::str::FromStr;

/// The revision that is meant where none is named.
const DEFAULT_REVISION: &str = "main";

/// A repository of models: `user/name`.
///
/// ```
/// use onebit_hub::RepoId;
///
/// assert!("microsoft/bitnet-b1.58-2B-4T".parse::<RepoId>().is_ok());
/// assert!("a/b--c".parse::<RepoId>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RepoId(String);

impl RepoId {
    /// `user/name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder of the repository in the cache.
    pub(crate) fn folder_name(&self) -> String {
        format!("models--{}", self.0.replace('/', "--"))
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RepoId {
    type Err = HubError;

    /// Reads `user/name` by the hub's rules: letters, digits, `-`, `_` and `.`; at most 96 characters each; no
    /// `--`, no `..`, no `-` or `.` at the ends, no `.git` at the end of the name.
    fn from_str(id: &str) -> Result<Self> {
        let refuse = |rule: &str| Err(HubError::Request(format!("`{id}` is not a hub id: {rule}")));
        let Some((user, name)) = id.split_once('/') else {
            return refuse("expected user/name");
        };
        for part in [user, name] {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if part.is_empty() || part.len() > 96 || !part.chars().all(plain) {
                return refuse("both parts are 1 to 96 letters, digits, `-`, `_` or `.`");
            }
            if part.starts_with(['-', '.']) || part.ends_with(['-', '.']) {
                return refuse("no part begins or ends with `-` or `.`");
            }
            if !is_component(part) {
                return refuse("a part is the name of a device");
            }
        }
        if id.contains("--") || id.contains("..") {
            return refuse("`--` and `..` are not allowed");
        }
        if name.ends_with(".git") {
            return refuse("it ends with .git");
        }
        Ok(Self(id.to_owned()))
    }
}

/// A state of a repository: a branch, a tag, or a commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revision(String);

impl Revision {
    /// As it was typed.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a full commit hash, which never changes its meaning.
    pub fn is_commit(&self) -> bool {
        self.0.len() == 40
            && self
                .0
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    }
}

impl Default for Revision {
    /// `main`.
    fn default() -> Self {
        Self(DEFAULT_REVISION.into())
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Revision {
    type Err = HubError;

    /// Reads a revision; its parts between slashes must be usable as file names.
    fn from_str(revision: &str) -> Result<Self> {
        if revision.len() <= 200 && revision.split('/').all(is_component) {
            Ok(Self(revision.to_owned()))
        } else {
            Err(HubError::Request(format!(
                "`{}` is not a revision: expected a branch, a tag or a commit",
                crate::names::printable(revision)
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_the_rules_of_the_hub() {
        for id in [
            "microsoft/bitnet-b1.58-2B-4T",
            "a/b",
            "1bitLLM/bitnet_b1_58-3B",
            "_a/b_",
        ] {
            assert_eq!(id.parse::<RepoId>().unwrap().as_str(), id);
        }
        let long = format!("a/{}", "b".repeat(97));
        for id in [
            "", "gpt2", "/a", "a/", "a/b/c", "a//b", "../b", "a/..", "a--b/c", "a/b--c", "a/b..c",
            ".a/b", "a/b.", "-a/b", "a/b-", "a/b.git", "a b/c", "a/b@c", "é/b", "a\\b/c", "con/b",
            &long,
        ] {
            assert!(id.parse::<RepoId>().is_err(), "{id}");
        }
    }

    #[test]
    fn revisions_stay_in_their_folder() {
        for revision in ["main", "v1.0", "refs/pr/1", "a b"] {
            assert!(revision.parse::<Revision>().is_ok(), "{revision}");
        }
        for revision in ["", "..", "a/../b", "/a", "a\\b", "a\nb", "C:x"] {
            assert!(revision.parse::<Revision>().is_err(), "{revision:?}");
        }
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert!(commit.parse::<Revision>().unwrap().is_commit());
        assert!(!commit[1..].parse::<Revision>().unwrap().is_commit());
        assert!(
            !commit
                .to_uppercase()
                .parse::<Revision>()
                .unwrap()
                .is_commit()
        );
    }
}
