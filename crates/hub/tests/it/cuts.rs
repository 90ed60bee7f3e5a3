//! Connections that break, and servers that are busy.

use crate::server::{Reply, Repo, Sending, Server, sha256};
use crate::{blobs, fetch, fetch_telling, settings, single, weights};
use onebit_hub::{ErrorKind, HubError, Progress, Want};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn is_weights(asked: &crate::server::Asked) -> bool {
    asked.method == "GET"
        && (asked.path.ends_with(".safetensors") || asked.path.starts_with("/cdn/"))
}

/// Cuts the first answers after so many bytes each.
fn cutting(cuts: &'static [usize]) -> impl Fn(&crate::server::Asked, usize, Reply) -> Reply {
    move |asked, earlier, reply| match cuts.get(earlier).filter(|_| is_weights(asked)) {
        Some(at) => reply.sending(Sending::Cut(*at)),
        None => reply,
    }
}

/// The first bytes that were asked for, per request for weights.
fn ranges(server: &Server) -> Vec<Option<usize>> {
    server
        .log()
        .iter()
        .filter(|asked| is_weights(asked))
        .map(|asked| asked.from())
        .collect()
}

#[test]
fn a_cut_is_resumed_and_no_byte_comes_twice() {
    let cache = tempfile::tempdir().unwrap();
    let server = single().serve_but(cutting(&[150_000, 1, 0, 99_999]));
    let snapshot = fetch(&settings(&server, cache.path()), Want::Model).unwrap();
    assert_eq!(
        fs::read(snapshot.folder.join("model.safetensors")).unwrap(),
        weights()
    );
    assert_eq!(
        ranges(&server),
        [
            None,
            Some(150_000),
            Some(150_001),
            Some(150_001),
            Some(250_000)
        ]
    );
    assert_eq!(server.sent("model.safetensors"), weights().len());
    let conditions: Vec<_> = server
        .log()
        .iter()
        .filter_map(|asked| asked.header("if-range").map(str::to_owned))
        .collect();
    assert_eq!(conditions, vec![format!("\"{}\"", sha256(&weights())); 4]);
}

#[test]
fn a_cut_at_a_cdn_is_resumed_through_the_hub() {
    let cache = tempfile::tempdir().unwrap();
    let cdn = single().serve_cdn(cutting(&[123_456]));
    let hub = Repo {
        cdn: Some(cdn.url()),
        ..single()
    }
    .serve();
    let snapshot = fetch(&settings(&hub, cache.path()), Want::Model).unwrap();
    assert_eq!(
        fs::read(snapshot.folder.join("model.safetensors")).unwrap(),
        weights()
    );
    assert_eq!(ranges(&cdn), [None, Some(123_456)]);
    assert_eq!(
        ranges(&hub),
        [None, Some(123_456)],
        "a link may have run out, so a new one is asked for"
    );
    assert_eq!(cdn.sent("?signature=s"), weights().len());
}

#[test]
fn the_next_process_goes_on_from_what_is_there() {
    let cache = tempfile::tempdir().unwrap();
    let server = single().serve_but(cutting(&[200_000]));
    let mut once = settings(&server, cache.path());
    once.retries = 0;
    let error = fetch(&once, Want::Model).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(
        matches!(
            error,
            HubError::Cut {
                kept: 200_000,
                bytes: 400_000,
                ..
            }
        ),
        "{error}"
    );
    let part = format!("{}.incomplete", sha256(&weights()));
    assert!(blobs(cache.path()).contains(&part));
    server.clear();
    // The request that is cut is the first of its kind.
    let snapshot = fetch(&settings(&server, cache.path()), Want::Model).unwrap();
    assert_eq!(ranges(&server)[0], Some(200_000));
    assert_eq!(server.sent("model.safetensors"), weights().len());
    assert_eq!(
        fs::read(snapshot.folder.join("model.safetensors")).unwrap(),
        weights()
    );
    assert!(!blobs(cache.path()).contains(&part));
}

#[test]
fn a_server_that_ignores_ranges_sends_everything_again() {
    let cache = tempfile::tempdir().unwrap();
    let server = single().serve_but(|asked, earlier, reply| match (is_weights(asked), earlier) {
        (true, 0) => reply.sending(Sending::Cut(300_000)),
        (true, _) => Reply::new(200, weights()),
        _ => reply,
    });
    let snapshot = fetch(&settings(&server, cache.path()), Want::Model).unwrap();
    assert_eq!(
        fs::read(snapshot.folder.join("model.safetensors")).unwrap(),
        weights()
    );
    assert_eq!(ranges(&server), [None, Some(300_000)]);
}

#[test]
fn a_part_that_the_server_knows_nothing_of_is_fetched_anew() {
    for part in [vec![7; 400_001], vec![7; 399_999]] {
        let cache = tempfile::tempdir().unwrap();
        let server = single().serve_but(|asked, _, reply| match asked.from() {
            Some(_) => Reply::new(416, ""),
            None => reply,
        });
        let folder = cache.path().join("models--user--name/blobs");
        fs::create_dir_all(&folder).unwrap();
        fs::write(
            folder.join(format!("{}.incomplete", sha256(&weights()))),
            part,
        )
        .unwrap();
        let snapshot = fetch(&settings(&server, cache.path()), Want::Model).unwrap();
        assert_eq!(
            fs::read(snapshot.folder.join("model.safetensors")).unwrap(),
            weights()
        );
    }
}

