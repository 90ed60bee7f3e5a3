//! Models of the hub, served by this process.

#[path = "../../../hub/tests/it/server.rs"]
mod server;

mod failures;

use crate::{Done, TINY, fixture, fixture_arg, onebit, program};
use server::{Asked, COMMIT, Reply, Repo, Sending, Server, sha256};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

const DEMO: &str = "demo/checkpoint";
const WEIGHTS: &str = "model.safetensors";

/// A user of the hub: caches and settings of their own.
struct User {
    folder: TempDir,
    endpoint: String,
    variables: Vec<(&'static str, String)>,
}

impl User {
    fn of(server: &Server) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            endpoint: server.url(),
            variables: Vec::new(),
        }
    }

    fn with(mut self, variable: &'static str, value: &str) -> Self {
        self.variables.push((variable, value.to_owned()));
        self
    }

    /// The hub cannot be reached any more.
    fn unplug(&mut self) {
        self.endpoint = "http://127.0.0.1:1".into();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = program(args);
        command
            .env("ONEBIT_CACHE", self.converted())
            .env("HF_HOME", self.folder.path().join("hf"))
            .env("HF_ENDPOINT", &self.endpoint)
            .env_remove("HF_HUB_OFFLINE");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn onebit(&self, args: &[&str]) -> Done {
        self.command(args).output().unwrap().into()
    }

    fn converted(&self) -> PathBuf {
        self.folder.path().join("onebit")
    }

    fn hub_cache(&self) -> PathBuf {
        self.folder.path().join("hf/hub")
    }

    fn repo(&self) -> PathBuf {
        self.hub_cache().join("models--user--name")
    }

    /// Names in the cache of converted files that end so.
    fn converted_names(&self, end: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.converted()) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(end)).collect()
    }
}

fn checkpoint(name: &str) -> Repo {
    let mut repo = Repo::of_folder(&fixture(name));
    for other in [
        "README.md",
        "pytorch_model.bin",
        "model.gguf",
        "original/model.safetensors",
    ] {
        repo = repo.add(other, b"not needed");
    }
    repo
}

fn is_weights(asked: &Asked) -> bool {
    asked.method == "GET" && asked.path.ends_with(WEIGHTS)
}

const RUN: [&str; 6] = ["--ids", "1,2,3", "-n", "8", "--temp", "0"];

fn run(user: &User, model: &str, more: &[&str]) -> Done {
    user.onebit(&[&["run", model, "--ignore-eos"], &RUN[..], more].concat())
}

fn expected(checkpoint: &str) -> String {
    onebit(&[&["run", &fixture_arg(checkpoint), "--ignore-eos"], &RUN[..]].concat()).ok()
}

#[test]
fn a_model_is_fetched_and_converted_once() {
    let server = checkpoint(TINY.0).serve();
    let mut user = User::of(&server);
    assert_eq!(run(&user, "user/name", &[]).ok(), expected(TINY.0));
    let mut asked = server.asked();
    asked.sort();
    assert_eq!(
        asked,
        [
            "GET config.json",
            "GET generation_config.json",
            "GET main",
            "GET model.safetensors",
            "HEAD config.json",
            "HEAD generation_config.json",
            "HEAD model.safetensors"
        ]
    );
    let packed = user.converted_names(".onebit");
    let file = user.converted().join(&packed[0]);
    let (written, count) = (
        fs::metadata(&file).unwrap().modified().unwrap(),
        packed.len(),
    );
    server.clear();
    assert_eq!(run(&user, "user/name", &[]).ok(), expected(TINY.0));
    assert_eq!(server.asked(), ["GET main"]);
    assert_eq!(count, 1);
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), written);
    // A commit needs no question.
    server.clear();
    assert_eq!(
        run(&user, "user/name", &["--revision", COMMIT]).ok(),
        expected(TINY.0)
    );
    assert_eq!(
        run(&user, &format!("user/name@{COMMIT}"), &[]).ok(),
        expected(TINY.0)
    );
    assert_eq!(server.asked(), [""; 0]);
    assert_eq!(user.converted_names(".onebit"), packed);
    user.unplug();
    let done = run(&user, "user/name", &[]);
    assert!(
        done.err.contains("when it was last fetched"),
        "{}",
        done.err
    );
    assert_eq!(done.ok(), expected(TINY.0));
}

