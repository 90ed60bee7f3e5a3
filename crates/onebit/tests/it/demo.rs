//! The model built into the program: the story it tells and the goldens it was shipped with.

use crate::families::logits;
use crate::{fixture, fixture_arg, ids_arg, onebit, onebit_with_input};
use serde_json::Value;
use std::collections::HashSet;
use std::fs;

fn goldens() -> Value {
    serde_json::from_slice(&fs::read(fixture("demo/goldens.json")).unwrap()).unwrap()
}

#[test]
fn it_tells_a_story() {
    let story = onebit(&["run", "-p", "Once upon a time", "-n", "64", "--temp", "0"]).ok();
    let words: HashSet<&str> = story
        .split(|c: char| !c.is_alphabetic())
        .filter(|word| !word.is_empty())
        .collect();
    assert!(story.len() >= 120, "{} bytes: {story}", story.len());
    assert!(words.len() >= 20, "{} words: {story}", words.len());
}

/// Further on, two tokens may be as good as equally likely, and the last bit of a float decides.
const GREEDY: usize = 32;

#[test]
fn greedy_tokens_are_those_of_transformers() {
    for case in goldens()["greedy"].as_array().unwrap() {
        let expected = &case["new_ids"].as_array().unwrap()[..GREEDY];
        let more = [
            "-n",
            &GREEDY.to_string(),
            "--temp",
            "0",
            "--kv",
            "f32",
            "--json",
        ];
        let from_ids =
            onebit(&[&["run", "--ids", &ids_arg(&case["prompt_ids"])], &more[..]].concat()).json();
        assert_eq!(
            from_ids["ids"].as_array().unwrap(),
            expected,
            "{}",
            case["prompt"]
        );
    }
}

/// By how much logits of two correct engines may differ where an activation falls on the other side
/// between two int8 values. Only a token that leads by more is the choice of all of them.
const CLEAR: f32 = 0.02;

#[test]
fn each_choice_along_the_golden_paths_is_that_of_transformers() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("logits.safetensors");
    for case in goldens()["greedy"].as_array().unwrap() {
        let ids = |key: &str| case[key].as_array().unwrap().clone();
        let (prompt, new) = (ids("prompt_ids"), ids("new_ids"));
        let all = Value::from([prompt.clone(), new.clone()].concat());
        let args = ["score", "--ids", &ids_arg(&all), "--kv", "f32", "--logits"];
        onebit(&[&args[..], &[out.to_str().unwrap()]].concat()).ok();
        let (shape, logits) = logits(&out);
        for (i, (token, gap)) in new.iter().zip(ids("gaps")).enumerate() {
            let row = &logits[(prompt.len() - 1 + i) * shape[1]..][..shape[1]];
            let best = row.iter().copied().fold(f32::MIN, f32::max);
            let behind = best - row[token.as_u64().unwrap() as usize];
            let clear = gap.as_f64().unwrap() as f32 >= CLEAR;
            let allowed = if clear { 0.0 } else { CLEAR };
            assert!(behind <= allowed, "{} token {i}: {behind}", case["prompt"]);
        }
    }
}

#[test]
fn prompts_and_chats_become_the_tokens_of_transformers() {
    let folder = tempfile::tempdir().unwrap();
    let messages = folder.path().join("messages.json");
    let model = fixture_arg("demo/demo.onebit");
    for case in goldens()["chats"].as_array().unwrap() {
        fs::write(&messages, case["messages"].to_string()).unwrap();
        let closed = (case["add_generation_prompt"] == false).then_some("--no-generation-prompt");
        let args: Vec<&str> = ["tokenize", &model, "--chat", messages.to_str().unwrap()]
            .into_iter()
            .chain(closed)
            .collect();
        let rendered = onebit(&args).json();
        assert_eq!(
            (&rendered["text"], &rendered["ids"]),
            (&case["text"], &case["ids"])
        );
    }
    let goldens = goldens();
    let plain = goldens["greedy"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|case| !case["prompt"].as_str().unwrap().contains("<|"));
    for case in plain {
        let tokens = onebit(&[
            "tokenize",
            &model,
            "--json",
            case["prompt"].as_str().unwrap(),
        ])
        .json();
        assert_eq!(tokens["ids"], case["prompt_ids"]);
    }
}

#[test]
fn it_and_its_twin_are_what_their_checkpoints_convert_to() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model.onebit");
    for (checkpoint, packed) in [
        ("demo/checkpoint", "demo/demo.onebit"),
        ("demo/b1/checkpoint", "demo/b1/b1.onebit"),
    ] {
        let source = fixture_arg(checkpoint);
        onebit(&["convert", &source, "-o", out.to_str().unwrap(), "--force"]).ok();
        assert!(
            fs::read(&out).unwrap() == fs::read(fixture(packed)).unwrap(),
            "run `cargo xtask convert fixtures/{checkpoint} -o fixtures/{packed} --force`"
        );
    }
}