#[test]
fn a_part_with_other_content_is_found_out() {
    let cache = tempfile::tempdir().unwrap();
    let server = single().serve();
    let folder = cache.path().join("models--user--name/blobs");
    fs::create_dir_all(&folder).unwrap();
    let part = folder.join(format!("{}.incomplete", sha256(&weights())));
    fs::write(&part, [7; 1000]).unwrap();
    let error = fetch(&settings(&server, cache.path()), Want::Model).unwrap_err();
    assert!(error.to_string().contains("sha256"), "{error}");
    assert!(!part.exists());
    fetch(&settings(&server, cache.path()), Want::Model).unwrap();
}

#[test]
fn a_range_that_was_not_asked_for_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    let server = single().serve_but(|asked, earlier, reply| match (is_weights(asked), earlier) {
        (true, 0) => reply.sending(Sending::Cut(1000)),
        (true, _) => reply.with("Content-Range", "bytes 2000-399999/400000"),
        _ => reply,
    });
    let error = fetch(&settings(&server, cache.path()), Want::Model).unwrap_err();
    assert!(
        error.to_string().contains("bytes 2000-399999/400000"),
        "{error}"
    );
}

#[test]
fn busy_servers_are_asked_again() {
    for status in [429, 500, 503] {
        let cache = tempfile::tempdir().unwrap();
        let server = single().serve_but(move |_, earlier, reply| match earlier {
            0 | 1 => Reply::new(status, "").with("Retry-After", "0"),
            _ => reply,
        });
        fetch(&settings(&server, cache.path()), Want::Model).unwrap();
    }
}

#[test]
fn patience_ends() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| Reply::new(503, ""));
    let error = fetch(&settings(&server, cache.path()), Want::Model).unwrap_err();
    assert!(
        matches!(error, HubError::Status { status: 503, .. }),
        "{error}"
    );
    assert_eq!((error.kind(), server.log().len()), (ErrorKind::Network, 6));
    let server = single().serve_but(|asked, _, reply| match is_weights(asked) {
        true => reply.sending(Sending::Cut(0)),
        false => reply,
    });
    let error = fetch(&settings(&server, cache.path()), Want::Model).unwrap_err();
    assert_eq!(
        (error.kind(), ranges(&server).len()),
        (ErrorKind::Network, 6)
    );
}

#[test]
fn slow_is_not_silent() {
    let cache = tempfile::tempdir().unwrap();
    let server = single().serve_but(|asked, _, reply| match is_weights(asked) {
        true => reply.sending(Sending::Slow(20_000, Duration::from_millis(100))),
        false => reply,
    });
    let mut settings = settings(&server, cache.path());
    settings.download_timeout = Duration::from_secs(1);
    fetch(&settings, Want::Model).unwrap();
    assert_eq!(
        ranges(&server),
        [None],
        "two seconds in all, but never one of silence"
    );
}

#[test]
fn silence_is_a_cut() {
    let cache = tempfile::tempdir().unwrap();
    let server = single().serve_but(|asked, earlier, reply| match (is_weights(asked), earlier) {
        (true, 0) => reply.sending(Sending::Stall(5000)),
        _ => reply,
    });
    let mut settings = settings(&server, cache.path());
    settings.download_timeout = Duration::from_millis(500);
    fetch(&settings, Want::Model).unwrap();
    assert_eq!(ranges(&server), [None, Some(5000)]);
}

#[test]
fn there_may_be_no_server_at_all() {
    let cache = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let mut settings = onebit_hub::Settings::new(cache.path());
    settings.endpoint = format!("http://{free}");
    let error = fetch(&settings, Want::Model).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(error.to_string().contains(&free.to_string()), "{error}");
}

/// Cancels as soon as a byte of the weights is there.
#[derive(Default)]
struct Impatient {
    is_cancelled: AtomicBool,
}

impl Progress for Impatient {
    fn at(&mut self, file: &str, done: u64) {
        if file == "model.safetensors" && done > 0 {
            self.is_cancelled.store(true, Ordering::Relaxed);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}

#[test]
fn cancelling_does_not_wait_for_the_server_and_keeps_what_came() {
    let cache = tempfile::tempdir().unwrap();
    let server = single().serve_but(|asked, _, reply| match is_weights(asked) {
        true => reply.sending(Sending::Stall(5000)),
        false => reply,
    });
    let start = Instant::now();
    let mut settings = settings(&server, cache.path());
    settings.download_timeout = Duration::from_secs(50);
    let error = fetch_telling(&settings, Want::Model, &mut Impatient::default()).unwrap_err();
    assert!(matches!(error, HubError::Cancelled), "{error}");
    assert!(
        start.elapsed() < Duration::from_secs(40),
        "it did not wait for the silence to end"
    );
    let part = cache
        .path()
        .join("models--user--name/blobs")
        .join(format!("{}.incomplete", sha256(&weights())));
    assert_eq!(fs::metadata(part).unwrap().len(), 5000);
    assert!(!blobs(cache.path()).contains(&sha256(&weights())));
}
