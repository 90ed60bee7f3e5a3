//! Requests to the hub: redirects, the token, retries.

use crate::error::{HubError, Result};
use crate::exchange::{self, Answer};
use crate::names::printable;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::token::Token;
use crate::url;
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::http::{Method, Request, Uri, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// Redirects followed before giving up.
const MAX_REDIRECTS: usize = 10;
/// The longest wait before a retry, whatever the server asks for.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Speaks HTTP with the hub and with whoever it redirects to.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    endpoint: Uri,
    token: Option<Token>,
    retries: u32,
    backoff: Duration,
}

/// A request; redirects repeat it as it is, without the token at other hosts.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Uri,
    /// First byte wanted, and the validator under which a part is good enough.
    pub(crate) from: Option<(u64, Option<String>)>,
    /// How long the server may keep silent.
    pub(crate) silence: Duration,
}

/// What to do with a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    /// Follow it, wherever it leads.
    Always,
    /// Follow it where it stays at the hub and does not itself say what was asked for: the hash of a file.
    AtHub,
}

impl Client {
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let endpoint = url::parse(&settings.endpoint)
            .map_err(|error| HubError::Request(format!("HF_ENDPOINT: {error}")))?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("onebit-hub/", env!("CARGO_PKG_VERSION")))
            .accept("*/*")
            // Lengths and hashes are those of the file, so it must come as it is.
            .accept_encoding("identity");
        if let Some(path) = &settings.certificates {
            config =
                config.tls_config(TlsConfig::builder().root_certs(certificates(path)?).build());
        }
        Ok(Self {
            agent: config.build().into(),
            endpoint,
            token: settings.token.clone(),
            retries: settings.retries,
            backoff: settings.backoff,
        })
    }

    /// Whether a token is sent to the hub.
    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether `url` is served by the hub itself.
    pub(crate) fn is_hub(&self, url: &Uri) -> bool {
        url::same_origin(url, &self.endpoint)
    }

    /// Sends a call and follows redirects; the answer may have any status.
    pub(crate) fn send(
        &self,
        call: &Call,
        follow: Follow,
        progress: &dyn Progress,
    ) -> Result<Answer> {
        let mut call = call.clone();
        for _ in 0..=MAX_REDIRECTS {
            tracing::debug!(method = %call.method, url = url::shown(&call.url), from = ?call.from, "request");
            let request = self.request(&call)?;
            let answer = exchange::start(&self.agent, request, call.silence, &|| {
                progress.is_cancelled()
            })?;
            tracing::debug!(status = answer.status, "answer");
            let Some(location) = answer.location() else {
                return Ok(answer);
            };
            let target = url::join(&call.url, location)?;
            let says_it = answer.header("x-linked-etag").is_some();
            if follow == Follow::AtHub && (says_it || !self.is_hub(&target)) {
                return Ok(answer);
            }
            call.url = target;
        }
        Err(HubError::Answer {
            url: url::shown(&call.url),
            reason: format!("more than {MAX_REDIRECTS} redirects"),
        })
    }

    /// The one place where the token is put into a request.
    fn request(&self, call: &Call) -> Result<Request<()>> {
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(call.url.clone());
        if let Some(token) = self.token.as_ref().filter(|_| self.is_hub(&call.url)) {
            request = request.header(header::AUTHORIZATION, token.header());
        }
        if let Some((from, validator)) = &call.from {
            request = request.header(header::RANGE, format!("bytes={from}-"));
            if let Some(validator) = validator {
                request = request.header(header::IF_RANGE, validator);
            }
        }
        request.body(()).map_err(|error| HubError::Answer {
            url: url::shown(&call.url),
            reason: printable(&error.to_string()),
        })
    }

    /// Repeats `work` while it fails in a way that may pass, `retries` times at most.
    pub(crate) fn retrying<T>(
        &self,
        retries: u32,
        progress: &mut dyn Progress,
        mut work: impl FnMut(&mut dyn Progress) -> Result<T>,
    ) -> Result<T> {
        let mut failed = 0;
        loop {
            match work(progress) {
                Err(error) if error.is_transient() && failed < retries => {
                    self.pause(failed, &error, progress)?;
                    failed += 1;
                }
                other => return other,
            }
        }
    }

    /// How often a request may fail in a row.
    pub(crate) fn retries(&self) -> u32 {
        self.retries
    }

    /// Waits after the `failed`-th failure in a row, as long as the server asks for where it does.
    pub(crate) fn pause(
        &self,
        failed: u32,
        error: &HubError,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        let asked = match error {
            HubError::Status { retry_after, .. } => *retry_after,
            _ => None,
        };
        let wait = asked
            .unwrap_or_else(|| self.backoff.saturating_mul(1 << failed.min(16)))
            .min(MAX_WAIT);
        progress.note(&format!(
            "{error}; trying again in {:.1} s",
            wait.as_secs_f32()
        ));
        let end = Instant::now() + wait;
        while let Some(left) = end
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        {
            if progress.is_cancelled() {
                return Err(HubError::Cancelled);
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        Ok(())
    }
}

fn certificates(path: &std::path::Path) -> Result<RootCerts> {
    let pem = std::fs::read(path).map_err(HubError::io("read the certificates", path))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(HubError::Request(format!(
            "SSL_CERT_FILE: there is no certificate in {}",
            path.display()
        )));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}
