//! A hub in this process, and what is fetched from it.

mod access;
mod broken;
mod cuts;
mod files;
mod offline;
mod server;

use onebit_hub::{Hub, HubError, Progress, Resolved, Revision, Settings, Snapshot, Want};
use server::Server;
use std::path::Path;
use std::time::Duration;

/// Weights of some size that no two places have in common.
fn weights() -> Vec<u8> {
    (0u32..100_000)
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

/// A repository with one file of weights.
fn single() -> server::Repo {
    server::Repo::new(&[
        ("config.json", b"{}"),
        ("tokenizer.json", b"{\"a\": 1}"),
        ("model.safetensors", &weights()),
    ])
}

/// Settings for a test: no waiting.
fn settings(server: &Server, cache: &Path) -> Settings {
    let mut settings = Settings::new(cache);
    settings.endpoint = server.url();
    settings.backoff = Duration::from_millis(1);
    settings
}

fn resolve(settings: &Settings, revision: &str) -> Result<Resolved, HubError> {
    let revision: Revision = revision.parse().unwrap();
    Hub::new(settings.clone())?.resolve(&"user/name".parse()?, &revision, &mut ())
}

/// Fetches from `main`.
fn fetch(settings: &Settings, want: Want) -> Result<Snapshot, HubError> {
    fetch_telling(settings, want, &mut ())
}

fn fetch_telling(
    settings: &Settings,
    want: Want,
    progress: &mut dyn Progress,
) -> Result<Snapshot, HubError> {
    let hub = Hub::new(settings.clone())?;
    let resolved = hub.resolve(&"user/name".parse()?, &Revision::default(), progress)?;
    hub.fetch(&resolved, want, progress)
}

/// All paths below a folder but the locks, links with their targets.
fn tree(folder: &Path) -> Vec<String> {
    fn walk(root: &Path, folder: &Path, out: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            match std::fs::read_link(&path) {
                Ok(target) => out.push(format!("{name} -> {}", target.display())),
                Err(_) if path.is_dir() => walk(root, &path, out),
                Err(_) => out.push(name),
            }
        }
    }
    let mut out = Vec::new();
    walk(folder, folder, &mut out);
    out.sort();
    out
}

/// The unfinished and the finished blobs of the repository.
fn blobs(cache: &Path) -> Vec<String> {
    let folder = cache.join("models--user--name/blobs");
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
