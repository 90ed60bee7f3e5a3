//! What goes wrong on the way: refusals, cuts, interruptions, other processes, full disks.

use super::*;

#[test]
fn refusals_have_exit_codes() {
    for (status, code, part) in [
        (401, 3, "HF_TOKEN"),
        (403, 3, "accept its terms"),
        (404, 3, "user/name"),
        (418, 1, "418"),
        (503, 1, "503"),
    ] {
        let server = Server::start(move |_, _| Reply::new(status, "").with("Retry-After", "0"));
        run(&User::of(&server), "user/name", &[]).refused(code, &[part]);
    }
    let server = checkpoint(TINY.0).serve();
    run(&User::of(&server), "user/name@v9", &[]).refused(3, &["v9", "user/name"]);
    let mut user = User::of(&server);
    user.unplug();
    run(&user, "user/name", &[]).refused(1, &["127.0.0.1:1"]);
    let user = User::of(&server).with("HF_ENDPOINT", "hub");
    run(&user, "user/name", &[]).refused(2, &["HF_ENDPOINT"]);
    run(&User::of(&server), "user/name@v1", &["--revision", "v2"]).refused(2, &["v1", "v2"]);
    run(
        &User::of(&server),
        &fixture_arg(TINY.0),
        &["--revision", "v2"],
    )
    .refused(2, &["--revision"]);
    onebit(&["run", "-p", "a", "--revision", "v2"]).refused(2, &["--revision"]);
}

#[test]
fn what_arrives_is_compared_with_what_was_announced() {
    let changed = |change: fn(Reply) -> Reply| {
        checkpoint(TINY.0).serve_but(move |asked, _, reply| {
            if is_weights(asked) {
                change(reply)
            } else {
                reply
            }
        })
    };
    let server = changed(|mut reply| {
        reply.body[1000] ^= 1;
        reply
    });
    let user = User::of(&server);
    run(&user, "user/name", &[]).refused(3, &[WEIGHTS, "sha256"]);
    assert!(
        !fs::read_dir(user.repo().join("blobs"))
            .unwrap()
            .any(|entry| {
                let name = entry.unwrap().file_name().into_string().unwrap();
                name.len() >= 64
            })
    );
    assert_eq!(user.converted_names(""), [""; 0]);
    for length in [10, 1_000_000] {
        let server = match length {
            10 => changed(|reply| Reply {
                body: vec![0; 10],
                ..reply
            }),
            _ => changed(|reply| Reply {
                body: vec![0; 1_000_000],
                ..reply
            }),
        };
        run(&User::of(&server), "user/name", &[]).refused(3, &[WEIGHTS, "wrong length"]);
    }
    let server = changed(|reply| {
        reply
            .sending(Sending::Cut(100))
            .with("Content-Length", 177_484)
    });
    let user = User::of(&server);
    server.clear();
    let half =
        checkpoint(TINY.0).serve_but(|asked, earlier, reply| match (is_weights(asked), earlier) {
            (true, 0) => reply.sending(Sending::Cut(100_000)),
            _ => reply,
        });
    let mut user = User {
        endpoint: half.url(),
        ..user
    };
    assert_eq!(run(&user, "user/name", &[]).ok(), expected(TINY.0));
    assert_eq!(half.sent(WEIGHTS), 177_484, "no byte came twice");
    let from: Vec<_> = half
        .log()
        .iter()
        .filter(|asked| is_weights(asked))
        .map(Asked::from)
        .collect();
    assert_eq!(from, [None, Some(100_000)]);
    user.unplug();
    assert_eq!(
        run(&user, "user/name", &["--offline"]).ok(),
        expected(TINY.0)
    );
}

