//! Without a network: what is in the cache, whoever put it there.

use crate::server::{COMMIT, Reply, Server};
use crate::{resolve, settings, single};
use onebit_hub::{
    ErrorKind, Hub, HubError, Progress, Resolved, Revision, Settings, Snapshot, Want,
};
use std::fs;
use std::path::Path;

const INDEX: &str = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;

/// A cache as `huggingface_hub` leaves it: blobs, links to them, a reference.
fn lay(cache: &Path, files: &[(&str, &str)]) {
    let repo = cache.join("models--user--name");
    for folder in ["blobs", "refs", "snapshots"] {
        fs::create_dir_all(repo.join(folder)).unwrap();
    }
    fs::create_dir_all(repo.join("snapshots").join(COMMIT)).unwrap();
    fs::write(repo.join("refs/main"), COMMIT).unwrap();
    for (number, (name, content)) in files.iter().enumerate() {
        fs::write(repo.join(format!("blobs/{number:040x}")), content).unwrap();
        let pointer = repo.join("snapshots").join(COMMIT).join(name);
        #[cfg(unix)]
        std::os::unix::fs::symlink(format!("../../blobs/{number:040x}"), pointer).unwrap();
        #[cfg(not(unix))]
        fs::write(pointer, content).unwrap();
    }
}

fn offline(cache: &Path) -> Settings {
    let mut settings = Settings::new(cache);
    // Nobody listens there: a request would be an error of another kind.
    settings.endpoint = "http://127.0.0.1:1".into();
    settings.offline = true;
    settings
}

fn fetch(settings: &Settings, revision: &str, want: Want) -> Result<Snapshot, HubError> {
    let commit = resolve(settings, revision)?;
    Hub::new(settings.clone())?.fetch(&commit, want, &mut ())
}

fn names(snapshot: &Snapshot) -> Vec<&str> {
    snapshot
        .files
        .iter()
        .map(|file| file.name.as_str())
        .collect()
}

#[test]
fn a_hand_laid_cache_is_enough() {
    let cache = tempfile::tempdir().unwrap();
    lay(
        cache.path(),
        &[
            ("config.json", "{}"),
            ("model.safetensors", "w"),
            ("tokenizer.json", "{}"),
        ],
    );
    for revision in ["main", COMMIT] {
        let snapshot = fetch(&offline(cache.path()), revision, Want::Model).unwrap();
        assert_eq!(
            names(&snapshot),
            ["config.json", "tokenizer.json", "model.safetensors"]
        );
        let snapshot = fetch(&offline(cache.path()), revision, Want::Tokenizer).unwrap();
        assert_eq!(names(&snapshot), ["tokenizer.json"]);
    }
}

#[test]
fn shards_are_all_needed() {
    let cache = tempfile::tempdir().unwrap();
    let files = [
        ("config.json", "{}"),
        ("model.safetensors.index.json", INDEX),
        ("model-1.safetensors", "a"),
    ];
    lay(cache.path(), &files);
    let error = fetch(&offline(cache.path()), "main", Want::Model).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("model-2.safetensors of user/name at main"),
        "{error}"
    );
    let snapshot = cache
        .path()
        .join("models--user--name/snapshots")
        .join(COMMIT);
    fs::write(snapshot.join("model-2.safetensors"), "b").unwrap();
    let snapshot = fetch(&offline(cache.path()), "main", Want::Model).unwrap();
    assert_eq!(snapshot.files.len(), 4);
}

#[test]
fn what_is_missing_is_named_with_the_way_out() {
    let cache = tempfile::tempdir().unwrap();
    let missing = |revision: &str, want| {
        let error = fetch(&offline(cache.path()), revision, want).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Missing);
        let text = error.to_string();
        assert!(
            text.contains(cache.path().to_str().unwrap()) && text.contains("--offline"),
            "{text}"
        );
        text
    };
    assert!(missing("main", Want::Model).contains("user/name at main"));
    assert!(
        missing(COMMIT, Want::Model).contains(&format!("config.json of user/name at {COMMIT}"))
    );
    lay(cache.path(), &[("config.json", "{}")]);
    assert!(missing("main", Want::Model).contains("model.safetensors of user/name"));
    assert!(missing("main", Want::Tokenizer).contains("tokenizer.json of user/name"));
    assert!(missing("v1", Want::Model).contains("user/name at v1"));
}

#[test]
fn an_unfinished_download_is_no_model() {
    let cache = tempfile::tempdir().unwrap();
    lay(cache.path(), &[("config.json", "{}")]);
    let blobs = cache.path().join("models--user--name/blobs");
    fs::write(blobs.join("abc.incomplete"), "w").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(
        "../../blobs/abc",
        cache
            .path()
            .join("models--user--name/snapshots")
            .join(COMMIT)
            .join("model.safetensors"),
    )
    .unwrap();
    let error = fetch(&offline(cache.path()), "main", Want::Model).unwrap_err();
    assert!(error.to_string().contains("model.safetensors"), "{error}");
}

#[test]
fn only_what_python_left_out_is_fetched() {
    let cache = tempfile::tempdir().unwrap();
    lay(
        cache.path(),
        &[("config.json", "{}"), ("model.safetensors", "theirs")],
    );
    let server = single().serve();
    let snapshot = crate::fetch(&settings(&server, cache.path()), Want::Model).unwrap();
    assert_eq!(
        fs::read(snapshot.folder.join("model.safetensors")).unwrap(),
        b"theirs"
    );
    assert_eq!(
        server.asked(),
        ["GET main", "HEAD tokenizer.json", "GET tokenizer.json"]
    );
}

#[derive(Default)]
struct Notes(Vec<String>);

impl Progress for Notes {
    fn note(&mut self, text: &str) {
        self.0.push(text.into());
    }
}

fn fetch_noting(settings: &Settings) -> (Result<Snapshot, HubError>, Vec<String>) {
    let mut notes = Notes::default();
    let hub = Hub::new(settings.clone()).unwrap();
    let resolved = hub.resolve(
        &"user/name".parse().unwrap(),
        &Revision::default(),
        &mut notes,
    );
    let snapshot =
        resolved.and_then(|commit: Resolved| hub.fetch(&commit, Want::Model, &mut notes));
    (snapshot, notes.0)
}

#[test]
fn a_hub_out_of_reach_is_replaced_by_the_cache_and_that_is_said() {
    let cache = tempfile::tempdir().unwrap();
    lay(
        cache.path(),
        &[("config.json", "{}"), ("model.safetensors", "w")],
    );
    let mut unreachable = offline(cache.path());
    unreachable.offline = false;
    let busy = Server::start(|_, _| Reply::new(503, ""));
    for settings in [unreachable, settings(&busy, cache.path())] {
        let (snapshot, notes) = fetch_noting(&settings);
        assert_eq!(
            names(&snapshot.unwrap()),
            ["config.json", "model.safetensors"]
        );
        assert!(notes[0].contains("when it was last fetched"), "{notes:?}");
    }
    let refused = Server::start(|_, _| Reply::new(401, ""));
    assert!(fetch_noting(&settings(&refused, cache.path())).0.is_err());
}
