//! A hub on this machine: HTTP/1.1 on a port of 127.0.0.1, with a log of what it was asked.

#![allow(dead_code, unreachable_pub)]

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A commit hash.
pub const COMMIT: &str = "5f0b02c75b57c5855da9ae460ce51323ea669d8a";

/// What a client asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// First byte of the range asked for.
    pub fn from(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }
}

/// How a body goes out.
#[derive(Clone, Debug, PartialEq)]
pub enum Sending {
    Whole,
    /// So many bytes, and then the connection is closed.
    Cut(usize),
    /// So many bytes, and then silence.
    Stall(usize),
    /// A few bytes at a time.
    Slow(usize, Duration),
    /// The body again and again, without a length.
    Endless,
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub sending: Sending,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            sending: Sending::Whole,
        }
    }

    /// Sets a header, replacing one of that name.
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.into(), value.to_string()));
        self
    }

    pub fn sending(mut self, sending: Sending) -> Self {
        self.sending = sending;
        self
    }
}

/// A server, until the test ends.
#[derive(Clone)]
pub struct Server {
    pub port: u16,
    log: Arc<Mutex<Vec<Asked>>>,
    sent: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Server {
    /// A server that answers as `answer` says; the number is that of the earlier requests with the same method and
    /// path.
    pub fn start(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            log: Arc::default(),
            sent: Arc::default(),
        };
        let (shared, answer) = (server.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, answer) = (shared.clone(), answer.clone());
                std::thread::spawn(move || shared.serve(stream, &*answer));
            }
        });
        server
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The same server under another name.
    pub fn other_url(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// All requests so far.
    pub fn log(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }

    /// Forgets the requests so far.
    pub fn clear(&self) {
        self.log.lock().unwrap().clear();
    }

    /// Method and last part of the path of all requests so far.
    pub fn asked(&self) -> Vec<String> {
        let short = |asked: &Asked| {
            format!(
                "{} {}",
                asked.method,
                asked.path.rsplit('/').next().unwrap_or_default()
            )
        };
        self.log().iter().map(short).collect()
    }

    /// Bytes of bodies sent for paths that end so.
    pub fn sent(&self, end: &str) -> usize {
        let sent = self.sent.lock().unwrap();
        sent.iter()
            .filter(|(path, _)| path.ends_with(end))
            .map(|(_, bytes)| bytes)
            .sum()
    }

    fn serve(&self, stream: TcpStream, answer: &dyn Fn(&Asked, usize) -> Reply) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut stream = stream;
        loop {
            let asked = read_request(&mut reader)?;
            let earlier = {
                let mut log = self.log.lock().unwrap();
                let same =
                    |other: &&Asked| other.method == asked.method && other.path == asked.path;
                let earlier = log.iter().filter(same).count();
                log.push(asked.clone());
                earlier
            };
            let reply = answer(&asked, earlier);
            self.send(&mut stream, &asked, reply)?;
        }
    }

    fn send(&self, stream: &mut TcpStream, asked: &Asked, mut reply: Reply) -> Option<()> {
        let endless = reply.sending == Sending::Endless;
        let has_length = reply
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        if !has_length && !endless {
            reply = reply.clone().with("Content-Length", reply.body.len());
        }
        let mut head = format!("HTTP/1.1 {} Reason\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if endless {
            head.push_str("Connection: close\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
        if asked.method == "HEAD" {
            return Some(());
        }
        let mut put = |bytes: &[u8]| {
            *self
                .sent
                .lock()
                .unwrap()
                .entry(asked.path.clone())
                .or_default() += bytes.len();
            stream.write_all(bytes).and_then(|()| stream.flush()).ok()
        };
        match reply.sending {
            Sending::Whole => put(&reply.body),
            Sending::Cut(at) => {
                put(&reply.body[..at.min(reply.body.len())]);
                None
            }
            Sending::Stall(at) => {
                put(&reply.body[..at]);
                std::thread::sleep(Duration::from_secs(60));
                None
            }
            Sending::Slow(at_once, pause) => {
                for piece in reply.body.chunks(at_once) {
                    put(piece)?;
                    std::thread::sleep(pause);
                }
                Some(())
            }
            Sending::Endless => loop {
                put(&reply.body)?;
            },
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut first = lines.first()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines[1..].iter().filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    Some(Asked {
        method,
        path,
        headers: headers.collect(),
    })
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A repository `user/name` at [`COMMIT`], served as the hub does.
#[derive(Clone, Default)]
pub struct Repo {
    pub files: BTreeMap<String, Vec<u8>>,
    /// Where large files are redirected to, if they are.
    pub cdn: Option<String>,
    /// What must be in the `Authorization` header.
    pub token: Option<String>,
}

impl Repo {
    pub fn new(files: &[(&str, &[u8])]) -> Self {
        Self {
            files: files
                .iter()
                .map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec()))
                .collect(),
            ..Self::default()
        }
    }

    /// The files of a folder.
    pub fn of_folder(folder: &Path) -> Self {
        let mut repo = Self::default();
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            repo.files
                .insert(name, std::fs::read(entry.path()).unwrap());
        }
        repo
    }

    pub fn add(mut self, name: &str, bytes: &[u8]) -> Self {
        self.files.insert(name.into(), bytes.to_vec());
        self
    }

    /// Starts a server for it.
    pub fn serve(self) -> Server {
        self.serve_but(|_, _, reply| reply)
    }

    /// The same, with answers changed by `change`.
    pub fn serve_but(
        self,
        change: impl Fn(&Asked, usize, Reply) -> Reply + Send + Sync + 'static,
    ) -> Server {
        Server::start(move |asked, earlier| change(asked, earlier, self.answer(asked)))
    }

    fn answer(&self, asked: &Asked) -> Reply {
        if let Some(token) = &self.token
            && asked.header("authorization") != Some(&format!("Bearer {token}"))
        {
            return Reply::new(401, "{}").with("X-Error-Message", "Invalid credentials");
        }
        if asked.path.starts_with("/api/models/user/name/revision/") {
            let known = [COMMIT, "main", "refs%2Fpr%2F1"]
                .iter()
                .any(|end| asked.path.ends_with(end));
            if !known {
                return Reply::new(404, "{}").with("X-Error-Code", "RevisionNotFound");
            }
            return Reply::new(200, self.description());
        }
        let prefix = format!("/user/name/resolve/{COMMIT}/");
        let found = asked
            .path
            .strip_prefix(&prefix)
            .and_then(|name| Some((name, self.files.get(name)?)));
        let Some((name, bytes)) = found else {
            return Reply::new(404, "").with("X-Error-Code", "EntryNotFound");
        };
        let hash = sha256(bytes);
        let is_large = name.ends_with(".safetensors");
        let reply = match (&self.cdn, is_large) {
            (Some(cdn), true) => {
                Reply::new(302, "Found").with("Location", format!("{cdn}/cdn/{hash}?signature=s"))
            }
            (_, true) => ranged(asked, bytes, &hash),
            (_, false) => ranged(asked, bytes, &hash[..40]),
        };
        let reply = reply.with("X-Repo-Commit", COMMIT);
        match is_large {
            true => reply
                .with("X-Linked-Etag", format!("\"{hash}\""))
                .with("X-Linked-Size", bytes.len()),
            false => reply,
        }
    }

    fn description(&self) -> String {
        let siblings: Vec<_> = self
            .files
            .keys()
            .map(|name| format!(r#"{{"rfilename":"{name}"}}"#))
            .collect();
        format!(
            r#"{{"id":"user/name","sha":"{COMMIT}","private":false,"siblings":[{}]}}"#,
            siblings.join(",")
        )
    }

    /// Serves its large files under `/cdn/` and their SHA-256.
    pub fn serve_cdn(
        &self,
        change: impl Fn(&Asked, usize, Reply) -> Reply + Send + Sync + 'static,
    ) -> Server {
        let blobs: BTreeMap<String, Vec<u8>> = self
            .files
            .values()
            .map(|bytes| (format!("/cdn/{}?signature=s", sha256(bytes)), bytes.clone()))
            .collect();
        Server::start(move |asked, earlier| {
            let reply = match blobs.get(&asked.path) {
                Some(bytes) => ranged(asked, bytes, "multipart-2"),
                None => Reply::new(404, ""),
            };
            change(asked, earlier, reply)
        })
    }
}

/// A file, or the part of it that was asked for.
pub fn ranged(asked: &Asked, bytes: &[u8], etag: &str) -> Reply {
    let etag = format!("\"{etag}\"");
    let is_current = asked.header("if-range").is_none_or(|tag| tag == etag);
    let reply = match asked.from().filter(|_| is_current) {
        Some(from) if from >= bytes.len() => {
            Reply::new(416, "").with("Content-Range", format!("bytes */{}", bytes.len()))
        }
        Some(from) => Reply::new(206, &bytes[from..]).with(
            "Content-Range",
            format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()),
        ),
        None => Reply::new(200, bytes),
    };
    reply.with("ETag", etag)
}