#[test]
fn the_binary_twin_is_computed_in_binary_and_writes_sentences() {
    let model = fixture_arg("demo/b1/b1.onebit");
    let told = onebit(&[
        "run",
        &model,
        "-p",
        "Once upon a time",
        "-n",
        "48",
        "--temp",
        "0",
        "--json",
    ])
    .json();
    let text = told["text"].as_str().unwrap();
    assert!(text.contains(". ") && text.len() > 100, "{text}");
    let info = onebit(&["info", &model]).ok();
    assert!(info.contains("sign"), "{info}");
    for mode in ["f32", "int8"] {
        onebit(&["run", &model, "-p", "a", "--activations", mode]).refused(2, &["activations"]);
    }
}

#[test]
fn the_prompt_may_come_from_a_file_or_from_stdin() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompt.txt");
    fs::write(&file, "Once upon a time\n").unwrap();
    let more = ["-n", "12", "--temp", "0"];
    let expected = onebit(&[&["run", "-p", "Once upon a time"], &more[..]].concat()).ok();
    assert_eq!(
        onebit(&[&["run", "-f", file.to_str().unwrap()], &more[..]].concat()).ok(),
        expected
    );
    assert_eq!(
        onebit_with_input(&[&["run"], &more[..]].concat(), "Once upon a time\n").ok(),
        expected
    );
    let echoed = onebit(&[&["run", "--echo", "-p", "Once upon a time"], &more[..]].concat()).ok();
    assert_eq!(echoed, format!("Once upon a time{expected}"));
    onebit(&["run", "-f", "/no/such/file"]).refused(2, &["/no/such/file"]);
    fs::write(&file, [0xff, 0xfe]).unwrap();
    onebit(&["run", "-f", file.to_str().unwrap()]).refused(2, &["UTF-8"]);
}

#[test]
fn streamed_text_is_the_text() {
    let args = ["run", "-p", "One day", "-n", "40", "--seed", "5"];
    let text = onebit(&args).ok();
    let whole = onebit(&[&args[..], &["--json"]].concat()).json();
    assert_eq!(whole["text"], text.as_str());
    let lines = onebit(&[&args[..], &["--json-lines"]].concat()).ok();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (last, pieces) = lines.split_last().unwrap();
    assert_eq!(last["ids"], whole["ids"]);
    let streamed: String = pieces
        .iter()
        .map(|piece| piece["text"].as_str().unwrap())
        .collect();
    assert_eq!(streamed, text);
    let ids: Vec<&Value> = pieces
        .iter()
        .map(|piece| &piece["id"])
        .filter(|id| !id.is_null())
        .collect();
    assert_eq!(
        ids,
        whole["ids"].as_array().unwrap().iter().collect::<Vec<_>>()
    );
}

#[test]
fn stop_texts_end_the_text_and_are_cut_off() {
    let base = [
        "run",
        "-p",
        "Once upon a time",
        "-n",
        "60",
        "--temp",
        "0",
        "--json",
    ];
    let full = onebit(&base).json()["text"].as_str().unwrap().to_owned();
    let at = full.find(". ").expect("two sentences");
    let stopped = onebit(&[&base[..], &["-r", "nowhere", "-r", ". "]].concat()).json();
    assert_eq!(stopped["text"], full[..at]);
    assert_eq!(stopped["stop"], "stop");
    onebit(&["run", "-p", "a", "--stop", ""]).refused(2, &["stop"]);
}

#[test]
fn a_prompt_longer_than_its_context_is_refused_with_both_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompt.txt");
    fs::write(&file, "word ".repeat(200_000)).unwrap();
    onebit(&["run", "-f", file.to_str().unwrap()]).refused(2, &["tokens", "512"]);
}

#[test]
fn its_text_can_be_scored() {
    let story = onebit(&[
        "score",
        "--text",
        "Once upon a time, there was a little girl.",
        "--json",
    ])
    .json();
    let noise = onebit(&[
        "score",
        "--text",
        "Zebra quantum of of tax the the.",
        "--json",
    ])
    .json();
    assert!(story["perplexity"].as_f64().unwrap() < noise["perplexity"].as_f64().unwrap());
}

#[test]
fn it_is_described() {
    let text = onebit(&["info", "--check"]).ok();
    assert!(text.contains("the demo model: BitNetForCausalLM"), "{text}");
    let tokens = onebit(&[
        "tokenize",
        &fixture_arg("demo/demo.onebit"),
        "--json",
        "Once upon a time",
    ])
    .json();
    assert_eq!(tokens["ids"], goldens()["greedy"][0]["prompt_ids"]);
}
