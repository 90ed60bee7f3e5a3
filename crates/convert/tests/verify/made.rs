//! Networks that no checkpoint among the fixtures has, made on the fly, and what is missing when they lose it.

use super::{Options, Place, measure};
use crate::common::*;
use crate::mutate::Parts;
use onebit_model::RopeScaling;
use safetensors::Dtype;
use serde_json::{Value, json};

/// Tokens looked at: more than a window, and than the context that scalings start from.
const TOKENS: usize = 48;

/// Expects a model to be within its limits, and to be beyond them when the packed file is changed.
#[track_caller]
fn needs(what: &str, model: &Model, lose: impl Fn(&mut Parts)) {
    let (source, place) = (tempfile::tempdir().unwrap(), Place::new());
    model.write(source.path());
    let packed = place.pack(source.path(), &Options::default()).unwrap();
    let (found, failure) = measure(source.path(), &packed, TOKENS);
    assert_eq!(failure, None, "{what}: {found}");
    let mut parts = Parts::read(&packed);
    lose(&mut parts);
    parts.write(&packed);
    let (found, failure) = measure(source.path(), &packed, TOKENS);
    assert!(
        failure.is_some(),
        "{what}: the loss is not noticed: {found}"
    );
}

/// Weights that keep activations near one, so that logits are spread like those of a real model.
fn tamed(mut model: Model) -> Model {
    let tensors = model.tensors.iter_mut();
    for (name, tensor) in tensors.filter(|(_, tensor)| tensor.dtype != Dtype::U8) {
        let factor = match name {
            name if name.contains("norm") || name.contains("_ln") => 1.0,
            name if name.ends_with("weight_scale") => continue,
            _ => 0.3,
        };
        let values: Vec<f32> = tensor.values().iter().map(|value| value * factor).collect();
        *tensor = Tensor::floats(tensor.dtype, &tensor.shape, &values);
    }
    model
}

fn llama() -> Model {
    tamed(dense_llama(Dtype::F32))
}

fn with(mut model: Model, key: &str, value: Value) -> Model {
    model.config[key] = value;
    model
}

fn qwen3() -> Model {
    let mut model = llama();
    model.config["architectures"] = json!(["Qwen3ForCausalLM"]);
    model.config["model_type"] = "qwen3".into();
    model.config["head_dim"] = HEAD_DIM.into();
    for layer in 0..LAYERS {
        for (norm, seed) in [("self_attn.q_norm", 3), ("self_attn.k_norm", 4)] {
            let values = Numbers::new(seed).floats(HEAD_DIM);
            model.insert(&weight(layer, norm), Dtype::F32, &[HEAD_DIM], &values);
        }
    }
    model
}

#[test]
fn norms_of_query_and_key_heads() {
    needs("q_norm", &qwen3(), |parts| {
        parts.spec.qk_norm = false;
        parts
            .vectors
            .retain(|name, _| !name.ends_with("q_norm") && !name.ends_with("k_norm"));
    });
}

#[test]
fn windows() {
    let mut model = qwen3();
    model.config["use_sliding_window"] = true.into();
    model.config["sliding_window"] = 8.into();
    model.config["max_window_layers"] = 1.into();
    needs("a window from layer 1 on", &model, |parts| {
        parts.spec.windows = None
    });
    needs("a window from layer 1 on", &model, |parts| {
        parts.spec.windows.as_mut().unwrap().first_layer = 0
    });
    needs("a window from layer 1 on", &model, |parts| {
        parts.spec.windows.as_mut().unwrap().size = 9
    });
    let mut model = with(llama(), "sliding_window", 5.into());
    model.config["architectures"] = json!(["MistralForCausalLM"]);
    model.config["model_type"] = "mistral".into();
    needs("a window in all layers", &model, |parts| {
        parts.spec.windows = None
    });
}

/// Dynamic scaling is not among them: it changes nothing up to the model's own context, and no more is verified.
#[test]
fn scalings_of_the_rotary_embedding() {
    let scalings = [
        json!({"rope_type": "linear", "factor": 4.0}),
        json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32}),
        json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}),
        json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "truncate": false,
            "beta_fast": 4.0, "beta_slow": 0.5}),
    ];
    for scaling in scalings {
        let model = with(llama(), "rope_scaling", scaling.clone());
        needs(&scaling.to_string(), &model, |parts| {
            assert_ne!(parts.spec.rope.scaling, RopeScaling::None);
            parts.spec.rope.scaling = RopeScaling::None;
        });
    }
}