#[test]
fn the_token_stays_with_the_hub() {
    let cdn = checkpoint(TINY.0).serve_cdn(|_, _, reply| reply);
    let hub = Repo {
        cdn: Some(cdn.other_url()),
        token: Some("hf_secret".into()),
        ..checkpoint(TINY.0)
    }
    .serve();
    run(&User::of(&hub), "user/name", &[]).refused(3, &["HF_TOKEN"]);
    let user = User::of(&hub).with("HF_TOKEN", "hf_secret\n");
    let done = run(&user, "user/name", &["-vv"]);
    assert!(!done.err.contains("hf_secret"), "{}", done.err);
    assert_eq!(done.ok(), expected(TINY.0));
    let by_file = User::of(&hub);
    fs::create_dir_all(by_file.folder.path().join("hf")).unwrap();
    fs::write(by_file.folder.path().join("hf/token"), "hf_secret").unwrap();
    run(&by_file, "user/name", &[]).ok();
    assert!(cdn.log().len() >= 2);
    assert!(
        !cdn.log()
            .iter()
            .any(|asked| format!("{asked:?}").contains("hf_secret"))
    );
    let user = User::of(&hub)
        .with("HF_TOKEN", "hf_secret")
        .with("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
    run(&user, "user/name", &[]).refused(3, &["401"]);
}

/// Waits until the unfinished file has `bytes` bytes.
#[cfg(unix)]
fn wait_for_part(user: &User, bytes: u64) -> PathBuf {
    let hash = sha256(&fs::read(fixture(TINY.0).join(WEIGHTS)).unwrap());
    let part = user.repo().join("blobs").join(format!("{hash}.incomplete"));
    for _ in 0..600 {
        if fs::metadata(&part).is_ok_and(|meta| meta.len() >= bytes) {
            return part;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the download did not begin");
}

#[cfg(unix)]
#[test]
fn an_interrupted_download_leaves_its_part_and_is_resumed() {
    for signal in ["-INT", "-KILL"] {
        let server = checkpoint(TINY.0).serve_but(|asked, earlier, reply| {
            match (is_weights(asked), earlier) {
                (true, 0) => reply.sending(Sending::Stall(50_000)),
                _ => reply,
            }
        });
        let user = User::of(&server);
        let args = [&["run", "user/name", "--ignore-eos"], &RUN[..]].concat();
        let mut child = user
            .command(&args)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let part = wait_for_part(&user, 50_000);
        let killed = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
        let status = child.wait().unwrap();
        if signal == "-INT" {
            assert_eq!(status.code(), Some(130));
        }
        assert_eq!(fs::metadata(&part).unwrap().len(), 50_000);
        assert!(!part.with_extension("").exists());
        assert_eq!(user.converted_names(""), [""; 0]);
        assert_eq!(run(&user, "user/name", &[]).ok(), expected(TINY.0));
        let from: Vec<_> = server
            .log()
            .iter()
            .filter(|asked| is_weights(asked))
            .map(Asked::from)
            .collect();
        assert_eq!(from, [None, Some(50_000)]);
        assert_eq!(server.sent(WEIGHTS), 177_484);
        assert!(!part.exists());
    }
}

#[cfg(unix)]
#[test]
fn two_processes_do_not_disturb_each_other() {
    let pause = std::time::Duration::from_millis(30);
    let server = checkpoint(TINY.0).serve_but(move |asked, _, reply| match is_weights(asked) {
        true => reply.sending(Sending::Slow(20_000, pause)),
        false => reply,
    });
    let user = User::of(&server);
    let expected = expected(TINY.0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_eq!(run(&user, "user/name", &[]).ok(), expected));
        }
    });
    assert_eq!(server.sent(WEIGHTS), 177_484);
    assert_eq!(user.converted_names(".onebit").len(), 1);
    assert_eq!(
        user.converted_names("").len(),
        2,
        "the file, and what was learned"
    );
}

#[test]
fn caches_that_cannot_be_written_are_named() {
    let server = checkpoint(TINY.0).serve();
    let user = User::of(&server);
    let file = user.folder.path().join("file");
    fs::write(&file, "").unwrap();
    let user = user.with("HF_HUB_CACHE", file.to_str().unwrap());
    run(&user, "user/name", &[]).refused(1, &[file.to_str().unwrap()]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_too_small_is_found_before_the_download() {
    let server =
        checkpoint(TINY.0).serve_but(|asked, _, reply| match asked.path.ends_with(WEIGHTS) {
            true => reply.with("X-Linked-Size", 1u64 << 60),
            false => reply,
        });
    run(&User::of(&server), "user/name", &[]).refused(1, &["are needed", "are free"]);
    assert!(!server.log().iter().any(is_weights));
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_is_a_failure_that_keeps_the_part() {
    // A size that is not announced cannot be compared with the room.
    let server = checkpoint(TINY.0).serve_but(|asked, _, mut reply| {
        if asked.path.ends_with(WEIGHTS) && asked.method == "HEAD" {
            reply.headers.retain(|(name, _)| name != "X-Linked-Size");
            reply = reply.sending(Sending::Endless);
        }
        reply
    });
    let user = User::of(&server);
    let disk = user.folder.path().join("hf");
    fs::create_dir_all(&disk).unwrap();
    let mut mount = Command::new("mount");
    let mounted = mount
        .args(["-t", "tmpfs", "-o", "size=128k", "tmpfs"])
        .arg(&disk)
        .output();
    if !mounted.is_ok_and(|done| done.status.success()) {
        eprintln!(
            "skipped: a_disk_that_fills_up_is_a_failure_that_keeps_the_part (mounting a tmpfs is not allowed here)"
        );
        return;
    }
    let done = run(&user, "user/name", &[]);
    let hash = sha256(&fs::read(fixture(TINY.0).join(WEIGHTS)).unwrap());
    let blobs = user.repo().join("blobs");
    let (is_whole, is_part) = (
        blobs.join(&hash).exists(),
        blobs.join(format!("{hash}.incomplete")).exists(),
    );
    assert!(
        Command::new("umount")
            .arg(&disk)
            .status()
            .unwrap()
            .success()
    );
    done.refused(1, &["No space left", &hash]);
    assert_eq!((is_whole, is_part), (false, true));
}