#[test]
fn the_file_says_where_it_comes_from() {
    let server = checkpoint("checkpoints/llama_autobitlinear_sharded").serve();
    let user = User::of(&server);
    let info = user
        .onebit(&["info", "user/name@refs/pr/1", "--json"])
        .json();
    assert_eq!(info["model"], "user/name@refs/pr/1");
    let out = user.folder.path().join("a.onebit");
    user.onebit(&["convert", "user/name", "-o", out.to_str().unwrap()])
        .ok();
    let converted = onebit(&["info", out.to_str().unwrap(), "--json"]).json();
    assert_eq!(converted["provenance"], info["provenance"]);
    let provenance = &info["provenance"];
    assert_eq!(provenance["source"], "user/name");
    assert_eq!(provenance["revision"], COMMIT);
    let files = provenance["files"].as_array().unwrap();
    assert_eq!(files.len(), 3);
    for file in files {
        let name = file["name"].as_str().unwrap();
        let bytes =
            fs::read(fixture("checkpoints/llama_autobitlinear_sharded").join(name)).unwrap();
        assert_eq!(file["sha256"], sha256(&bytes));
        assert_eq!(file["bytes"], bytes.len());
    }
}

#[test]
fn offline_uses_what_is_there() {
    let server = checkpoint(TINY.0).serve();
    let mut user = User::of(&server);
    let missing = ["user/name", "--offline", "HF_HUB_OFFLINE"];
    run(&user, "user/name", &["--offline"]).refused(3, &missing);
    assert_eq!(server.log().len(), 0);
    run(&user, "user/name", &[]).ok();
    user.unplug();
    let offline = |user: &User| run(user, "user/name", &["--offline"]);
    assert_eq!(offline(&user).ok(), expected(TINY.0));
    // The converted file alone.
    let away = user.folder.path().join("away");
    fs::rename(user.hub_cache(), &away).unwrap();
    assert_eq!(offline(&user).ok(), expected(TINY.0));
    // The converted file, and the description of a later state without its weights.
    let other = "0123456789abcdef0123456789abcdef01234567";
    let snapshot = user.repo().join("snapshots").join(other);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(user.repo().join("refs")).unwrap();
    fs::copy(
        fixture(TINY.0).join("config.json"),
        snapshot.join("config.json"),
    )
    .unwrap();
    fs::write(user.repo().join("refs/main"), other).unwrap();
    assert_eq!(offline(&user).ok(), expected(TINY.0));
    fs::remove_dir_all(user.hub_cache()).unwrap();
    // The hub's cache alone.
    fs::rename(&away, user.hub_cache()).unwrap();
    fs::remove_dir_all(user.converted()).unwrap();
    assert_eq!(offline(&user).ok(), expected(TINY.0));
    // A converted file that is broken is made again from the snapshot.
    let packed = user.converted().join(&user.converted_names(".onebit")[0]);
    fs::write(&packed, "broken").unwrap();
    assert_eq!(offline(&user).ok(), expected(TINY.0));
    // Neither.
    fs::remove_dir_all(user.converted()).unwrap();
    fs::remove_file(user.repo().join("snapshots").join(COMMIT).join(WEIGHTS)).unwrap();
    offline(&user).refused(3, &[WEIGHTS, "user/name at main", COMMIT, "--offline"]);
    fs::remove_dir_all(user.hub_cache()).unwrap();
    offline(&user).refused(3, &missing);
    let user = user.with("HF_HUB_OFFLINE", "1");
    run(&user, "user/name", &[]).refused(3, &missing);
    run(&user, "user/name", &["--revision", COMMIT]).refused(3, &["config.json", COMMIT]);
}

#[test]
fn a_hand_laid_cache_is_a_model() {
    let server = Server::start(|_, _| Reply::new(500, ""));
    let user = User::of(&server);
    let snapshot = user.repo().join("snapshots").join(COMMIT);
    for folder in [
        &user.repo().join("blobs"),
        &user.repo().join("refs"),
        &snapshot,
    ] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(user.repo().join("refs/main"), COMMIT).unwrap();
    for (number, name) in ["config.json", "generation_config.json", WEIGHTS]
        .iter()
        .enumerate()
    {
        fs::copy(
            fixture(TINY.0).join(name),
            user.repo().join(format!("blobs/{number}")),
        )
        .unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(format!("../../blobs/{number}"), snapshot.join(name)).unwrap();
        #[cfg(not(unix))]
        fs::copy(
            user.repo().join(format!("blobs/{number}")),
            snapshot.join(name),
        )
        .unwrap();
    }
    assert_eq!(
        run(&user, "user/name", &["--offline"]).ok(),
        expected(TINY.0)
    );
    let info = user
        .onebit(&["info", "user/name", "--offline", "--json"])
        .json();
    assert_eq!(info["provenance"]["revision"], COMMIT);
    assert_eq!(server.log().len(), 0);
}

