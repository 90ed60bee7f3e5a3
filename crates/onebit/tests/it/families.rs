//! Checkpoint folders through the whole program, against what transformers computed for them.

use crate::{fixture, ids_arg, onebit};
use onebit_kernels::Kernels;
use safetensors::SafeTensors;
use std::fs;
use std::path::Path;

/// One checkpoint of each family; the converter's own tests have all of them.
const CHECKPOINTS: [&str; 13] = [
    "1bitllm",
    "bitnet_packed",
    "bitnet_yarn_factor",
    "falcon3",
    "llama3_rope",
    "llama_autobitlinear_bias",
    "llama_bitlinear",
    "llama_dense_bf16",
    "llama_rms_norm",
    "llama_rope_dynamic",
    "llama_rope_dynamic_growing",
    "mistral_window",
    "qwen3_window",
];
/// Room for prompt and answer, also where the model was made for less.
const CONTEXT: &str = "128";

fn golden(checkpoint: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(checkpoint.join("golden.json")).unwrap()).unwrap()
}

/// The tensor `logits` of a file: shape and values.
pub(crate) fn logits(path: &Path) -> (Vec<usize>, Vec<f32>) {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = tensors.tensor("logits").unwrap();
    let values = tensor
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    (tensor.shape().to_vec(), values)
}

#[test]
fn logits_are_those_of_transformers() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("logits.safetensors");
    for checkpoint in CHECKPOINTS.map(|name| fixture("checkpoints").join(name)) {
        let ids = ids_arg(&golden(&checkpoint)["input_ids"]);
        let model = checkpoint.to_str().unwrap();
        onebit(&[
            "score",
            model,
            "--ids",
            &ids,
            "-c",
            CONTEXT,
            "--kv",
            "f32",
            "--logits",
            out.to_str().unwrap(),
        ])
        .ok();
        let (shape, found) = logits(&out);
        let (golden_shape, expected) = logits(&checkpoint.join("golden.safetensors"));
        assert_eq!(shape, golden_shape, "{model}");
        let error = found
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(error <= 2e-3, "{model}: {error}");
    }
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    for checkpoint in CHECKPOINTS.map(|name| fixture("checkpoints").join(name)) {
        let golden = golden(&checkpoint);
        let (model, ids) = (checkpoint.to_str().unwrap(), ids_arg(&golden["input_ids"]));
        for kernels in Kernels::available() {
            let args = [
                "run",
                model,
                "--ids",
                &ids,
                "-n",
                "32",
                "-c",
                CONTEXT,
                "--batch-size",
                "10",
                "--temp",
                "0",
                "--kv",
                "f32",
                "--ignore-eos",
                "--kernels",
                kernels.name(),
                "--json",
            ];
            let done = onebit(&args).json();
            assert_eq!(done["ids"], golden["greedy"], "{model} {}", kernels.name());
        }
    }
}
