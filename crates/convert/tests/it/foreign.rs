//! Networks that are not computed: each is refused as unsupported, naming what in the config or the tensors says so.

use crate::common::*;
use onebit_convert::{ErrorKind, Options};
use safetensors::Dtype;
use serde_json::{Value, json};

/// The error of a dense Llama with a changed config or a further tensor.
fn refused(change: impl FnOnce(&mut Model)) -> (ErrorKind, String) {
    let mut model = dense_llama(Dtype::BF16);
    change(&mut model);
    let place = Place::new();
    model.write(&place.source());
    let error = place.convert(&Options::default()).unwrap_err();
    assert_eq!(place.left_over(), [""; 0], "{error}");
    (error.kind(), error.to_string())
}

#[track_caller]
fn unsupported((kind, message): (ErrorKind, String), words: &[&str]) {
    assert_eq!(kind, ErrorKind::Unsupported, "{message}");
    for word in words {
        assert!(message.contains(word), "`{word}` is not in: {message}");
    }
}

#[test]
fn fields_of_other_networks_are_named() {
    let fields: &[(&str, Value, &str)] = &[
        ("num_experts", json!(4), "experts"),
        ("n_routed_experts", json!(4), "experts"),
        ("moe_topk_method", json!("greedy"), "experts"),
        ("audio_config", json!({"a": 1}), "modalities"),
        ("text_config", json!({}), "modalities"),
        ("mamba_d_state", json!(16), "state spaces"),
        ("full_attention_interval", json!(4), "state spaces"),
        ("layers_block_type", json!(["mamba"]), "state spaces"),
        ("is_encoder_decoder", json!(true), "encoders"),
        ("is_causal", json!(false), "encoders"),
        ("logit_scale", json!(0.5), "scaled"),
        ("scale_emb", json!(12), "scaled"),
        ("dim_model_base", json!(256), "scaled"),
        ("mup_attn_multiplier", json!(2.0), "scaled"),
        ("attention_multiplier", json!(0.1), "scaled"),
        ("attn_logit_softcapping", json!(50.0), "capped"),
        ("final_logit_softcapping", json!(30.0), "capped"),
        ("clip_qkv", json!(8.0), "capped"),
        ("kv_lora_rank", json!(512), "latent"),
        ("sparse_config", json!({"kernel_size": 32}), "sparse"),
        ("attention_chunk_size", json!(8192), "sparse"),
        ("rope_interleaved", json!(true), "rotary"),
        ("rotary_pct", json!(0.25), "rotary"),
        ("no_rope_layers", json!([1, 0]), "rotary"),
        ("no_rope_layer_interval", json!(4), "rotary"),
        ("position_embedding_type", json!("alibi"), "rotary"),
        ("partial_rotary_factor", json!(0.5), "whole head"),
        ("use_qk_norm", json!(true), "norms of queries"),
        ("use_parallel_residual", json!(true), "one after the other"),
        (
            "layer_types",
            json!(["full_attention", "linear_attention"]),
            "linear_attention",
        ),
        (
            "layer_types",
            json!(["full_attention", "sliding_attention"]),
            "layer 1",
        ),
        ("sliding_window", json!(8), "everything"),
        ("hidden_act", json!("gelu_pytorch_tanh"), "relu2"),
        (
            "rope_scaling",
            json!({"rope_type": "longrope", "factor": 4.0}),
            "yarn",
        ),
        (
            "rope_scaling",
            json!({"type": "yarn", "factor": 4.0, "mrope_section": [1, 2]}),
            "mrope_section",
        ),
        (
            "rope_parameters",
            json!({"full_attention": {"rope_type": "default"}}),
            "full_attention",
        ),
    ];
    for (key, value, word) in fields {
        let found = refused(|m| m.config[*key] = value.clone());
        unsupported(found, &[&format!("config.json: {key}"), word]);
    }
}

#[test]
fn neutral_values_change_nothing() {
    let mut model = dense_llama(Dtype::BF16);
    let fields = [
        ("num_local_experts", json!(0)),
        ("vision_config", json!(null)),
        ("logit_scale", json!(1.0)),
        ("scale_emb", json!(1)),
        ("rope_interleaved", json!(false)),
        ("no_rope_layers", json!([1, 1])),
        ("attn_logit_softcapping", json!(null)),
        ("is_causal", json!(true)),
        ("partial_rotary_factor", json!(1.0)),
        ("use_qk_norm", json!(false)),
        ("sliding_window", json!(64)),
        ("layer_types", json!(["full_attention", "full_attention"])),
        ("rope_scaling", json!({})),
        ("hadamard", json!(false)),
        ("position_embedding_type", json!("rope")),
    ];
    for (key, value) in fields {
        model.config[key] = value;
    }
    converted(&model, &Options::default());
}

#[test]
fn biases_that_a_family_does_not_have_are_named() {
    for (architecture, model_type, key) in [
        ("MistralForCausalLM", "mistral", "attention_bias"),
        ("BitNetForCausalLM", "bitnet", "mlp_bias"),
        ("Qwen3ForCausalLM", "qwen3", "mlp_bias"),
    ] {
        let found = refused(|m| {
            m.config["architectures"] = json!([architecture]);
            m.config["model_type"] = model_type.into();
            m.config[key] = true.into();
        });
        unsupported(found, &[key]);
    }
}