#[test]
fn tokenize_fetches_the_tokenizer_only() {
    let server = checkpoint(DEMO).serve();
    let mut user = User::of(&server);
    let args = |model: &str| ["tokenize", model, "Once upon a time", "--json"].map(str::to_owned);
    let tokenize = |user: &User, more: &[&str]| {
        let args = args("user/name");
        let args: Vec<&str> = args
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        user.onebit(&args).json()
    };
    let folder = args(&fixture_arg(DEMO));
    let expected = onebit(&folder.each_ref().map(String::as_str)).json();
    assert_eq!(tokenize(&user, &[]), expected);
    let fetched: Vec<_> = server
        .asked()
        .into_iter()
        .filter(|asked| asked.starts_with("GET"))
        .collect();
    assert_eq!(
        fetched,
        [
            "GET main",
            "GET tokenizer.json",
            "GET tokenizer_config.json",
            "GET special_tokens_map.json"
        ]
    );
    server.clear();
    assert_eq!(tokenize(&user, &[]), expected);
    assert_eq!(server.asked(), ["GET main"]);
    user.unplug();
    assert_eq!(tokenize(&user, &["--offline"]), expected);
    // A converted model has a tokenizer too.
    user.endpoint = server.url();
    user.onebit(&["info", "user/name"]).ok();
    fs::remove_dir_all(user.hub_cache()).unwrap();
    assert_eq!(tokenize(&user, &["--offline"]), expected);
    user.unplug();
    assert_eq!(tokenize(&user, &[]), expected);
}

#[test]
fn every_command_takes_a_hub_id() {
    let server = checkpoint(DEMO).serve();
    let user = User::of(&server);
    user.onebit(&["score", "user/name", "--text", "Once upon a time"])
        .ok();
    let mut chat = user.command(&["chat", "user/name", "-n", "3"]);
    let done: Done = chat
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
        .into();
    assert_eq!(done.ok(), "", "nothing was said");
    user.onebit(&["run", "user/name", "-p", "Once", "-n", "2"])
        .ok();
}

#[test]
fn an_existing_output_is_refused_before_the_download() {
    let server = checkpoint(TINY.0).serve();
    let user = User::of(&server);
    let out = user.folder.path().join("a.onebit");
    fs::write(&out, "precious").unwrap();
    let args = ["convert", "user/name", "-o", out.to_str().unwrap()];
    user.onebit(&args)
        .refused(2, &["a.onebit", "exists", "--force"]);
    assert_eq!(server.log().len(), 0);
    user.onebit(&[&args[..], &["--force"]].concat()).ok();
}

#[test]
fn kinds_of_models_that_are_refused_cost_no_download() {
    let config = fs::read_to_string(fixture(TINY.0).join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["architectures"] = serde_json::json!(["MixtralForCausalLM"]);
    config["model_type"] = "mixtral".into();
    let server = checkpoint(TINY.0)
        .add("config.json", config.to_string().as_bytes())
        .serve();
    run(&User::of(&server), "user/name", &[]).refused(4, &["ixtral"]);
    assert!(
        !server
            .log()
            .iter()
            .any(|asked| asked.path.ends_with(WEIGHTS))
    );
    let server = Repo::new(&[
        ("config.json", config.to_string().as_bytes()),
        ("model.gguf", b"GGUF"),
    ])
    .serve();
    run(&User::of(&server), "user/name", &[]).refused(4, &[]);
    let plain = fs::read(fixture(TINY.0).join("config.json")).unwrap();
    let server = Repo::new(&[("config.json", &plain), ("model.gguf", b"GGUF")]).serve();
    run(&User::of(&server), "user/name", &[]).refused(4, &["model.gguf", "user/name"]);
}
