//! Which files are fetched, and how they lie in the cache.

use crate::server::{COMMIT, Repo, sha256};
use crate::{fetch, resolve, settings, single, tree, weights};
use onebit_hub::{Hub, HubError, Want};
use std::fs;

#[cfg(unix)]
#[test]
fn the_cache_is_laid_out_as_python_does() {
    let cache = tempfile::tempdir().unwrap();
    let server = single().serve();
    let snapshot = fetch(&settings(&server, cache.path()), Want::Model).unwrap();
    let (config, tokenizer, weights_hash) =
        (sha256(b"{}"), sha256(b"{\"a\": 1}"), sha256(&weights()));
    let mut expected = vec![
        "CACHEDIR.TAG".to_owned(),
        format!(".locks/models--user--name/{}.lock", &config[..40]),
        format!(".locks/models--user--name/{}.lock", &tokenizer[..40]),
        format!(".locks/models--user--name/{weights_hash}.lock"),
        format!("models--user--name/blobs/{}", &config[..40]),
        format!("models--user--name/blobs/{}", &tokenizer[..40]),
        format!("models--user--name/blobs/{weights_hash}"),
        "models--user--name/refs/main".into(),
        format!(
            "models--user--name/snapshots/{COMMIT}/config.json -> ../../blobs/{}",
            &config[..40]
        ),
        format!(
            "models--user--name/snapshots/{COMMIT}/model.safetensors -> ../../blobs/{weights_hash}"
        ),
        format!(
            "models--user--name/snapshots/{COMMIT}/tokenizer.json -> ../../blobs/{}",
            &tokenizer[..40]
        ),
    ];
    for absent in [
        "chat_template.jinja",
        "generation_config.json",
        "special_tokens_map.json",
        "tokenizer_config.json",
    ] {
        expected.push(format!("models--user--name/.no_exist/{COMMIT}/{absent}"));
    }
    expected.sort();
    assert_eq!(tree(cache.path()), expected);
    let reference = cache.path().join("models--user--name/refs/main");
    assert_eq!(fs::read_to_string(reference).unwrap(), COMMIT);
    assert_eq!(
        fs::read(snapshot.folder.join("model.safetensors")).unwrap(),
        weights()
    );
    assert_eq!(snapshot.files.last().unwrap().etag, Some(weights_hash));
    assert_eq!(snapshot.files.last().unwrap().bytes, 400_000);
}

#[test]
fn nothing_is_fetched_twice() {
    let cache = tempfile::tempdir().unwrap();
    let server = single().serve();
    let first = fetch(&settings(&server, cache.path()), Want::Model).unwrap();
    server.clear();
    assert_eq!(
        fetch(&settings(&server, cache.path()), Want::Model).unwrap(),
        first
    );
    assert_eq!(server.asked(), ["GET main"]);
    server.clear();
    let settings = settings(&server, cache.path());
    let commit = resolve(&settings, COMMIT).unwrap();
    let again = Hub::new(settings)
        .unwrap()
        .fetch(&commit, Want::Model, &mut ())
        .unwrap();
    assert_eq!(
        (again, server.asked().len()),
        (first, 0),
        "a commit never changes"
    );
}

#[test]
fn only_the_files_of_a_model_are_fetched() {
    let others = [
        "README.md",
        ".gitattributes",
        "pytorch_model.bin",
        "model.gguf",
        "onnx/model.onnx",
        "original/params.json",
        "original/model.safetensors",
        "vocab.json",
        "tokenizer.model",
        "model.safetensors.index.json",
        "adapter_model.safetensors",
    ];
    let mut repo = single();
    for name in others {
        repo = repo.add(name, b"{}");
    }
    let server = repo.serve();
    let cache = tempfile::tempdir().unwrap();
    fetch(&settings(&server, cache.path()), Want::Tokenizer).unwrap();
    assert_eq!(
        server.asked(),
        ["GET main", "HEAD tokenizer.json", "GET tokenizer.json"]
    );
    server.clear();
    fetch(&settings(&server, cache.path()), Want::Description).unwrap();
    assert_eq!(
        server.asked(),
        ["GET main", "HEAD config.json", "GET config.json"]
    );
    server.clear();
    fetch(&settings(&server, cache.path()), Want::Model).unwrap();
    assert_eq!(
        server.asked(),
        [
            "GET main",
            "HEAD model.safetensors",
            "GET model.safetensors"
        ]
    );
}

