//! Finding a model that is in the cache: what starting with a name of the hub costs without a network.

use std::fs;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use onebit_hub::{Hub, Revision, Settings, Want};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const FILES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];

/// A cache as `huggingface_hub` leaves it where links are not used.
fn lay(cache: &Path) {
    let snapshot = cache.join("models--user--name/snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).expect("a folder");
    for name in FILES {
        fs::write(snapshot.join(name), "{}").expect("a file");
    }
}

fn cached(c: &mut Criterion) {
    let cache = tempfile::tempdir().expect("a folder");
    lay(cache.path());
    let mut settings = Settings::new(cache.path());
    settings.offline = true;
    let hub = Hub::new(settings).expect("a hub");
    let repo = "user/name".parse().expect("a name");
    let revision: Revision = COMMIT.parse().expect("a commit");
    c.bench_function("find a model in the cache", |b| {
        b.iter(|| {
            let commit = hub.resolve(&repo, &revision, &mut ()).expect("a commit");
            let snapshot = hub.fetch(&commit, Want::Model, &mut ()).expect("complete");
            assert!(snapshot.files.iter().map(|file| &*file.name).eq(FILES));
        });
    });
}

criterion_group!(benches, cached);
criterion_main!(benches);
