//! `onebit score`.

use crate::{TINY, fixture_arg, onebit};

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
