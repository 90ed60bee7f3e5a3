//! Families and the variations of their configs.

use crate::common::*;
use onebit_convert::{ErrorKind, Options};
use onebit_format::{ActivationMode, Layout};
use onebit_model::{Activation, ModelSpec, RopeScaling, WindowSpec};
use safetensors::Dtype;
use serde_json::json;

fn refused(model: &Model, kind: ErrorKind, words: &[&str]) {
    let place = Place::new();
    model.write(&place.source());
    let error = place.convert(&Options::default()).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{error}");
    }
}

fn spec(model: &Model) -> ModelSpec {
    let (_place, _, file) = converted(model, &Options::default());
    serde_json::from_value(file.meta().model.clone()).unwrap()
}

#[test]
fn the_tensors_decide_whether_the_head_is_tied() {
    let with_head = dense_llama(Dtype::BF16);
    let mut missing = with_head.clone();
    missing.tensors.remove("lm_head.weight");
    let mut different = with_head.clone();
    different.config["tie_word_embeddings"] = true.into();
    let mut equal = different.clone();
    equal.insert(
        "lm_head.weight",
        Dtype::F32,
        &[VOCAB, HIDDEN],
        &with_head.tensors["model.embed_tokens.weight"].values(),
    );
    let mut head_only = different.clone();
    head_only.tensors.remove("model.embed_tokens.weight");
    for (model, tied, noted) in [
        (&with_head, false, false),
        (&missing, true, true),
        (&different, false, true),
        (&equal, true, false),
        (&head_only, true, false),
    ] {
        let (_place, report, file) = converted(model, &Options::default());
        assert_eq!(file.has("head"), !tied);
        let heads = report
            .notes
            .iter()
            .filter(|note| note.contains("lm_head"))
            .count();
        assert_eq!(heads, usize::from(noted), "{report}");
    }
}