#[test]
fn rotations_are_found_at_any_depth() {
    for (key, value, path) in [
        (
            "prism",
            json!({"hadamard": {"block": 128}}),
            "prism.hadamard",
        ),
        (
            "prism",
            json!([{"x": {"online_hadamard": "down"}}]),
            "prism.x.online_hadamard",
        ),
        (
            "quantization_config",
            json!({"quant_method": "bitnet", "Hadamard_dim": 128}),
            "quantization_config.Hadamard_dim",
        ),
        ("spinquant", json!(true), "spinquant"),
    ] {
        unsupported(refused(|m| m.config[key] = value), &[path, "rotated"]);
    }
}

#[test]
fn other_architectures_are_refused_with_the_reason() {
    for (architecture, model_type, reason) in [
        ("MixtralForCausalLM", "mixtral", "experts"),
        ("Qwen3MoeForCausalLM", "qwen3_moe", "experts"),
        ("MambaForCausalLM", "mamba", "state spaces"),
        ("Qwen3NextForCausalLM", "qwen3_next", "state spaces"),
        (
            "Qwen2_5_VLForConditionalGeneration",
            "qwen2_5_vl",
            "modalities",
        ),
        ("LlavaForConditionalGeneration", "llava", "modalities"),
        ("T5ForConditionalGeneration", "t5", "encoder"),
        ("BertForMaskedLM", "bert", "encoders"),
        ("MiniCPMForCausalLM", "minicpm", "quantizes weights"),
        ("LlamaForSequenceClassification", "llama", "ForCausalLM"),
        ("CohereForCausalLM", "cohere", "known: LlamaForCausalLM"),
    ] {
        let set = |m: &mut Model| {
            m.config["architectures"] = json!([architecture]);
            m.config["model_type"] = model_type.into();
        };
        unsupported(refused(set), &[architecture, reason]);
    }
    let no_architecture = |m: &mut Model| {
        m.config["architectures"] = json!(null);
        m.config["model_type"] = "qwen3_moe".into();
    };
    unsupported(
        refused(no_architecture),
        &["model_type", "qwen3_moe", "experts"],
    );
}

#[test]
fn tensors_of_other_networks_are_named_before_others_are_missed() {
    for (name, reason) in [
        ("model.layers.0.block_sparse_moe.gate.weight", "experts"),
        ("model.layers.0.mlp.experts.3.up_proj.weight", "experts"),
        ("model.visual.patch_embed.weight", "modalities"),
        ("vision_tower.conv.weight", "modalities"),
        ("model.layers.1.mamba.A_log", "state spaces"),
        ("model.layers.1.linear_attn.conv1d.weight", "state spaces"),
        ("model.layers.1.mlp.hadamard.weight", "rotated"),
        ("encoder.layer.0.output.dense.weight", "encoders"),
        ("model.layers.0.self_attn.q_proj.lora_A.weight", "adapters"),
        ("model.layers.0.self_attn.q_proj.qweight", "other methods"),
    ] {
        let found = refused(|m| {
            m.tensors.remove(UP);
            m.insert(name, Dtype::F32, &[1], &[0.0]);
        });
        unsupported(found, &[name, reason]);
    }
}

#[test]
fn lies_about_the_rotary_embedding_are_malformed() {
    for (value, word) in [
        (json!({"rope_type": "linear"}), "factor"),
        (json!({"rope_type": "linear", "factor": 0}), "factor"),
        (json!({"rope_type": "dynamic", "factor": -2.0}), "factor"),
        (json!({"rope_type": "linear", "factor": 1e300}), "factor"),
        (json!({"rope_type": "linear", "factor": "4"}), "factor"),
        (
            json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}),
            "high_freq_factor",
        ),
        (
            json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0}),
            "high_freq_factor",
        ),
        (
            json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 0}),
            "original_max_position_embeddings",
        ),
        (
            json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1.5}),
            "original_max_position_embeddings",
        ),
        (
            json!({"rope_type": "yarn", "factor": 4.0, "beta_fast": 1, "beta_slow": 32}),
            "beta_fast",
        ),
        (
            json!({"rope_type": "yarn", "factor": 4.0, "attention_factor": -1.0}),
            "attention_factor",
        ),
        (json!({"rope_type": "yarn"}), "factor"),
        (
            json!({"rope_type": "yarn", "factor": 4.0, "truncate": 1}),
            "truncate",
        ),
        (json!({"rope_type": 3}), "rope_type"),
        (json!({"rope_type": null, "factor": 2.0}), "rope_type"),
    ] {
        let (kind, message) = refused(|m| m.config["rope_scaling"] = value.clone());
        assert_eq!(kind, ErrorKind::Malformed, "{value}: {message}");
        assert!(message.contains(word), "{value}: {message}");
    }
}

/// However many layers a config claims, it is refused at once.
#[test]
fn absurd_numbers_of_layers_take_no_time() {
    for (architecture, model_type) in [
        ("LlamaForCausalLM", "llama"),
        ("Qwen3ForCausalLM", "qwen3"),
        ("MistralForCausalLM", "mistral"),
    ] {
        for (layers, first) in [(u64::MAX, 0), (1 << 60, 0), (1 << 60, 1u64 << 59)] {
            let (kind, message) = refused(|m| {
                m.config["architectures"] = json!([architecture]);
                m.config["model_type"] = model_type.into();
                m.config["num_hidden_layers"] = layers.into();
                m.config["max_window_layers"] = first.into();
                m.config["use_sliding_window"] = true.into();
                m.config["sliding_window"] = 64.into();
            });
            assert_eq!(kind, ErrorKind::Malformed, "{message}");
            assert!(message.contains("num_hidden_layers"), "{message}");
        }
    }
}
