//! `onebit score`.

use crate::{TINY, fixture, fixture_arg, onebit};

#[test]
fn perplexity_follows_from_the_log_probabilities() {
    let model = fixture_arg(TINY.0);
    let done = onebit(&["score", &model, "--ids", "1,2,3,4", "--json"]).json();
    assert_eq!(done["ids"], serde_json::json!([1, 2, 3, 4]));
    let scores = done["logprobs"].as_array().unwrap();
    assert!(scores[0].is_null());
    let sum: f64 = scores[1..]
        .iter()
        .map(|score| score.as_f64().unwrap())
        .sum();
    assert_eq!(done["scored"], 3);
    assert!((done["perplexity"].as_f64().unwrap() - (-sum / 3.0).exp()).abs() < 1e-9);
    let text = onebit(&["score", &model, "--ids", "1,2,3,4"]).ok();
    assert!(text.starts_with("perplexity "), "{text}");
    assert_eq!(text.lines().count(), 5);
}

#[test]
fn a_single_token_has_no_perplexity_but_logits() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("l.safetensors");
    let args = [
        "score",
        &fixture_arg(TINY.0),
        "--ids",
        "1",
        "--json",
        "--logits",
        out.to_str().unwrap(),
    ];
    let done = onebit(&args).json();
    assert!(done["perplexity"].is_null());
    let bytes = std::fs::read(&out).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("logits").unwrap().shape(), [1, TINY.1]);
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
}

#[test]
fn nothing_to_score_is_refused() {
    let model = fixture_arg(TINY.0);
    onebit(&["score", &model, "--ids", ""]).refused(2, &["nothing to score"]);
    onebit(&["score", &model, "-f", "/no/such/file"]).refused(2, &["/no/such/file"]);
    let no_folder = [
        "score",
        &model,
        "--ids",
        "1",
        "--logits",
        "/no/such/folder/l.safetensors",
    ];
    onebit(&no_folder).refused(1, &["/no/such/folder"]);
}

/// Scores the first tokens of the demo model's held-out text; the object of `--json` and the file of logits.
fn scored(folder: &std::path::Path, flags: &[&str]) -> (serde_json::Value, Vec<u8>) {
    let text = std::fs::read_to_string(fixture("demo/heldout.txt")).unwrap();
    let text: String = text.chars().take(1500).collect();
    let out = folder.join("l.safetensors");
    let args = ["score", "--text", &text, "--json", "-c", "512", "--logits"];
    let args = [&args[..], &[out.to_str().unwrap()], flags].concat();
    let done = onebit(&args).json();
    (done, std::fs::read(out).unwrap())
}

#[test]
fn scores_do_not_depend_on_a_cache() {
    let folder = tempfile::tempdir().unwrap();
    for flags in [
        &[][..],
        &["--kv", "q4", "-b", "50"],
        &["--stream"],
        &["--kv-k", "b1", "--window", "100", "--kv-sinks", "2"],
    ] {
        let (kept, expected) = scored(folder.path(), flags);
        let no_cache = [flags, &["--no-kv-cache"]].concat();
        let (pass, logits) = scored(folder.path(), &no_cache);
        assert!(logits == expected, "{flags:?}");
        assert_eq!(pass["logprobs"], kept["logprobs"]);
        assert_eq!(pass["kv"], kept["kv"]);
    }
}

/// The memory of one layer's keys and values is what is planned and what is measured.
#[cfg(target_os = "linux")]
#[test]
fn a_pass_without_a_cache_takes_what_is_planned() {
    let ids: Vec<String> = (0..2000).map(|i| (100 + i % 16).to_string()).collect();
    let (folder, shape) = (tempfile::tempdir().unwrap(), crate::synthetic::shape());
    let encoding = shape.encoding(shape.linear, shape.keep);
    let path = crate::synthetic::write(folder.path(), &shape, &encoding);
    let memory = |flags: &[&str]| {
        let ids = ids.join(",");
        let args = ["score", path.to_str().unwrap(), "--ids", &ids];
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "\"$@\"; exit $?", "sh", env!("CARGO_BIN_EXE_onebit")]);
        command.args(args).args([
            "--json", "-c", "2000", "-t", "2", "--kv", "f32", "-b", "128",
        ]);
        let done: crate::Done = command.args(flags).output().unwrap().into();
        done.json()["memory"].clone()
    };
    let number = |memory: &serde_json::Value, key: &str| memory[key].as_f64().unwrap();
    let (kept, pass) = (memory(&[]), memory(&["--no-kv-cache"]));
    for memory in [&kept, &pass] {
        let (planned, peak) = (number(memory, "planned"), number(memory, "peak"));
        assert!((planned - peak).abs() <= (0.03 * peak).max(8e6), "{memory}");
    }
    let saved = number(&kept, "planned") - number(&pass, "planned");
    // Pages of files come and go with what else runs; those of the process's own do not.
    let own = |memory: &serde_json::Value| {
        let phases = memory["phases"].as_array().unwrap();
        number(phases.last().unwrap(), "anon")
    };
    let measured = own(&kept) - own(&pass);
    assert!(saved > 30e6, "{saved}");
    assert!(
        (measured - saved).abs() < 0.1 * saved,
        "{measured} of {saved}: {kept} {pass}"
    );
}

#[test]
fn a_pass_without_a_cache_has_the_same_limits() {
    let model = fixture_arg(TINY.0);
    let base = ["score", &model, "--no-kv-cache", "--ids", "1,2,3,4"];
    let run = |more: &[&str]| onebit(&[&base[..], more].concat());
    run(&["-c", "3"]).refused(2, &["4 tokens", "-c"]);
    run(&["--memory-limit", "2M"]).refused(5, &["--memory-limit"]);
    run(&["-c", "auto", "--kv", "auto"]).ok();
    onebit(&["run", &model, "--ids", "1", "--no-kv-cache"]).refused(2, &["--no-kv-cache"]);
}
