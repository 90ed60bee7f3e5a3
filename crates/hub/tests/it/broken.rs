//! Servers that lie, and disks that do not write.

use crate::server::{COMMIT, Reply, Repo, Sending, Server, sha256};
use crate::{blobs, fetch, settings, single, tree, weights};
use onebit_hub::{ErrorKind, HubError, Want};
use std::fs;

/// Serves `single` with the answers about the weights changed, and gives the error and what is left of the blobs.
fn weights_but(
    change: impl Fn(&str, Reply) -> Reply + Send + Sync + 'static,
) -> (HubError, Vec<String>) {
    let cache = tempfile::tempdir().unwrap();
    let server = single().serve_but(move |asked, _, reply| {
        match asked.path.ends_with("model.safetensors") {
            true => change(&asked.method, reply),
            false => reply,
        }
    });
    let error = fetch(&settings(&server, cache.path()), Want::Model).unwrap_err();
    let left = blobs(cache.path())
        .into_iter()
        .filter(|name| name.len() > 40)
        .collect();
    (error, left)
}

#[test]
fn a_wrong_sha256_deletes_the_file() {
    let (error, left) = weights_but(|method, mut reply| {
        if method == "GET" {
            reply.body[77] ^= 1;
        }
        reply
    });
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(
        error.to_string().contains("model.safetensors") && error.to_string().contains("sha256"),
        "{error}"
    );
    assert_eq!(left, [""; 0]);
}

#[test]
fn wrong_lengths_are_found() {
    for length in [399_999, 400_001, 10, 0] {
        let (error, left) = weights_but(move |method, reply| match method {
            "GET" => Reply::new(200, vec![1; length]),
            _ => reply,
        });
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        for part in [
            "model.safetensors",
            "wrong length",
            "400000",
            &length.to_string(),
        ] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
        assert!(!left.contains(&sha256(&weights())), "no blob");
    }
}

#[test]
fn an_endless_body_ends() {
    let (error, left) = weights_but(|method, reply| match method {
        "GET" => Reply::new(200, vec![1; 50_000]).sending(Sending::Endless),
        _ => reply,
    });
    assert!(error.to_string().contains("wrong length"), "{error}");
    assert_eq!(left, [""; 0]);
    let server =
        Server::start(|_, _| Reply::new(200, vec![b' '; 50_000]).sending(Sending::Endless));
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(&settings(&server, cache.path()), Want::Model).unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
}

