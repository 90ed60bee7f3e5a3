//! One file: from the hub, or from wherever it redirects to, into the cache.
//!
//! The bytes go into `<etag>.incomplete`. A cut is answered by asking for the rest (`Range`), in this process a few
//! times, and in the next one from what is on the disk. That is safe because the etag names the content: large
//! files are compared with the SHA-256 that it is, and a server that kept another version (`If-Range`) or does not
//! know ranges sends the whole file, which then overwrites what was there.

use crate::api::{FileInfo, refusal};
use crate::cache::{RepoCache, beside};
use crate::client::{Call, Client, Follow};
use crate::error::{HubError, Result};
use crate::exchange::Answer;
use crate::lock;
use crate::part::Part;
use crate::progress::Progress;
use crate::repo::RepoId;
use crate::url;
use std::time::Duration;
use ureq::http::{Method, Uri};

/// An attempt that brought this much does not count as a failure.
const PROGRESS: u64 = 1 << 20;
/// Most bytes taken of a file whose size nobody says.
const MAX_UNKNOWN: u64 = 64 << 20;

/// What to fetch, and where to.
pub(crate) struct Download<'a> {
    pub(crate) client: &'a Client,
    pub(crate) cache: &'a RepoCache,
    pub(crate) repo: &'a RepoId,
    pub(crate) commit: &'a str,
    /// The file as the repository names it.
    pub(crate) name: &'a str,
    pub(crate) url: Uri,
    pub(crate) info: &'a FileInfo,
    /// How long the server may keep silent.
    pub(crate) silence: Duration,
    /// Bytes of the files before this one, for the progress.
    pub(crate) before: u64,
}

impl Download<'_> {
    /// Makes sure that the commit has the file, one process at a time.
    pub(crate) fn run(&self, progress: &mut dyn Progress) -> Result<()> {
        let (cache, etag) = (self.cache, &self.info.etag);
        cache.prepare(etag)?;
        let lock = lock::acquire(&cache.lock(etag), self.name, progress)?;
        if cache.file(self.commit, self.name).is_some() {
            return Ok(());
        }
        let is_new = !cache.blob(etag).is_file();
        if is_new {
            self.fetch(lock.is_some(), progress)?;
        }
        cache.point(self.commit, self.name, etag, is_new)
    }

    /// Fetches the blob, into a file that the next process can go on from if `is_kept`.
    fn fetch(&self, is_kept: bool, progress: &mut dyn Progress) -> Result<()> {
        let blob = self.cache.blob(&self.info.etag);
        let etag = &self.info.etag;
        let path = match is_kept {
            true => self.cache.part(etag),
            false => beside(&blob, "incomplete"),
        };
        let mut part = Part::open(path, is_kept, self.info.size)?;
        let done = self
            .fill(&mut part, progress)
            .and_then(|()| self.check(&part))
            .and_then(|()| part.finish(&blob));
        if done.is_err() && !is_kept {
            part.forget();
        }
        done
    }

    /// Fetches what is missing, going on after cuts.
    fn fill(&self, part: &mut Part, progress: &mut dyn Progress) -> Result<()> {
        let mut size = self.info.size;
        let mut validator = self.info.validator.clone();
        let mut failed = 0;
        while size != Some(part.at) {
            let start = part.at;
            let error = match self.attempt(part, &mut size, &mut validator, progress) {
                Err(error) if error.is_transient() => error,
                other => return other,
            };
            if part.at >= start + PROGRESS {
                failed = 0;
            }
            if failed >= self.client.retries() {
                return Err(self.gave_up(part, size, error));
            }
            self.client.pause(failed, &error, progress)?;
            failed += 1;
        }
        Ok(())
    }

    fn gave_up(&self, part: &Part, size: Option<u64>, error: HubError) -> HubError {
        match size {
            Some(bytes) if part.is_kept && part.at > 0 => HubError::Cut {
                file: self.name.into(),
                reason: error.to_string(),
                kept: part.at,
                bytes,
            },
            _ => error,
        }
    }

    /// Asks for the rest once, and takes what comes.
    fn attempt(
        &self,
        part: &mut Part,
        size: &mut Option<u64>,
        validator: &mut Option<String>,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let call = Call {
            method: Method::GET,
            url: self.url.clone(),
            from: (part.at > 0).then(|| (part.at, validator.clone())),
            silence: self.silence,
        };
        let mut answer = self.client.send(&call, Follow::Always, progress)?;
        self.begin(part, &answer, size)?;
        *validator = answer
            .header("etag")
            .filter(|tag| tag.starts_with('"'))
            .map(str::to_owned);
        while let Some(chunk) = answer.chunk(&|| progress.is_cancelled())? {
            let end = part.at + chunk.len() as u64;
            if end > size.unwrap_or(MAX_UNKNOWN) {
                part.forget();
                return Err(self.wrong_length(*size, end));
            }
            part.write(&chunk)?;
            progress.at(self.name, self.before + part.at);
        }
        match *size {
            Some(size) if part.at < size => Err(HubError::Network {
                url: url::shown(&answer.url),
                reason: format!("the connection was cut after {} of {size} bytes", part.at),
                unreachable: false,
            }),
            Some(_) => Ok(()),
            None => {
                *size = Some(part.at);
                Ok(())
            }
        }
    }

    /// Looks at the head of an answer: where the body belongs, and whether it will be as long as announced.
    fn begin(&self, part: &mut Part, answer: &Answer, size: &mut Option<u64>) -> Result<()> {
        let length = answer.number("content-length");
        match answer.status {
            200 => {
                if let (Some(length), Some(size)) = (length, *size)
                    && length != size
                {
                    return Err(self.wrong_length(Some(size), length));
                }
                part.restart();
                *size = size.or(length);
                Ok(())
            }
            206 => {
                let range = answer.header("content-range").and_then(content_range);
                let fits = range.is_some_and(|(from, total)| {
                    from == part.at
                        && total.is_none_or(|total| size.is_none_or(|size| size == total))
                });
                if fits {
                    return Ok(());
                }
                Err(HubError::Content {
                    file: self.name.into(),
                    reason: format!(
                        "asked for the bytes from {} on, the server sends `{}`",
                        part.at,
                        crate::names::printable(answer.header("content-range").unwrap_or_default())
                    ),
                })
            }
            416 if part.at > 0 => {
                part.restart();
                Err(self.again(answer))
            }
            // A link that a CDN signed may have run out; the hub gives another one.
            403 if !self.client.is_hub(&answer.url) => Err(self.again(answer)),
            _ => Err(refusal(self.client, answer, self.repo, self.name)),
        }
    }

    fn again(&self, answer: &Answer) -> HubError {
        HubError::Network {
            url: url::shown(&answer.url),
            reason: format!("the server answers {}", answer.status),
            unreachable: false,
        }
    }

    /// More or fewer bytes than announced are no file that could be completed.
    fn wrong_length(&self, size: Option<u64>, found: u64) -> HubError {
        let expected = match size {
            Some(size) => format!("{size} bytes were announced"),
            None => {
                format!("its size is not announced, and at most {MAX_UNKNOWN} bytes are taken then")
            }
        };
        HubError::Content {
            file: self.name.into(),
            reason: format!("wrong length: {expected}, the server sends {found} or more"),
        }
    }

    /// Compares the content with the SHA-256 that its etag is.
    fn check(&self, part: &Part) -> Result<()> {
        let Some(expected) = self.info.sha256() else {
            return Ok(());
        };
        let found = part.sha256();
        if found == expected {
            return Ok(());
        }
        part.forget();
        Err(HubError::Content {
            file: self.name.into(),
            reason: format!(
                "its sha256 is {found}, announced was {expected}; what arrived is deleted"
            ),
        })
    }
}

