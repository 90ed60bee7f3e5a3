//! The little that is needed of URLs: who serves one, and where a redirect leads.

use crate::error::{HubError, Result};
use crate::names::printable;
use ureq::http::Uri;

/// An absolute `http` or `https` URL without user and password.
pub(crate) fn parse(text: &str) -> Result<Uri> {
    let wrong = |reason: &str| HubError::Answer {
        url: printable(text),
        reason: reason.into(),
    };
    let uri: Uri = text.parse().map_err(|_| wrong("this is not a URL"))?;
    let authority = uri
        .authority()
        .ok_or_else(|| wrong("this URL names no host"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong("only http and https are spoken"));
    }
    if authority.host().is_empty() || authority.as_str().contains('@') {
        return Err(wrong("this URL names no host, or a user with it"));
    }
    Ok(uri)
}

/// Whether both are served by the same scheme, host and port.
pub(crate) fn same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |uri: &Uri| {
        uri.port_u16().or_else(|| match uri.scheme_str() {
            Some("http") => Some(80),
            Some("https") => Some(443),
            _ => None,
        })
    };
    let host = |uri: &Uri| uri.host().unwrap_or_default().to_ascii_lowercase();
    a.scheme_str() == b.scheme_str() && host(a) == host(b) && port(a) == port(b)
}

/// Where `location` leads from `base`.
pub(crate) fn join(base: &Uri, location: &str) -> Result<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let scheme = base.scheme_str().unwrap_or("https");
    let authority = base.authority().map_or("", |authority| authority.as_str());
    let has_scheme = location
        .split_once("://")
        .is_some_and(|(scheme, _)| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    if has_scheme {
        parse(location)
    } else if location.starts_with("//") {
        parse(&format!("{scheme}:{location}"))
    } else if location.starts_with('/') {
        parse(&format!("{scheme}://{authority}{location}"))
    } else if location.starts_with('?') {
        parse(&format!("{scheme}://{authority}{}{location}", base.path()))
    } else {
        let folder = base
            .path()
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder);
        parse(&format!("{scheme}://{authority}{folder}/{location}"))
    }
}

/// The URL without its query, which may hold a signature.
pub(crate) fn shown(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or_default();
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    format!("{scheme}://{authority}{}", printable(uri.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_http_says() {
        let base = parse("https://hub.co/a/b?x=1").unwrap();
        for (location, target) in [
            ("/c/d?y=2#z", "https://hub.co/c/d?y=2"),
            ("c", "https://hub.co/a/c"),
            ("?y=2", "https://hub.co/a/b?y=2"),
            ("//cdn.co/c", "https://cdn.co/c"),
            ("http://cdn.co:80/c", "http://cdn.co:80/c"),
            ("c?u=http://x.co/", "https://hub.co/a/c?u=http://x.co/"),
        ] {
            assert_eq!(
                join(&base, location).unwrap().to_string(),
                target,
                "{location}"
            );
        }
        for location in [
            "ftp://a/b",
            "file:///etc/passwd",
            "https://u:p@hub.co/",
            "http://",
        ] {
            assert!(join(&base, location).is_err(), "{location}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let hub = parse("https://hub.co").unwrap();
        for (other, same) in [
            ("https://HUB.co:443/x", true),
            ("http://hub.co", false),
            ("https://hub.co:444", false),
            ("https://hub.co.evil.org", false),
            ("https://cdn.hub.co", false),
        ] {
            assert_eq!(same_origin(&hub, &parse(other).unwrap()), same, "{other}");
        }
    }
}
