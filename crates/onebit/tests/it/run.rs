//! `onebit run`: what it prints.

use crate::{TINY, fixture_arg, onebit, onebit_with_input};
use serde_json::Value;

fn is_numbers(object: &Value, keys: &[&str]) {
    assert_eq!(object.as_object().unwrap().len(), keys.len(), "{object}");
    for key in keys {
        assert!(object[key].is_number(), "{key} in {object}");
    }
}

#[test]
fn json_has_the_documented_fields() {
    let model = fixture_arg(TINY.0);
    let args = [
        "run", &model, "--ids", "1,2", "-n", "6", "--seed", "7", "-t", "2", "-c", "50", "--kv",
        "f32", "--json",
    ];
    let done = onebit(&args).json();
    let keys: Vec<&str> = done
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut expected = [
        "prompt_ids",
        "ids",
        "text",
        "stop",
        "timings",
        "memory",
        "weights",
        "kernels",
        "threads",
        "seed",
        "kv",
        "ctx",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!(done["prompt_ids"], serde_json::json!([1, 2]));
    assert!(done["text"].is_string());
    assert_eq!(
        (&done["seed"], &done["threads"], &done["ctx"]),
        (&7.into(), &2.into(), &50.into())
    );
    assert_eq!(done["kv"], "f32");
    let times = [
        "load_s",
        "ttft_s",
        "prefill_tok_s",
        "decode_tok_s",
        "decode_ms_p50",
        "decode_ms_p95",
        "decode_ms_p99",
    ];
    is_numbers(&done["timings"], &times);
    is_numbers(&done["weights"], &["bytes_per_token", "skipped"]);
    #[cfg(target_os = "linux")]
    crate::memory::is_report(&done["memory"]);
}

#[test]
fn the_same_seed_gives_the_same_tokens_whatever_computes_them() {
    let model = fixture_arg(TINY.0);
    let ids = |more: &[&str]| {
        let base = [
            "run",
            &model,
            "--ids",
            "5,6,7,8,9",
            "-n",
            "20",
            "--ignore-eos",
            "--json",
            "--temp",
            "1.5",
        ];
        onebit(&[&base, more].concat()).json()["ids"].clone()
    };
    let expected = ids(&["--seed", "11"]);
    assert_eq!(expected.as_array().unwrap().len(), 20);
    assert_ne!(ids(&["--seed", "12"]), expected);
    assert_eq!(ids(&["--seed", "11", "-t", "3", "-b", "2"]), expected);
    assert_eq!(
        ids(&["--seed", "11", "--kernels", "scalar", "--no-mmap"]),
        expected
    );
}

#[test]
fn a_random_seed_is_told_and_can_be_given_back() {
    let model = fixture_arg(TINY.0);
    let base = [
        "run",
        &model,
        "--ids",
        "3",
        "-n",
        "12",
        "--ignore-eos",
        "--json",
    ];
    let first = onebit(&base).json();
    let seed = first["seed"].to_string();
    let again = onebit(&[&base[..], &["--seed", &seed]].concat()).json();
    assert_eq!(first["ids"], again["ids"]);
}

#[test]
fn nothing_but_the_continuation_is_on_stdout() {
    let model = fixture_arg(TINY.0);
    let args = [
        "run",
        &model,
        "--ids",
        "1,2",
        "-n",
        "4",
        "--temp",
        "0",
        "--ignore-eos",
    ];
    let plain = onebit(&args);
    assert!(
        plain.err.contains("kernels"),
        "the closing summary is on stderr"
    );
    let json = onebit(&[&args[..], &["--json"]].concat());
    let ids = crate::ids_arg(&serde_json::from_str::<Value>(&json.out).unwrap()["ids"]);
    assert_eq!(plain.out, ids);
    assert_eq!(
        onebit(&[&args[..], &["--echo"]].concat()).ok(),
        format!("1,2,{ids}")
    );
    let nothing = onebit(&["run", &model, "--ids", "1", "-n", "0"]).ok();
    assert_eq!(nothing, "");
}

#[test]
fn the_first_end_token_ends_the_answer() {
    let model = fixture_arg(TINY.0);
    let base = [
        "run", &model, "--ids", "1,2", "-n", "30", "--temp", "0", "--json",
    ];
    let done = onebit(&[&base[..], &["--ignore-eos"]].concat()).json();
    assert_eq!(
        (done["ids"].as_array().unwrap().len(), &done["stop"]),
        (30, &"length".into())
    );
}

#[test]
fn long_contexts_cost_nothing_until_they_are_used() {
    let model = fixture_arg(TINY.0);
    let done = onebit(&[
        "run", &model, "--ids", "1", "-n", "2", "-c", "4000000", "--kv", "f32", "--json",
    ])
    .json();
    assert!(done["memory"]["planned"].as_u64().unwrap() > 1 << 30);
    #[cfg(target_os = "linux")]
    assert!(done["memory"]["peak"].as_u64().unwrap() < 200 << 20);
}

#[test]
fn what_stdin_holds_is_the_prompt_only_if_nothing_else_is() {
    let model = fixture_arg(TINY.0);
    let done = onebit_with_input(
        &["run", &model, "--ids", "1", "-n", "1", "--json"],
        "ignored",
    )
    .json();
    assert_eq!(done["prompt_ids"], serde_json::json!([1]));
}
