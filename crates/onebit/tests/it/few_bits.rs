//! Pure 1-bit and ternary checkpoints through the whole program, and the choice of their activations.

use crate::families::{golden, logits};
use crate::{fixture, ids_arg, onebit};
use std::path::PathBuf;

/// Weights that were trained with float activations.
const FLOAT_TRAINED: [&str; 5] = [
    "qwen3_signs_binary",
    "qwen3_signs_ternary",
    "qwen3_mlx_1bit",
    "qwen3_mlx_2bit",
    "onebit_binary_float",
];

/// Checkpoints with a mode of their own.
const FIXED: [&str; 3] = [
    "onebit_binary_binary",
    "onebit_binary_binary_groups",
    "onebit_ternary_ternary_online",
];

fn checkpoint(name: &str) -> PathBuf {
    fixture("checkpoints").join(name)
}

/// Logits of a checkpoint's prompt.
fn score(name: &str, flags: &[&str]) -> (Vec<usize>, Vec<f32>) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("logits.safetensors");
    let model = checkpoint(name);
    let ids = ids_arg(&golden(&model)["input_ids"]);
    let mut args = vec![
        "score",
        model.to_str().unwrap(),
        "--ids",
        &ids,
        "--kv",
        "f32",
    ];
    args.extend(["--logits", out.to_str().unwrap()]);
    args.extend(flags);
    onebit(&args).ok();
    logits(&out)
}

/// Mean over the rows of the Kullback-Leibler divergence of the distributions of `found` from those of `exact`.
fn divergence(exact: &[f32], found: &[f32], vocab: usize) -> f64 {
    let log_probs = |row: &[f32]| -> Vec<f64> {
        let max = row.iter().fold(f32::MIN, |max, x| max.max(*x));
        let exps = row.iter().map(|x| f64::from(x - max).exp());
        let log_sum = exps.sum::<f64>().ln() + f64::from(max);
        row.iter().map(|x| f64::from(*x) - log_sum).collect()
    };
    let rows = exact.chunks(vocab).zip(found.chunks(vocab));
    let kl = rows.map(|(exact, found)| {
        let (p, q) = (log_probs(exact), log_probs(found));
        p.iter()
            .zip(&q)
            .map(|(p, q)| p.exp() * (p - q))
            .sum::<f64>()
    });
    kl.sum::<f64>() / (exact.len() / vocab) as f64
}

#[test]
fn floats_are_those_of_transformers_and_int8_is_close() {
    for name in FLOAT_TRAINED {
        let (shape, exact) = score(name, &["--activations", "f32"]);
        let (golden_shape, expected) = logits(&checkpoint(name).join("golden.safetensors"));
        assert_eq!(shape, golden_shape, "{name}");
        let errors = exact.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        let error = errors.fold(0.0, f32::max);
        assert!(error <= 2e-3, "{name}: {error}");

        let (_, auto) = score(name, &[]);
        let (_, int8) = score(name, &["--activations", "int8"]);
        assert!(auto == int8, "{name}: auto is int8");
        assert!(auto != exact, "{name}: int8 is not float");
        let kl = divergence(&exact, &int8, shape[1]);
        println!("{name}: KL of int8 from f32 {kl:.2e}");
        assert!(kl < 5e-3, "{name}: {kl}");
    }
}

#[test]
fn greedy_tokens_are_those_of_the_references() {
    let floats = FLOAT_TRAINED.map(|name| (name, "f32"));
    let fixed = FIXED.map(|name| (name, "auto"));
    for (name, activations) in floats.into_iter().chain(fixed) {
        let model = checkpoint(name);
        let golden = golden(&model);
        let ids = ids_arg(&golden["input_ids"]);
        let mut args = vec!["run", model.to_str().unwrap(), "--ids", &ids, "-n", "32"];
        args.extend(["--temp", "0", "--kv", "f32", "--ignore-eos", "--json"]);
        args.extend(["--activations", activations]);
        assert_eq!(onebit(&args).json()["ids"], golden["greedy"], "{name}");
    }
}

#[test]
fn activations_trained_with_few_bits_have_no_other_mode() {
    let model = checkpoint(FIXED[0]);
    let model = model.to_str().unwrap();
    for asked in ["f32", "int8"] {
        let args = ["run", model, "--ids", "1", "--activations", asked];
        onebit(&args).refused(2, &[asked, "binary or ternary activations"]);
    }
    let info = onebit(&["info", model, "--json"]).json();
    assert_eq!(info["activations"]["sign_token"], 14);
    assert_eq!(info["layouts"]["b1"]["tensors"], 14);
    let text = onebit(&["info", model]).ok();
    assert!(text.contains("sign_token (14)"), "{text}");
}
