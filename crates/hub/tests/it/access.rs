//! Redirects, the token, and repositories that are not for everybody.

use crate::server::{COMMIT, Reply, Repo, Server, ranged, sha256};
use crate::{blobs, fetch, resolve, settings, single, weights};
use onebit_hub::{ErrorKind, HubError, Settings, Token, Want};
use std::fs;
use std::path::Path;

fn with_token(server: &Server, cache: &Path) -> Settings {
    let mut settings = settings(server, cache);
    settings.token = Token::new("hf_secret").unwrap();
    settings
}

#[test]
fn the_token_does_not_follow_a_redirect_to_another_host() {
    let cdn = single().serve_cdn(|_, _, reply| reply);
    // Another port, and another name, are other hosts.
    for base in [cdn.url(), cdn.other_url()] {
        let cache = tempfile::tempdir().unwrap();
        cdn.clear();
        let hub = Repo {
            cdn: Some(base),
            token: Some("hf_secret".into()),
            ..single()
        }
        .serve();
        let snapshot = fetch(&with_token(&hub, cache.path()), Want::Model).unwrap();
        assert_eq!(
            fs::read(snapshot.folder.join("model.safetensors")).unwrap(),
            weights()
        );
        assert!(
            hub.log()
                .iter()
                .all(|asked| asked.header("authorization") == Some("Bearer hf_secret"))
        );
        assert_eq!(cdn.log().len(), 1, "the hub's answer to HEAD is enough");
        assert!(
            cdn.log()
                .iter()
                .all(|asked| asked.header("authorization").is_none())
        );
        assert!(
            !cdn.log()
                .iter()
                .any(|asked| format!("{asked:?}").contains("hf_secret"))
        );
    }
}

#[test]
fn a_redirect_back_to_the_hub_gets_the_token_again() {
    let cache = tempfile::tempdir().unwrap();
    let hub = Repo {
        token: Some("hf_secret".into()),
        ..single()
    }
    .serve_but(|asked, _, reply| match asked.path.strip_prefix("/old/") {
        Some(rest) => Reply::new(307, "").with("Location", format!("/{rest}")),
        None => reply,
    });
    let mut settings = with_token(&hub, cache.path());
    settings.endpoint = format!("{}/old", hub.url());
    fetch(&settings, Want::Model).unwrap();
}

#[test]
fn the_first_answer_that_names_the_hash_counts() {
    let cache = tempfile::tempdir().unwrap();
    // A redirect within the hub, to a place that has a hash of its own.
    let hub = Repo {
        cdn: Some(String::new()),
        ..single()
    }
    .serve_but(|asked, _, reply| match asked.path.starts_with("/cdn/") {
        true => ranged(asked, &weights(), "multipart-2"),
        false => reply,
    });
    fetch(&settings(&hub, cache.path()), Want::Model).unwrap();
    assert!(blobs(cache.path()).contains(&sha256(&weights())));
}

#[test]
fn no_token_is_sent_where_there_is_none() {
    let cache = tempfile::tempdir().unwrap();
    let hub = single().serve();
    fetch(&settings(&hub, cache.path()), Want::Model).unwrap();
    assert!(
        hub.log()
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
    assert!(
        hub.log()
            .iter()
            .all(|asked| asked.header("accept-encoding") == Some("identity"))
    );
}

#[test]
fn redirects_end() {
    let cache = tempfile::tempdir().unwrap();
    let hub =
        Server::start(|asked, _| Reply::new(302, "").with("Location", format!("{}x", asked.path)));
    let error = fetch(&settings(&hub, cache.path()), Want::Model).unwrap_err();
    assert!(error.to_string().contains("redirects"), "{error}");
    for location in [
        "ftp://a/b",
        "file:///etc/passwd",
        "http://user:pass@127.0.0.1/",
    ] {
        let hub = Server::start(move |_, _| Reply::new(302, "").with("Location", location));
        let error = fetch(&settings(&hub, cache.path()), Want::Model).unwrap_err();
        assert!(matches!(error, HubError::Answer { .. }), "{error}");
    }
}

#[test]
fn refusals_say_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    let refused = |status: u16, code: &'static str, token: bool| {
        let hub = Server::start(move |_, _| {
            Reply::new(status, "{}")
                .with("X-Error-Code", code)
                .with("X-Error-Message", "it is so")
        });
        let settings = match token {
            true => with_token(&hub, cache.path()),
            false => settings(&hub, cache.path()),
        };
        let error = fetch(&settings, Want::Model).unwrap_err();
        assert_eq!(hub.log().len(), 1, "asking again does not help");
        assert_eq!(error.kind(), ErrorKind::Missing);
        assert!(error.to_string().contains("user/name"), "{error}");
        assert!(error.to_string().contains("it is so"), "{error}");
        assert!(!error.to_string().contains("hf_secret"), "{error}");
        error.to_string()
    };
    let unknown = refused(401, "", false);
    assert!(
        unknown.contains("does not exist") && unknown.contains("set HF_TOKEN"),
        "{unknown}"
    );
    assert!(refused(401, "", true).contains("is not valid"));
    assert!(refused(403, "GatedRepo", true).contains("accept its terms"));
    assert!(refused(404, "RepoNotFound", false).contains("no repository user/name"));
    assert!(refused(404, "RevisionNotFound", false).contains("has no revision main"));
    assert!(refused(404, "", false).contains("user/name"));
}

#[test]
fn files_that_are_gated_or_gone_are_named() {
    for (status, part) in [
        (403, "accept its terms"),
        (404, "model.safetensors"),
        (401, "HF_TOKEN"),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let hub = single().serve_but(move |asked, _, reply| {
            match asked.path.ends_with("model.safetensors") {
                true => Reply::new(status, ""),
                false => reply,
            }
        });
        let error = fetch(&settings(&hub, cache.path()), Want::Model).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Missing);
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(
            blobs(cache.path()).len(),
            0,
            "the hashes of all files are asked for first"
        );
    }
}

#[test]
fn a_revision_that_is_not_there_is_named() {
    let cache = tempfile::tempdir().unwrap();
    let hub = single().serve();
    let error = resolve(&settings(&hub, cache.path()), "v9").unwrap_err();
    assert!(
        matches!(&error, HubError::NotFound(text) if text.contains("v9")),
        "{error}"
    );
    assert!(resolve(&settings(&hub, cache.path()), COMMIT).is_ok());
}

#[test]
fn an_endpoint_that_is_no_address_is_a_wrong_request() {
    for endpoint in ["", "huggingface.co", "ftp://hub.co", "https://u:p@hub.co"] {
        let mut settings = Settings::new("cache");
        settings.endpoint = endpoint.into();
        let error = onebit_hub::Hub::new(settings).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request, "{endpoint}");
        assert!(error.to_string().contains("HF_ENDPOINT"), "{error}");
    }
}