#[cfg(unix)]
#[test]
fn sizes_that_no_disk_has_are_refused_before_anything_is_fetched() {
    let (error, left) = weights_but(|_, reply| reply.with("X-Linked-Size", 1u64 << 60));
    assert!(
        matches!(error, HubError::Space { needed, .. } if needed > 1 << 60),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(left, [""; 0]);
    let (error, _) = weights_but(|_, reply| reply.with("X-Linked-Size", u64::MAX));
    assert!(matches!(error, HubError::Space { .. }), "{error}");
}

#[test]
fn texts_of_absurd_sizes_are_refused() {
    for name in ["config.json", "tokenizer.json"] {
        let cache = tempfile::tempdir().unwrap();
        let server = single().serve_but(move |asked, _, reply| match asked.path.ends_with(name) {
            true => reply.with("Content-Length", 1u64 << 40),
            false => reply,
        });
        let error = fetch(&settings(&server, cache.path()), Want::Model).unwrap_err();
        assert!(
            error.to_string().contains(name) && error.to_string().contains("accepted"),
            "{error}"
        );
        assert_eq!(blobs(cache.path()).len(), 0);
    }
}

#[test]
fn answers_that_no_hub_gives_are_refused() {
    let long = "a".repeat(300);
    for (body, part) in [
        ("<html>", "description of a model"),
        ("[]", "description of a model"),
        ("{}", "no commit"),
        (r#"{"sha": 1}"#, "description of a model"),
        (r#"{"sha": "../../x"}"#, "not a commit"),
        (r#"{"sha": ""}"#, "not a commit"),
        (r#"{"sha": ".."}"#, "not a commit"),
        (r#"{"sha": "a/b"}"#, "not a commit"),
        (&format!(r#"{{"sha": "{long}"}}"#), "not a commit"),
        (&"[".repeat(100_000), "description of a model"),
    ] {
        let (cache, body) = (tempfile::tempdir().unwrap(), body.to_owned());
        let server = Server::start(move |_, _| Reply::new(200, body.clone()));
        let error = fetch(&settings(&server, cache.path()), Want::Model).unwrap_err();
        assert!(
            matches!(error, HubError::Answer { .. }) && error.to_string().contains(part),
            "{error}"
        );
        assert_eq!(tree(cache.path()), [""; 0]);
    }
}

#[test]
fn names_from_the_list_never_become_paths() {
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("a/b/cache");
    let mut repo = single();
    for name in [
        "../../../evil",
        "/tmp/evil",
        "a/../../evil",
        "C:evil",
        "..\\\\evil",
        "con",
        "evil\\u0000",
    ] {
        repo = repo.add(name, b"evil");
    }
    let server = repo.serve();
    fetch(&settings(&server, &cache), Want::Model).unwrap();
    assert!(!tree(root.path()).iter().any(|path| path.contains("evil")));
    assert!(!server.log().iter().any(|asked| asked.path.contains("evil")));
}

#[test]
fn shards_outside_the_folder_are_refused() {
    for shard in [
        "../evil.safetensors",
        "/evil.safetensors",
        "a\\\\evil.safetensors",
        "nul.safetensors",
        "evil.bin",
    ] {
        let index = format!(r#"{{"weight_map": {{"a": "{shard}"}}}}"#);
        let server = Repo::new(&[
            ("config.json", b"{}"),
            ("model.safetensors.index.json", index.as_bytes()),
        ])
        .add(shard, b"evil")
        .serve();
        let cache = tempfile::tempdir().unwrap();
        let error = fetch(&settings(&server, cache.path()), Want::Model).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(error.to_string().contains("index.json: shard"), "{error}");
    }
}

#[test]
fn a_shard_that_the_repository_lacks_is_named() {
    let index = br#"{"weight_map": {"a": "m-1.safetensors"}}"#;
    let server = Repo::new(&[
        ("config.json", b"{}"),
        ("model.safetensors.index.json", index),
    ])
    .serve();
    let cache = tempfile::tempdir().unwrap();
    let error = fetch(&settings(&server, cache.path()), Want::Model).unwrap_err();
    assert!(error.to_string().contains("m-1.safetensors"), "{error}");
}

#[test]
fn etags_that_are_no_file_names_are_refused() {
    for etag in [
        "\"../../evil\"",
        "\"\"",
        "\"a/b\"",
        "\"..\"",
        "\"a\\b\"",
        "\"NUL\"",
    ] {
        let (error, _) = weights_but(move |_, reply| reply.with("X-Linked-Etag", etag));
        assert!(matches!(error, HubError::Answer { .. }), "{etag}: {error}");
    }
    let (error, _) = weights_but(|_, mut reply| {
        reply
            .headers
            .retain(|(name, _)| !name.to_ascii_lowercase().ends_with("etag"));
        reply
    });
    assert!(error.to_string().contains("ETag"), "{error}");
}

#[test]
fn servers_without_head_are_asked_otherwise() {
    for status in [400, 404, 405, 501] {
        let cache = tempfile::tempdir().unwrap();
        let server = single().serve_but(move |asked, _, reply| match asked.method.as_str() {
            "HEAD" => Reply::new(status, ""),
            _ => reply,
        });
        let snapshot = fetch(&settings(&server, cache.path()), Want::Model).unwrap();
        assert_eq!(
            fs::read(snapshot.folder.join("model.safetensors")).unwrap(),
            weights()
        );
    }
}

#[cfg(unix)]
#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let root = tempfile::tempdir().unwrap();
    let cache = root.path().join("file");
    fs::write(&cache, "").unwrap();
    let server = single().serve();
    let error = fetch(&settings(&server, &cache), Want::Model).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(
        error.to_string().contains(cache.to_str().unwrap()),
        "{error}"
    );
}

#[test]
fn what_is_complete_needs_no_writing() {
    let cache = tempfile::tempdir().unwrap();
    let server = single().serve();
    fetch(&settings(&server, cache.path()), Want::Model).unwrap();
    let before = tree(cache.path());
    let age = |path: &str| {
        fs::symlink_metadata(cache.path().join(path))
            .unwrap()
            .modified()
            .unwrap()
    };
    let reference = "models--user--name/refs/main";
    let (written, folder) = (age(reference), age("models--user--name/snapshots"));
    fetch(&settings(&server, cache.path()), Want::Model).unwrap();
    assert_eq!(tree(cache.path()), before);
    assert_eq!(
        (age(reference), age("models--user--name/snapshots")),
        (written, folder)
    );
    assert!(
        cache
            .path()
            .join(format!("models--user--name/snapshots/{COMMIT}"))
            .is_dir()
    );
}
