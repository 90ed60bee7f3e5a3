//! One request and its answer, on a thread of its own.
//!
//! A blocking read cannot be interrupted, and Ctrl-C should not wait for a server that keeps silent. So the thread
//! reads and the caller waits in small steps. A caller that goes away leaves a thread that ends at its next send,
//! or when the server has kept silent for too long.

use crate::error::{HubError, Result};
use crate::url::shown;
use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use ureq::http::{HeaderMap, Request, Uri};
use ureq::{Agent, Body};

/// How often the caller looks whether it should stop.
const TICK: Duration = Duration::from_millis(50);
/// Bytes read at once.
const CHUNK: usize = 64 << 10;
/// Chunks that may wait for the disk.
const WAITING: usize = 16;

/// An answer whose body is still to come.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) url: Uri,
    events: Receiver<Event>,
}

enum Event {
    Head(u16, HeaderMap),
    Data(Vec<u8>),
    End,
    Failed(ureq::Error),
}

/// Sends a request and waits for the head of the answer, asking `is_cancelled` meanwhile.
pub(crate) fn start(
    agent: &Agent,
    request: Request<()>,
    silence: Duration,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Answer> {
    let (sender, events) = sync_channel(WAITING);
    let (agent, url) = (agent.clone(), request.uri().clone());
    let mut request = agent.configure_request(request);
    if is_this_machine(&url) {
        request = request.proxy(None);
    }
    let request = request
        .timeout_connect(Some(silence))
        .timeout_per_read(Some(silence))
        .timeout_per_write(Some(silence))
        .timeout_recv_response(Some(silence))
        .build();
    std::thread::Builder::new()
        .name("hub".into())
        .spawn(move || {
            if let Err(error) = perform(&agent, request, &sender) {
                let _ = sender.send(Event::Failed(error));
            }
        })
        .map_err(|error| HubError::Network {
            url: shown(&url),
            reason: format!("no thread could be started: {error}"),
            unreachable: true,
        })?;
    match next(&events, &url, is_cancelled)? {
        Event::Head(status, headers) => Ok(Answer {
            status,
            headers,
            url,
            events,
        }),
        _ => Err(HubError::Network {
            url: shown(&url),
            reason: "the connection ended before an answer".into(),
            unreachable: false,
        }),
    }
}

/// A proxy could not reach a server of this machine.
fn is_this_machine(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn perform(
    agent: &Agent,
    request: Request<()>,
    sender: &SyncSender<Event>,
) -> std::result::Result<(), ureq::Error> {
    let (head, body) = agent.run(request)?.into_parts();
    if sender
        .send(Event::Head(head.status.as_u16(), head.headers))
        .is_err()
    {
        return Ok(());
    }
    match pass_on(body, sender) {
        Ok(true) => drop(sender.send(Event::End)),
        Ok(false) => {}
        Err(error) => return Err(ureq::Error::Io(error)),
    }
    Ok(())
}

/// Sends the body in pieces; `false` where nobody listens any more.
fn pass_on(body: Body, sender: &SyncSender<Event>) -> io::Result<bool> {
    let mut reader = body.into_reader();
    loop {
        let mut chunk = vec![0; CHUNK];
        let read = match reader.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        chunk.truncate(read);
        if read == 0 {
            return Ok(true);
        }
        if sender.send(Event::Data(chunk)).is_err() {
            return Ok(false);
        }
    }
}

fn next(events: &Receiver<Event>, url: &Uri, is_cancelled: &dyn Fn() -> bool) -> Result<Event> {
    loop {
        if is_cancelled() {
            return Err(HubError::Cancelled);
        }
        match events.recv_timeout(TICK) {
            Ok(Event::Failed(error)) => return Err(failure(url, &error)),
            Ok(event) => return Ok(event),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(Event::End),
        }
    }
}

fn failure(url: &Uri, error: &ureq::Error) -> HubError {
    let (reason, unreachable) = match error {
        ureq::Error::HostNotFound => (
            format!("there is no host {}", url.host().unwrap_or_default()),
            true,
        ),
        ureq::Error::Timeout(_) => ("the server keeps silent".into(), false),
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
            ("the server keeps silent".into(), false)
        }
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            (untrusted(error), true)
        }
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => (untrusted(error), true),
        ureq::Error::Io(error) => {
            use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
            let unreachable =
                [ConnectionRefused, HostUnreachable, NetworkUnreachable].contains(&error.kind());
            (error.to_string(), unreachable)
        }
        other => (other.to_string(), false),
    };
    HubError::Network {
        url: shown(url),
        reason,
        unreachable,
    }
}

/// What TLS refuses is mostly a certificate that a company's proxy made.
fn untrusted(error: &dyn std::error::Error) -> String {
    format!("{error} (SSL_CERT_FILE names other certificates to trust)")
}

impl Answer {
    /// A header as text, where there is one.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether it is a redirect, and where to.
    pub(crate) fn location(&self) -> Option<&str> {
        let redirects = matches!(self.status, 301 | 302 | 303 | 307 | 308);
        self.header("location").filter(|_| redirects)
    }

    /// A header that is a number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.trim().parse().ok()
    }

    /// The next piece of the body; `None` at its end.
    pub(crate) fn chunk(&mut self, is_cancelled: &dyn Fn() -> bool) -> Result<Option<Vec<u8>>> {
        match next(&self.events, &self.url, is_cancelled)? {
            Event::Data(chunk) => Ok(Some(chunk)),
            _ => Ok(None),
        }
    }

    /// The whole body, which must not be longer than `max`.
    pub(crate) fn body(&mut self, max: usize, is_cancelled: &dyn Fn() -> bool) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(is_cancelled)? {
            if body.len() + chunk.len() > max {
                return Err(HubError::Answer {
                    url: shown(&self.url),
                    reason: format!("the answer is longer than {max} bytes"),
                });
            }
            body.extend(chunk);
        }
        Ok(body)
    }
}