#[test]
fn shards_are_those_that_the_index_names() {
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "sub/model-2.safetensors"}}"#;
    let server = Repo::new(&[
        ("config.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("model-1.safetensors", b"one"),
        ("sub/model-2.safetensors", b"two"),
        ("model-3.safetensors", b"three"),
    ])
    .serve();
    let cache = tempfile::tempdir().unwrap();
    let snapshot = fetch(&settings(&server, cache.path()), Want::Model).unwrap();
    let names: Vec<&str> = snapshot
        .files
        .iter()
        .map(|file| file.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "config.json",
            "model.safetensors.index.json",
            "model-1.safetensors",
            "sub/model-2.safetensors"
        ]
    );
    assert_eq!(
        fs::read(snapshot.folder.join("sub/model-2.safetensors")).unwrap(),
        b"two"
    );
    server.clear();
    let commit = resolve(&settings(&server, cache.path()), COMMIT).unwrap();
    let hub = Hub::new(settings(&server, cache.path())).unwrap();
    assert_eq!(hub.fetch(&commit, Want::Model, &mut ()).unwrap(), snapshot);
    assert_eq!(server.asked().len(), 0);
}

#[test]
fn without_links_the_files_lie_in_the_snapshot() {
    let cache = tempfile::tempdir().unwrap();
    let server = single().serve();
    let mut settings = settings(&server, cache.path());
    settings.symlinks = false;
    let snapshot = fetch(&settings, Want::Model).unwrap();
    let file = snapshot.folder.join("model.safetensors");
    assert!(fs::symlink_metadata(&file).unwrap().is_file());
    assert_eq!(fs::read(file).unwrap(), weights());
    assert_eq!(crate::blobs(cache.path()), [""; 0]);
    server.clear();
    assert_eq!(fetch(&settings, Want::Model).unwrap(), snapshot);
    assert_eq!(server.asked(), ["GET main"]);
}

#[test]
fn a_blob_of_another_commit_is_used_again() {
    let cache = tempfile::tempdir().unwrap();
    let server = single().serve();
    fetch(&settings(&server, cache.path()), Want::Model).unwrap();
    fs::remove_dir_all(cache.path().join("models--user--name/snapshots")).unwrap();
    server.clear();
    fetch(&settings(&server, cache.path()), Want::Model).unwrap();
    assert!(
        server
            .log()
            .iter()
            .all(|asked| asked.method == "HEAD" || asked.path.ends_with("/main"))
    );
}

#[test]
fn branches_with_slashes_are_one_part_of_the_address() {
    let cache = tempfile::tempdir().unwrap();
    let server = single().serve();
    let resolved = resolve(&settings(&server, cache.path()), "refs/pr/1").unwrap();
    assert_eq!(resolved.commit(), COMMIT);
    let reference = cache.path().join("models--user--name/refs/refs/pr/1");
    assert_eq!(fs::read_to_string(reference).unwrap(), COMMIT);
}

#[test]
fn repositories_without_a_model_say_what_they_have() {
    let cache = tempfile::tempdir().unwrap();
    let missing =
        |repo: Repo| fetch(&settings(&repo.serve(), cache.path()), Want::Model).unwrap_err();
    let gguf = missing(Repo::new(&[
        ("config.json", b"{}"),
        ("model.gguf", b"GGUF"),
    ]));
    assert!(
        matches!(&gguf, HubError::Unsupported(text) if text.contains("model.gguf")),
        "{gguf}"
    );
    let empty = missing(Repo::new(&[("README.md", b"")]));
    assert!(
        matches!(&empty, HubError::NotFound(text) if text.contains("config.json")),
        "{empty}"
    );
}

#[test]
fn two_processes_fetch_one_blob_once() {
    for symlinks in [true, false] {
        let cache = tempfile::tempdir().unwrap();
        let pause = std::time::Duration::from_millis(20);
        let server =
            single().serve_but(
                move |asked, _, reply| match asked.path.ends_with(".safetensors") {
                    true => reply.sending(crate::server::Sending::Slow(100_000, pause)),
                    false => reply,
                },
            );
        let mut settings = settings(&server, cache.path());
        settings.symlinks = symlinks;
        let fetch = || fetch(&settings, Want::Model).unwrap();
        let snapshots: Vec<_> = std::thread::scope(|scope| {
            let fetching: Vec<_> = (0..4).map(|_| scope.spawn(fetch)).collect();
            fetching
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(snapshots.iter().all(|snapshot| snapshot == &snapshots[0]));
        assert_eq!(
            fs::read(snapshots[0].folder.join("model.safetensors")).unwrap(),
            weights()
        );
        assert_eq!(server.sent("model.safetensors"), weights().len());
    }
}
