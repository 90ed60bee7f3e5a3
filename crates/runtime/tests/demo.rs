//! The demo model on every kernel set: the tokens of its goldens, and the same logits to the bit.

mod common;

use std::path::PathBuf;
use std::sync::Arc;

use onebit_kernels::Kernels;
use onebit_model::Model;
use onebit_runtime::sampling::greedy;

use crate::common::{engine, session};

/// Further on, two tokens may be as good as equally likely, and the last bit of a float decides
/// between this engine and the goldens.
const TOKENS: usize = 32;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/demo")
        .join(name)
}

/// A prompt and the tokens that follow it.
struct Case {
    prompt: Vec<u32>,
    expected: Vec<u32>,
}

fn cases() -> Vec<Case> {
    let text = std::fs::read(fixture("goldens.json")).unwrap();
    let goldens: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let ids = |value: &serde_json::Value| -> Vec<u32> {
        serde_json::from_value(value.clone()).expect("a list of tokens")
    };
    let cases = goldens["greedy"].as_array().unwrap().iter();
    cases
        .map(|case| Case {
            prompt: ids(&case["prompt_ids"]),
            expected: ids(&case["new_ids"])[..TOKENS].to_vec(),
        })
        .collect()
}

/// The likeliest tokens after a prompt, and the bits of all logits on the way.
fn generate(model: &Arc<Model>, kernels: &'static Kernels, prompt: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let mut session = session(&engine(model, kernels, 2), prompt.len() + TOKENS, 8);
    let (mut ids, mut bits) = (vec![], vec![]);
    let mut logits = session.prefill(prompt).unwrap().logits;
    loop {
        bits.extend(logits.iter().map(|x| x.to_bits()));
        let id = greedy(logits);
        ids.push(id);
        if ids.len() == TOKENS {
            return (ids, bits);
        }
        logits = session.step(id).unwrap().logits;
    }
}

#[test]
fn golden_tokens_on_every_kernel_set() {
    let model = Arc::new(Model::open(fixture("demo.onebit")).unwrap());
    let required = std::env::var("ONEBIT_REQUIRE_KERNELS").unwrap_or_default();
    for name in required.split(',').filter(|name| !name.is_empty()) {
        Kernels::by_name(name).unwrap_or_else(|error| panic!("required: {error}"));
    }
    for case in cases() {
        let (_, scalar) = generate(&model, Kernels::by_name("scalar").unwrap(), &case.prompt);
        for kernels in Kernels::available() {
            let (ids, bits) = generate(&model, kernels, &case.prompt);
            assert_eq!(ids, case.expected, "{}", kernels.name());
            assert!(bits == scalar, "other logits on {}", kernels.name());
        }
    }
}
