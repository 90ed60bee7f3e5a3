//! `onebit chat` and the chat form of the other commands, with the model built into the program.

use crate::{fixture_arg, onebit, onebit_with_input};
use serde_json::{Value, json};
use std::fs;

const SHORT: [&str; 5] = ["chat", "-n", "16", "--temp", "0"];

#[test]
fn only_the_answers_are_on_stdout() {
    let done = onebit_with_input(
        &SHORT,
        "Tell me a story about a dog.\n/help\n/stats\n\n/exit\nnot read\n",
    );
    assert!(
        done.err.contains("/save FILE") && done.err.contains("positions used"),
        "{}",
        done.err
    );
    for part in [
        "16 tokens generated",
        "kv cache f16: ",
        "in use",
        "planned",
        "tok/s",
    ] {
        assert!(done.err.contains(part), "`{part}` is not in {}", done.err);
    }
    let expected = onebit(&[
        "run",
        "--chat",
        "-p",
        "Tell me a story about a dog.",
        "-n",
        "16",
        "--temp",
        "0",
    ])
    .ok();
    assert_eq!(done.ok(), format!("{expected}\n"));
}

#[test]
fn the_history_counts_until_it_is_reset() {
    let answers = |input: &str| {
        let out = onebit_with_input(&[&SHORT[..], &["--json"]].concat(), input).ok();
        out.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect::<Vec<Value>>()
    };
    let talk = answers("Tell me a story about a cat.\nAnd a dog?\n/reset\nAnd a dog?\n");
    assert_eq!(talk.len(), 3);
    assert_eq!(talk[2]["ids"], answers("And a dog?\n")[0]["ids"]);
    let keys: Vec<&String> = talk[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["ids", "prefilled", "stop", "text", "timings"]);
}

#[test]
fn a_conversation_can_be_saved_and_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("talk.json");
    let path = file.to_str().unwrap();
    let system = [&SHORT[..], &["--system", "You tell stories."]].concat();
    onebit_with_input(
        &system,
        &format!("Tell me a story about a cat.\n/save {path}\n"),
    )
    .ok();
    let saved: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(
        saved[0],
        json!({"role": "system", "content": "You tell stories."})
    );
    assert_eq!(
        saved[1],
        json!({"role": "user", "content": "Tell me a story about a cat."})
    );
    assert_eq!(saved[2]["role"], "assistant");
    assert_eq!(saved.as_array().unwrap().len(), 3);

    let went_on = onebit_with_input(&SHORT, &format!("/load {path}\nAnd then?\n")).ok();
    let all = onebit_with_input(&system, "Tell me a story about a cat.\nAnd then?\n").ok();
    assert_eq!(all.lines().last(), went_on.lines().last());
}

fn answers(flags: &[&str], input: &str) -> (Vec<Value>, String) {
    let done = onebit_with_input(&[&SHORT[..], &["--json"], flags].concat(), input);
    let err = done.err.clone();
    let out = done.ok();
    let lines = out.lines();
    let parsed = lines.map(|line| serde_json::from_str(line).unwrap());
    (parsed.collect(), err)
}

const TURNS: [&str; 3] = ["Tell me a story about a cat.", "And a dog?", "And then?"];

#[test]
fn a_turn_computes_its_own_tokens_only() {
    for flags in [
        &[][..],
        &["--window", "64"],
        &["--kv", "q4", "--window", "48"],
    ] {
        let (talk, _) = answers(flags, &(TURNS.join("\n") + "\n"));
        let prefilled: Vec<u64> = talk
            .iter()
            .map(|answer| answer["prefilled"].as_u64().unwrap())
            .collect();
        // The question with its marks, the end of the answer before and its last token.
        assert_eq!(prefilled.len(), 3);
        assert!(
            prefilled.iter().all(|n| *n < 24),
            "{flags:?}: {prefilled:?}"
        );
    }
}

#[test]
fn a_loaded_conversation_is_not_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("talk.json");
    let path = path.to_str().unwrap();
    let [first, second, third] = TURNS;
    for flags in [&[][..], &["--kv", "q2", "--window", "48"]] {
        let (whole, _) = answers(
            flags,
            &format!("{first}\n{second}\n/save {path}\n{third}\n"),
        );
        let (went_on, err) = answers(flags, &format!("/load {path}\n{third}\n"));
        assert_eq!(went_on[0]["ids"], whole[2]["ids"]);
        assert!(
            went_on[0]["prefilled"].as_u64().unwrap() < 24 && !err.contains("again"),
            "{err}"
        );
    }
    let again = |flags: &[&str], why: &str| {
        let (answer, err) = answers(flags, &format!("/load {path}\n{third}\n"));
        assert!(err.contains("computed again") && err.contains(why), "{err}");
        assert!(answer[0]["prefilled"].as_u64().unwrap() > 48);
    };
    let same = ["--kv", "q2", "--window", "48"];
    again(&["--kv", "f16"], "--kv-k");
    let state = format!("{path}.kv");
    let mut messages: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    messages[0]["content"] = "Tell me a story about a bird.".into();
    let edited = fs::read(path).unwrap();
    fs::write(path, messages.to_string()).unwrap();
    again(&same, "another conversation");
    fs::write(path, edited).unwrap();
    let bytes = fs::read(&state).unwrap();
    fs::write(&state, &bytes[..bytes.len() / 2]).unwrap();
    again(&same, "bytes");
    fs::remove_file(&state).unwrap();
    again(&same, "cannot read");
}

#[test]
fn what_cannot_be_done_is_said_and_the_talk_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.json");
    fs::write(&broken, r#"[{"content": "nobody"}]"#).unwrap();
    let long = "word ".repeat(600);
    let input = format!(
        "/fly\n/save\n/load /no/such/file\n/load {}\n/save /no/such/folder/x\n{long}\nHello.\n",
        broken.display()
    );
    let done = onebit_with_input(&SHORT, &input);
    for part in [
        "/fly is unknown",
        "/save needs",
        "/no/such/file",
        "role",
        "/no/such/folder/x",
        "512",
        "/reset",
    ] {
        assert!(done.err.contains(part), "`{part}` is not in: {}", done.err);
    }
    assert_eq!(done.ok(), onebit_with_input(&SHORT, "Hello.\n").ok());
}

#[test]
fn a_message_file_is_rendered_as_the_model_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("messages.json");
    fs::write(
        &file,
        r#"[{"role": "user", "content": "Tell me a story about a dog."}]"#,
    )
    .unwrap();
    let (model, path) = (fixture_arg("demo/demo.onebit"), file.to_str().unwrap());
    let rendered = onebit(&["tokenize", &model, "--chat", path]).json();
    let run = onebit(&[
        "run",
        "--chat",
        "-p",
        "Tell me a story about a dog.",
        "-n",
        "1",
        "--json",
    ])
    .json();
    assert_eq!(rendered["ids"], run["prompt_ids"]);
    assert!(
        rendered["text"]
            .as_str()
            .unwrap()
            .contains("Tell me a story about a dog.")
    );
    let closed = onebit(&[
        "tokenize",
        &model,
        "--chat",
        path,
        "--no-generation-prompt",
        "--json",
    ])
    .json();
    assert!(closed["ids"].as_array().unwrap().len() < rendered["ids"].as_array().unwrap().len());
}