#[test]
fn configs_become_specifications() {
    let bitnet = spec(&packed_bitnet());
    assert_eq!(
        (bitnet.rope.theta, bitnet.activation),
        (10_000.0, Activation::Relu2)
    );
    assert!(bitnet.attn_sub_norm && bitnet.ffn_sub_norm && bitnet.tied_head);

    let mut absent = packed_bitnet();
    for key in [
        "rope_theta",
        "hidden_act",
        "rms_norm_eps",
        "tie_word_embeddings",
    ] {
        absent.config.as_object_mut().unwrap().remove(key);
    }
    let absent = spec(&absent);
    assert_eq!(
        (absent.rope.theta, absent.activation, absent.norm_eps),
        (500_000.0, Activation::Relu2, 1e-5)
    );

    let mut llama = dense_llama(Dtype::F32);
    llama.config["rope_theta"] = 1_000_042.into();
    assert_eq!(spec(&llama).rope.theta, 1_000_042.0);
    llama.config["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 7});
    assert_eq!(spec(&llama).rope.theta, 7.0);
    llama.config["rope_scaling"] = json!({"rope_theta": 9});
    assert_eq!(spec(&llama).rope.theta, 9.0);

    let mut heads = dense_llama(Dtype::F32);
    heads
        .config
        .as_object_mut()
        .unwrap()
        .remove("num_key_value_heads");
    for layer in 0..LAYERS {
        for module in ["self_attn.k_proj", "self_attn.v_proj"] {
            heads.insert(
                &weight(layer, module),
                Dtype::F32,
                &[HIDDEN, HIDDEN],
                &[0.5; HIDDEN * HIDDEN],
            );
        }
    }
    assert_eq!(
        (spec(&heads).kv_heads, spec(&heads).head_dim),
        (HEADS, HEAD_DIM)
    );
}

#[test]
fn further_families_are_rows() {
    let mut qwen = dense_llama(Dtype::BF16);
    qwen.config["architectures"] = json!(["Qwen3ForCausalLM"]);
    qwen.config["model_type"] = "qwen3".into();
    qwen.config["head_dim"] = HEAD_DIM.into();
    qwen.config["use_sliding_window"] = true.into();
    qwen.config["sliding_window"] = 8.into();
    qwen.config["max_window_layers"] = 1.into();
    qwen.config["layer_types"] = json!(["full_attention", "sliding_attention"]);
    for layer in 0..LAYERS {
        for norm in ["self_attn.q_norm", "self_attn.k_norm"] {
            qwen.insert(
                &weight(layer, norm),
                Dtype::BF16,
                &[HEAD_DIM],
                &[1.0; HEAD_DIM],
            );
        }
    }
    let qwen_spec = spec(&qwen);
    assert!(qwen_spec.qk_norm);
    assert_eq!(
        qwen_spec.windows,
        Some(WindowSpec {
            size: 8,
            first_layer: 1
        })
    );
    qwen.config["use_sliding_window"] = false.into();
    qwen.config["layer_types"] = json!(["full_attention", "full_attention"]);
    assert_eq!(spec(&qwen).windows, None);
    qwen.config["layer_types"] = json!(["sliding_attention", "full_attention"]);
    refused(&qwen, ErrorKind::Malformed, &["layer_types"]);
    qwen.config["use_sliding_window"] = true.into();
    let qwen_spec = spec(&qwen);
    assert_eq!(
        qwen_spec.windows,
        Some(WindowSpec {
            size: 8,
            first_layer: 0
        })
    );
    assert_eq!(qwen_spec.full_attention_layers, [1]);

    let mut mistral = dense_llama(Dtype::BF16);
    mistral.config["architectures"] = json!(["MistralForCausalLM"]);
    mistral.config["model_type"] = "mistral".into();
    assert_eq!(
        spec(&mistral).windows,
        Some(WindowSpec {
            size: 4096,
            first_layer: 0
        })
    );
    mistral.config["sliding_window"] = json!(null);
    assert_eq!(spec(&mistral).windows, None);
    mistral.config["layer_types"] = json!(["full_attention", "sliding_attention"]);
    refused(&mistral, ErrorKind::Unsupported, &["layer_types"]);

    let mut one_bit_llm = dense_llama(Dtype::F16);
    one_bit_llm.config["architectures"] = json!(["BitnetForCausalLM"]);
    sub_norms(
        &mut one_bit_llm,
        "self_attn.inner_attn_ln",
        "mlp.ffn_layernorm",
    );
    let (_place, _, file) = converted(&one_bit_llm, &Options::default());
    assert_eq!(file.matrix("layers.1.down").unwrap().layout(), Layout::T2);
    assert_eq!(file.vector("layers.1.ffn_sub_norm").unwrap().len(), FFN);
    assert_eq!(file.matrix("head").unwrap().layout(), Layout::F16);
}

#[test]
fn norms_of_linears_and_biases_are_stored() {
    let mut model = packed_llama(None);
    model.config["quantization_config"]["use_rms_norm"] = true.into();
    model.config["quantization_config"]["rms_norm_eps"] = 1e-4.into();
    model.config["attention_bias"] = true.into();
    for layer in 0..LAYERS {
        for (_, module, rows, cols) in LINEARS {
            let values: Vec<f32> = (0..cols).map(|i| i as f32).collect();
            model.insert(
                &format!("model.layers.{layer}.{module}.rms_norm.weight"),
                Dtype::F32,
                &[cols],
                &values,
            );
            if module.starts_with("self_attn.") {
                model.insert(
                    &format!("model.layers.{layer}.{module}.bias"),
                    Dtype::BF16,
                    &[rows],
                    &vec![0.5; rows],
                );
            }
        }
    }
    let (_place, _, file) = converted(&model, &Options::default());
    assert_eq!(
        file.vector("layers.1.down.input_norm").unwrap()[FFN - 1],
        (FFN - 1) as f32
    );
    assert_eq!(file.vector("layers.1.o.bias").unwrap(), [0.5; HIDDEN]);
    assert!(!file.has("layers.1.down.bias"));
    let spec: ModelSpec = serde_json::from_value(file.meta().model.clone()).unwrap();
    assert_eq!(
        (spec.input_norm_eps, spec.attn_bias, spec.mlp_bias),
        (Some(1e-4), true, false)
    );
}

#[test]
fn modules_left_dense_stay_dense() {
    let mut model = packed_llama(None);
    model.config["quantization_config"]["modules_to_not_convert"] =
        json!(["lm_head", "model.layers.0.mlp"]);
    for (_, module, rows, cols) in LINEARS
        .into_iter()
        .filter(|linear| linear.1.starts_with("mlp."))
    {
        model.insert(
            &weight(0, module),
            Dtype::BF16,
            &[rows, cols],
            &vec![0.25; rows * cols],
        );
        model
            .tensors
            .remove(&format!("model.layers.0.{module}.weight_scale"));
    }
    let (_place, _, file) = converted(&model, &Options::default());
    assert_eq!(file.matrix("layers.0.up").unwrap().layout(), Layout::BF16);
    assert_eq!(file.activation("layers.0.up").unwrap(), ActivationMode::F32);
    assert_eq!(file.matrix("layers.0.q").unwrap().layout(), Layout::T2);
    assert_eq!(file.matrix("layers.1.up").unwrap().layout(), Layout::T2);

    // Norms belong to the linears that are replaced.
    model.config["quantization_config"]["use_rms_norm"] = true.into();
    let norm = |layer, module| format!("model.layers.{layer}.{module}.rms_norm.weight");
    for layer in 0..LAYERS {
        for (_, module, _, cols) in LINEARS {
            if layer > 0 || !module.starts_with("mlp.") {
                model.insert(&norm(layer, module), Dtype::F32, &[cols], &vec![1.5; cols]);
            }
        }
    }
    let (_place, _, file) = converted(&model, &Options::default());
    assert!(file.has("layers.0.q.input_norm") && file.has("layers.1.up.input_norm"));
    assert!(!file.has("layers.0.up.input_norm"));
    model.insert(
        &norm(0, "mlp.up_proj"),
        Dtype::F32,
        &[HIDDEN],
        &[1.5; HIDDEN],
    );
    refused(
        &model,
        ErrorKind::Malformed,
        &["up_proj.rms_norm.weight", "dense"],
    );
}

#[test]
fn scalings_of_the_rotary_embedding_are_read_as_transformers_reads_them() {
    let scaling = |key: &str, value: serde_json::Value| {
        let mut llama = dense_llama(Dtype::F32);
        llama.config[key] = value;
        spec(&llama).rope.scaling
    };
    let linear = json!({"type": "linear", "factor": 4});
    let expected = RopeScaling::Linear { factor: 4.0 };
    assert_eq!(scaling("rope_scaling", linear), expected);
    let dynamic = json!({"rope_type": "dynamic", "factor": 2.0});
    let expected = RopeScaling::Dynamic {
        factor: 2.0,
        original_max_positions: 64,
    };
    assert_eq!(scaling("rope_parameters", dynamic), expected);
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0});
    let expected = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_positions: 64,
    };
    assert_eq!(scaling("rope_scaling", llama3), expected);

    let yarn = |more: serde_json::Value| {
        let mut yarn = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "finetuned": true});
        let more = more.as_object().unwrap().clone();
        yarn.as_object_mut().unwrap().extend(more);
        match scaling("rope_scaling", yarn) {
            RopeScaling::Yarn {
                factor,
                original_max_positions: 32,
                beta_fast,
                beta_slow,
                truncate,
                attention_factor,
            } => (
                factor,
                beta_fast,
                beta_slow,
                truncate,
                attention_factor as f32,
            ),
            other => panic!("{other:?}"),
        }
    };
    let magnitude = |factor: f64, scale: f64| (0.1 * scale * factor.ln() + 1.0) as f32;
    let usual = (4.0, 32.0, 1.0, true, magnitude(4.0, 1.0));
    assert_eq!(yarn(json!({})), usual);
    assert_eq!(yarn(json!({"beta_fast": 0, "mscale": 2.0})), usual);
    assert_eq!(
        yarn(json!({"factor": null})),
        (2.0, 32.0, 1.0, true, magnitude(2.0, 1.0))
    );
    assert_eq!(
        yarn(
            json!({"beta_fast": 8, "beta_slow": 2, "truncate": false, "mscale": 2.0, "mscale_all_dim": 0.5})
        ),
        (
            4.0,
            8.0,
            2.0,
            false,
            magnitude(4.0, 2.0) / magnitude(4.0, 0.5)
        )
    );
    assert_eq!(yarn(json!({"attention_factor": 1.5, "mscale": 2.0})).4, 1.5);
    assert_eq!(yarn(json!({"factor": 0.5})).4, 1.0);
}

#[test]
fn dynamic_scaling_makes_room_for_longer_sequences() {
    let mut llama = dense_llama(Dtype::F32);
    llama.config["rope_scaling"] = json!({"type": "dynamic", "factor": 2.5});
    assert_eq!(spec(&llama).max_positions, 160);
}

#[test]
fn dense_revisions_of_packed_checkpoints_are_dense() {
    let mut model = dense_llama(Dtype::BF16);
    model.config["quantization_config"] = json!({"quant_method": "bitnet"});
    let (_place, report, file) = converted(&model, &Options::default());
    assert_eq!(file.matrix("layers.0.q").unwrap().layout(), Layout::BF16);
    assert!(report.notes.iter().any(|note| note.contains("dense")));
    // One packed weight, and it is a packed checkpoint with something wrong.
    let packed = packed_llama(None);
    model.tensors.insert(UP.into(), packed.tensors[UP].clone());
    refused(&model, ErrorKind::Malformed, &["bitlinear"]);
}