fn with_input_norms(mut model: Model) -> Model {
    model.config["quantization_config"]["use_rms_norm"] = true.into();
    model.config["quantization_config"]["rms_norm_eps"] = 1e-4.into();
    for layer in 0..LAYERS {
        for (i, (_, module, _, cols)) in LINEARS.into_iter().enumerate() {
            let name = format!("model.layers.{layer}.{module}.rms_norm.weight");
            let values = Numbers::new(20 + i as u64).floats(cols);
            model.insert(&name, Dtype::F32, &[cols], &values);
        }
    }
    model
}

/// Leaves the down projections of a model with input norms dense, and so without theirs.
fn with_dense_down(mut model: Model) -> Model {
    model.config["quantization_config"]["modules_to_not_convert"] = json!(["lm_head", "down_proj"]);
    for layer in 0..LAYERS {
        let module = format!("model.layers.{layer}.mlp.down_proj");
        let values = Numbers::new(40 + layer as u64).floats(HIDDEN * FFN);
        model.insert(
            &format!("{module}.weight"),
            Dtype::F32,
            &[HIDDEN, FFN],
            &values,
        );
        for part in ["weight_scale", "rms_norm.weight"] {
            model.tensors.remove(&format!("{module}.{part}"));
        }
    }
    model
}

#[test]
fn norms_before_each_linear() {
    let online = || {
        let quant = json!({"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"});
        with(llama(), "quantization_config", quant)
    };
    for model in [
        packed_llama(None),
        packed_llama(Some("autobitlinear")),
        online(),
    ]
    .map(with_input_norms)
    .into_iter()
    .flat_map(|model| [model.clone(), with_dense_down(model)])
    {
        needs("input norms", &tamed(model), |parts| {
            parts.spec.input_norm_eps = None;
            parts
                .vectors
                .retain(|name, _| !name.ends_with(".input_norm"));
        });
    }
}

#[test]
fn one_bit_llm() {
    let mut model = llama();
    model.config["architectures"] = json!(["BitnetForCausalLM"]);
    sub_norms(&mut model, "self_attn.inner_attn_ln", "mlp.ffn_layernorm");
    needs("1bitLLM", &model, |parts| {
        parts.spec.attn_sub_norm = false;
        parts
            .vectors
            .retain(|name, _| !name.ends_with(".attn_sub_norm"));
    });
}

#[test]
fn modules_left_dense() {
    let mut model = packed_llama(None);
    model.config["quantization_config"]["modules_to_not_convert"] =
        json!(["lm_head", "model.layers.0.mlp"]);
    for (i, (_, module, rows, cols)) in LINEARS.into_iter().enumerate().skip(4) {
        let values = Numbers::new(30 + i as u64).floats(rows * cols);
        model.insert(&weight(0, module), Dtype::BF16, &[rows, cols], &values);
        model
            .tensors
            .remove(&format!("model.layers.0.{module}.weight_scale"));
    }
    needs("a dense MLP", &tamed(model), |parts| {
        parts
            .linears(&["down"])
            .for_each(|matrix| (0..8).for_each(|row| matrix.negate_row(row)));
    });
}

#[test]
fn biases_of_queries_keys_and_values_only() {
    let mut model = llama();
    model.config["architectures"] = json!(["Qwen2ForCausalLM"]);
    model.config["model_type"] = "qwen2".into();
    for layer in 0..LAYERS {
        for (_, module, rows, _) in LINEARS.into_iter().take(3) {
            let name = format!("model.layers.{layer}.{module}.bias");
            model.insert(
                &name,
                Dtype::F32,
                &[rows],
                &Numbers::new(rows as u64).floats(rows),
            );
        }
    }
    needs("biases of q, k and v", &model, |parts| {
        for (name, bias) in &mut parts.vectors {
            if name.ends_with("v.bias") {
                bias.fill(0.0);
            }
        }
    });
}

#[test]
fn sharded_checkpoints() {
    let (source, place) = (tempfile::tempdir().unwrap(), Place::new());
    tamed(packed_llama(None)).write_sharded(source.path(), 3);
    let packed = place.pack(source.path(), &Options::default()).unwrap();
    assert_eq!(measure(source.path(), &packed, TOKENS).1, None);
}