/// First byte and size of the whole from `bytes 5-9/10`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let from = range.split_once('-')?.0.trim().parse().ok()?;
    match total.trim() {
        "*" => Some((from, None)),
        total => Some((from, Some(total.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use sha2::{Digest, Sha256};
    use std::fs;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Answers every request with `body`, in pieces.
    fn serve(body: &'static [u8]) -> Uri {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let _ = stream.read(&mut [0; 4096]);
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    let _ = stream.write_all(head.as_bytes());
                    for piece in body.chunks(body.len() / 8 + 1) {
                        let _ = stream.write_all(piece);
                        std::thread::sleep(Duration::from_millis(10));
                    }
                });
            }
        });
        url::parse(&format!("http://127.0.0.1:{port}/")).unwrap()
    }

    /// Fetches `body` four times at once without a lock, and gives the results and the names that are left.
    fn without_locks(body: &'static [u8], is_kept: bool, sha256: &str) -> (Vec<bool>, Vec<String>) {
        let root = tempfile::tempdir().unwrap();
        let repo: RepoId = "user/name".parse().unwrap();
        let (cache, client) = (
            RepoCache::new(root.path(), &repo, true),
            Client::new(&Settings::new(root.path())).unwrap(),
        );
        let info = FileInfo {
            etag: sha256.into(),
            size: Some(body.len() as u64),
            validator: None,
        };
        cache.prepare(&info.etag).unwrap();
        let url = serve(body);
        let fetch = || {
            let download = Download {
                client: &client,
                cache: &cache,
                repo: &repo,
                commit: "c",
                name: "f",
                url: url.clone(),
                info: &info,
                silence: Duration::from_secs(5),
                before: 0,
            };
            download.fetch(is_kept, &mut ()).is_ok()
        };
        let done = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(fetch)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        if let Ok(bytes) = fs::read(cache.blob(&info.etag)) {
            assert_eq!(bytes, body);
        }
        let entries = fs::read_dir(cache.blob("x").parent().unwrap()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        (done, names.collect())
    }

    #[test]
    fn without_locks_nothing_is_mixed_up() {
        let body: &[u8] = &[7; 300_000];
        let hash: String = Sha256::digest(body)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        for is_kept in [true, false] {
            let (done, names) = without_locks(body, is_kept, &hash);
            assert_eq!(
                (done, names),
                (vec![true; 4], vec![hash.clone()]),
                "{is_kept}"
            );
        }
        let (done, names) = without_locks(body, false, &hash.replace(|_| true, "0"));
        assert_eq!((done, names.len()), (vec![false; 4], 0));
    }

    #[test]
    fn content_ranges_are_read() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for wrong in [
            "",
            "bytes */10",
            "5-9/10",
            "bytes 5/10",
            "bytes a-9/10",
            "bytes 5-9/x",
        ] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }
}
