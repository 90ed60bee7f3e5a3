//! `onebit convert --verify`.

use crate::{TINY, fixture_arg, onebit};
use std::fs;
use std::path::Path;

fn convert(out: &Path, source: &str, more: &[&str]) -> crate::Done {
    let out = out.join("a.onebit");
    onebit(&[&["convert", source, "-o", out.to_str().unwrap()], more].concat())
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn the_summary_and_the_json_say_how_close_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let demo = fixture_arg("demo/checkpoint");
    let summary = convert(folder.path(), &demo, &["--verify", "64"]).ok();
    for part in [
        "verified: 64 tokens of text",
        "nats per token",
        "same likeliest token at 100.0%",
    ] {
        assert!(summary.contains(part), "`{part}` is not in {summary}");
    }
    let json = convert(
        folder.path(),
        &demo,
        &["--verify", "16", "--json", "--force"],
    )
    .json();
    assert_eq!(json["verify"]["tokens"], 16);
    assert_eq!(json["verify"]["token_source"], "text");
    assert_eq!(json["verify"]["precision"], "int8");
    assert!(
        json["verify"]["mean_kl"].as_f64().unwrap()
            <= json["verify"]["limits"]["mean_kl"].as_f64().unwrap()
    );
    let q = json["matrices"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["name"] == "layers.0.q")
        .unwrap();
    assert_eq!(
        (&q["layout"], &q["rows"]),
        (&"t2.r1k256".into(), &256.into())
    );
    assert_eq!(q["counts"].as_array().unwrap().len(), 3);
    assert!(json["notes"].is_array() && json["file_bytes"].as_u64().unwrap() > 0);
    let plain = convert(
        folder.path(),
        &demo,
        &["--verify", "0", "--json", "--force"],
    )
    .json();
    assert!(plain["verify"].is_null());
}

#[test]
fn what_fails_ends_with_1_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let strict = ["--verify", "8", "--verify-max-kl", "0"];
    let failed = convert(folder.path(), &fixture_arg(TINY.0), &strict);
    failed.refused(
        1,
        &[
            "verification failed",
            "mean KL divergence is",
            "more than 0.0e0",
            "position",
        ],
    );
    assert!(is_empty(folder.path()));
    let source = fixture_arg("checkpoints/llama_dense_f32");
    let loose = [
        "--weights",
        "q4",
        "--verify",
        "8",
        "--json",
        "--verify-max-kl",
    ];
    convert(folder.path(), &source, &[&loose[..], &["1e-3"]].concat()).refused(1, &["mean KL"]);
    assert!(is_empty(folder.path()));
    convert(folder.path(), &source, &[&loose[..], &["10"]].concat()).json();
}

#[test]
fn impossible_requests_end_with_2() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |more: &[&str], parts: &[&str]| {
        convert(folder.path(), &fixture_arg(TINY.0), more).refused(2, parts);
        assert!(is_empty(folder.path()));
    };
    refused(&["--verify", "100000"], &["100000 tokens", "positions"]);
    refused(&["--verify=-3"], &["--verify"]);
    refused(&["--verify", "many"], &["--verify"]);
    refused(&["--verify", "8", "--verify-max-kl=-1"], &["not negative"]);
    refused(
        &["--verify", "8", "--verify-max-kl", "nan"],
        &["not negative"],
    );
    refused(&["--verify-max-kl", "1"], &["--verify"]);
}
