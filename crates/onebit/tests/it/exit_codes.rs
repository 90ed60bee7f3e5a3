//! Requests that cannot be served, each with its exit code and a message that names what is wrong.

use crate::{TINY, fixture_arg, onebit, onebit_with_input, program};

#[test]
fn ids_out_of_range_name_the_id_and_the_vocabulary() {
    let (model, vocab) = (fixture_arg(TINY.0), TINY.1.to_string());
    for command in ["run", "score"] {
        onebit(&[command, &model, "--ids", "1,999999,2"]).refused(2, &["999999", &vocab]);
        onebit(&[command, &model, "--ids", &vocab]).refused(2, &[&vocab]);
        onebit(&[command, &model, "--ids", "1,-2"]).refused(2, &["`-2`"]);
        onebit(&[command, &model, "--ids", "1,x"]).refused(2, &["`x`"]);
    }
}

#[test]
fn an_empty_prompt_is_refused() {
    onebit(&["run", "-p", ""]).refused(2, &["prompt is empty"]);
    onebit(&["run", "--ids", ""]).refused(2, &["prompt is empty"]);
    onebit_with_input(&["run"], "").refused(2, &["prompt is empty"]);
    onebit_with_input(&["run"], "\n").refused(2, &["prompt is empty"]);
    onebit(&["run", "-f", "/dev/null"]).refused(2, &["prompt is empty"]);
    onebit(&["run", &fixture_arg(TINY.0), "--ids", " , "]).refused(2, &["prompt is empty"]);
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_with_both_numbers() {
    let ids = vec!["7"; 40].join(",");
    let model = fixture_arg(TINY.0);
    onebit(&["run", &model, "--ids", &ids, "-c", "39"]).refused(2, &["40 tokens", "39"]);
    onebit(&["score", &model, "--ids", &ids, "-c", "39"]).refused(2, &["40 tokens", "39"]);
    let done = onebit(&[
        "run", &model, "--ids", &ids, "-c", "40", "-n", "5", "--temp", "0", "--json",
    ])
    .json();
    assert_eq!(
        done["ids"].as_array().unwrap().len(),
        1,
        "one token follows a full context"
    );
    assert_eq!(done["stop"], "length");
    let long = vec!["7"; 129].join(",");
    onebit(&["run", &model, "--ids", &long]).refused(2, &["129 tokens", "128"]);
}

#[test]
fn unknown_flags_and_values_are_refused() {
    for args in [
        &["run", "--bogus"][..],
        &["bogus"],
        &["run", "-n", "-2"],
        &["run", "--temp", "-1"],
        &["run", "--temp", "nan"],
        &["run", "--top-p", "1.5"],
        &["run", "-t", "0"],
        &["run", "--num_threads", "100000"],
        &["run", "-b", "0"],
        &["run", "--kv", "f8"],
        &["run", "-p", "a", "--ids", "1"],
        &["tokenize", "x"],
        &["completions", "cmd"],
    ] {
        let done = onebit(args);
        assert_eq!(
            (done.code, done.out.as_str()),
            (2, ""),
            "{args:?}: {}",
            done.err
        );
    }
    onebit(&[
        "run",
        &fixture_arg(TINY.0),
        "--ids",
        "1",
        "--kernels",
        "bogus",
    ])
    .refused(2, &["bogus", "scalar"]);
}

#[test]
fn caches_that_cannot_be() {
    let model = fixture_arg(TINY.0);
    for (flag, value, word) in [
        ("--kv", "q3", "q4"),
        ("--window", "0", "--window"),
        ("--sinks", "65", "64"),
        ("--kv-recent", "x", "--kv-recent"),
    ] {
        onebit(&["run", &model, "--ids", "1", flag, value]).refused(2, &[word]);
    }
}

#[test]
fn activations_follow_the_training() {
    let ternary = fixture_arg(TINY.0);
    onebit(&[
        "run",
        &ternary,
        "--ids",
        "1",
        "-n",
        "1",
        "--activations",
        "int8",
    ])
    .ok();
    let floats = onebit(&[
        "run",
        &ternary,
        "--ids",
        "1",
        "-n",
        "1",
        "--activations",
        "f32",
    ]);
    assert!(floats.err.contains("trained with int8"), "{}", floats.err);
    floats.ok();
    let dense = fixture_arg("checkpoints/llama_dense_f16");
    onebit(&[
        "run",
        &dense,
        "--ids",
        "1",
        "-n",
        "1",
        "--activations",
        "f32",
    ])
    .ok();
    onebit(&["run", &dense, "--ids", "1", "--activations", "int8"])
        .refused(4, &["int8 activations", "dense"]);
}

#[test]
fn models_that_are_not_there_are_told_from_hub_ids() {
    onebit(&["run", "/no/such/model", "-p", "a"]).refused(3, &["/no/such/model"]);
    onebit(&["run", "no-such.onebit", "-p", "a"]).refused(3, &["no-such.onebit"]);
    onebit(&["info", "/dev/null"]).refused(3, &["/dev/null"]);
    onebit(&["run", "no-such/model.onebit", "-p", "a"]).refused(3, &["no-such/model.onebit"]);
    #[cfg(feature = "hub")]
    onebit(&["run", "user/name", "-p", "a"]).refused(3, &["user/name at main", "HF_HUB_OFFLINE"]);
    #[cfg(not(feature = "hub"))]
    onebit(&["run", "user/name", "-p", "a"]).refused(4, &["user/name", "hub"]);
}

#[test]
fn a_model_without_a_tokenizer_works_with_ids_only() {
    let model = fixture_arg(TINY.0);
    onebit(&["run", &model, "-p", "hello"]).refused(2, &["no tokenizer", "--ids"]);
    onebit(&["chat", &model]).refused(2, &["no tokenizer"]);
    let out = onebit(&[
        "run",
        &model,
        "--ids",
        "1,2",
        "-n",
        "3",
        "--temp",
        "0",
        "--ignore-eos",
    ])
    .ok();
    assert_eq!(
        out.split(',')
            .filter(|id| id.parse::<u32>().is_ok())
            .count(),
        3,
        "{out}"
    );
}

#[test]
fn stdout_that_is_full_or_closed_is_no_panic() {
    let args = [
        "run",
        &fixture_arg(TINY.0),
        "--ids",
        "1",
        "-n",
        "50",
        "--ignore-eos",
    ];
    #[cfg(target_os = "linux")]
    {
        let full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let done = program(&args).stdout(full).output().unwrap();
        assert_eq!(done.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&done.stderr).contains("stdout"));
    }
    let mut child = program(&args)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn help_goes_to_stdout() {
    let help = onebit(&["--help"]).ok();
    for part in [
        "run",
        "chat",
        "score",
        "tokenize",
        "info",
        "convert",
        "completions",
        "ONEBIT_CACHE",
        "Exit codes",
    ] {
        assert!(help.contains(part), "{part}");
    }
    assert!(
        onebit(&["--version"])
            .ok()
            .contains(env!("CARGO_PKG_VERSION"))
    );
    assert!(onebit(&["completions", "bash"]).ok().contains("onebit"));
}
