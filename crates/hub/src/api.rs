//! What the hub says about a repository and its files.

use crate::client::{Call, Client, Follow};
use crate::error::{HubError, Result};
use crate::exchange::Answer;
use crate::names::{is_component, printable, url_encode};
use crate::progress::Progress;
use crate::repo::{RepoId, Revision};
use crate::url;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::time::Duration;
use ureq::http::{Method, Uri};

/// Longest list of files accepted, in bytes.
const MAX_LISTING: usize = 32 << 20;

/// A revision as the hub resolves it.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: BTreeSet<String>,
}

/// What the hub says about one file before it is fetched.
#[derive(Clone, Debug)]
pub(crate) struct FileInfo {
    /// The name of the file's blob: its SHA-256 where the hub stores it as a large file, else its git hash.
    pub(crate) etag: String,
    /// Bytes of the file, where the hub says so.
    pub(crate) size: Option<u64>,
    /// The `ETag` of the answer that would carry the body, where it is known and strong.
    pub(crate) validator: Option<String>,
}

impl FileInfo {
    /// The SHA-256 of the content, where the etag is one.
    pub(crate) fn sha256(&self) -> Option<&str> {
        let hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        Some(self.etag.as_str()).filter(|etag| etag.len() == 64 && etag.bytes().all(hex))
    }
}

/// Asks for the commit and the files of a revision, once.
pub(crate) fn listing(
    client: &Client,
    endpoint: &str,
    (repo, revision): (&RepoId, &Revision),
    silence: Duration,
    progress: &dyn Progress,
) -> Result<Listing> {
    #[derive(Deserialize)]
    struct Info {
        sha: Option<String>,
        #[serde(default)]
        siblings: Vec<Sibling>,
    }
    #[derive(Deserialize)]
    struct Sibling {
        rfilename: String,
    }
    let revision_path = url_encode(revision.as_str(), "");
    let url = url::parse(&format!(
        "{endpoint}/api/models/{repo}/revision/{revision_path}"
    ))?;
    let call = Call {
        method: Method::GET,
        url,
        from: None,
        silence,
    };
    let mut answer = client.send(&call, Follow::Always, progress)?;
    if answer.status != 200 {
        return Err(refusal(
            client,
            &answer,
            repo,
            &format!("revision {revision}"),
        ));
    }
    let body = answer.body(MAX_LISTING, &|| progress.is_cancelled())?;
    let wrong = |reason: String| HubError::Answer {
        url: url::shown(&call.url),
        reason,
    };
    let info: Info = serde_json::from_slice(&body).map_err(|error| {
        wrong(format!(
            "expected the description of a model: {}",
            printable(&error.to_string())
        ))
    })?;
    let commit = info
        .sha
        .ok_or_else(|| wrong("the answer names no commit (`sha`)".into()))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !commit.chars().all(plain) || !is_component(&commit) {
        return Err(wrong(format!(
            "`{}` is not a commit hash",
            printable(&commit)
        )));
    }
    Ok(Listing {
        commit,
        files: info
            .siblings
            .into_iter()
            .map(|file| file.rfilename)
            .collect(),
    })
}

/// The address of a file at a commit.
pub(crate) fn file_url(endpoint: &str, repo: &RepoId, commit: &str, file: &str) -> Result<Uri> {
    let (commit, file) = (url_encode(commit, ""), url_encode(file, "/"));
    url::parse(&format!("{endpoint}/{repo}/resolve/{commit}/{file}"))
}

/// Asks for the hash and the size of a file, once. Where `HEAD` is refused, as some servers do with every `HEAD`, the
/// head of the answer to `GET` tells.
pub(crate) fn file_info(
    client: &Client,
    repo: &RepoId,
    (url, file): (&Uri, &str),
    silence: Duration,
    progress: &dyn Progress,
) -> Result<FileInfo> {
    let mut call = Call {
        method: Method::HEAD,
        url: url.clone(),
        from: None,
        silence,
    };
    let mut answer = client.send(&call, Follow::AtHub, progress)?;
    if matches!(answer.status, 400 | 404 | 405 | 501) {
        call.method = Method::GET;
        answer = client.send(&call, Follow::AtHub, progress)?;
    }
    let leads_away = answer.location().is_some();
    if answer.status != 200 && !leads_away {
        return Err(refusal(client, &answer, repo, file));
    }
    let tag = answer
        .header("x-linked-etag")
        .or_else(|| answer.header("etag"));
    let etag = tag.map(normalize).unwrap_or_default();
    if !is_component(&etag) {
        return Err(HubError::Answer {
            url: url::shown(url),
            reason: match tag {
                None => "the answer has no ETag".into(),
                Some(tag) => format!("the ETag {} cannot name a file", printable(tag)),
            },
        });
    }
    let length = answer.number("content-length").filter(|_| !leads_away);
    let validator = answer
        .header("etag")
        .filter(|tag| tag.starts_with('"') && !leads_away);
    Ok(FileInfo {
        etag,
        size: answer.number("x-linked-size").or(length),
        validator: validator.map(str::to_owned),
    })
}

/// An ETag without its quotes and its mark of weakness.
fn normalize(tag: &str) -> String {
    let tag = tag.trim();
    tag.strip_prefix("W/")
        .unwrap_or(tag)
        .trim_matches('"')
        .to_owned()
}

/// Turns an answer that is not the one hoped for into an error that says what to do.
pub(crate) fn refusal(client: &Client, answer: &Answer, repo: &RepoId, what: &str) -> HubError {
    let message = answer.header("x-error-message").map(printable);
    let said = message
        .map(|text| format!(" (it says: {text})"))
        .unwrap_or_default();
    let code = answer.header("x-error-code").unwrap_or_default();
    match (answer.status, code) {
        (401, _) if client.has_token() => HubError::Denied(format!(
            "the hub refuses {repo} (401): it does not exist, or the token (HF_TOKEN) is not valid or may not read \
             it{said}"
        )),
        (401, _) => HubError::Denied(format!(
            "the hub refuses {repo} (401): it does not exist, or it is private or gated; for the latter set HF_TOKEN \
             to a token that may read it{said}"
        )),
        (403, _) => HubError::Denied(format!(
            "the hub refuses {repo} (403): accept its terms on its page, and set HF_TOKEN to a token of that account \
             that may read it{said}"
        )),
        (404, "RepoNotFound") => {
            HubError::NotFound(format!("the hub has no repository {repo}{said}"))
        }
        (404, "RevisionNotFound" | "EntryNotFound") => {
            HubError::NotFound(format!("{repo} has no {what} (404){said}"))
        }
        (404 | 410, _) => HubError::NotFound(format!(
            "the hub has no repository {repo}, or it has no {what} ({}){said}",
            answer.status
        )),
        (status, _) => HubError::Status {
            url: url::shown(&answer.url),
            status,
            retry_after: answer.number("retry-after").map(Duration::from_secs),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_lose_quotes_and_weakness_only() {
        for (tag, name) in [
            ("\"abc\"", "abc"),
            ("W/\"abc\"", "abc"),
            (" abc ", "abc"),
            ("\"Wab-2\"", "Wab-2"),
        ] {
            assert_eq!(normalize(tag), name);
        }
    }
}
