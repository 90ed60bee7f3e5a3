//! Configs of published checkpoints, with all their fields that could matter.

use onebit_model::{Activation, RopeScaling};
use serde_json::{Value, json};

use super::*;
use crate::config::quant::{BitNetQuant, Quant};
use crate::family;

fn bitnet(quant: &Option<Quant>) -> Option<&BitNetQuant> {
    match quant {
        Some(Quant::BitNet(quant)) => Some(quant),
        _ => None,
    }
}

fn parsed(config: &Value) -> Config {
    let fields = Fields::new(config.as_object().unwrap(), "config.json: ");
    parse(fields, family::find(fields).unwrap()).unwrap()
}

#[test]
fn bitnet_2b_4t() {
    let config = parsed(&json!({
        "architectures": ["BitNetForCausalLM"], "model_type": "bitnet",
        "auto_map": {"AutoConfig": "configuration_bitnet.BitNetConfig"},
        "bos_token_id": 128000, "eos_token_id": 128001, "hidden_act": "relu2", "hidden_size": 2560,
        "initializer_range": 0.02, "intermediate_size": 6912, "max_position_embeddings": 4096,
        "num_attention_heads": 20, "num_hidden_layers": 30, "num_key_value_heads": 5,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": true,
        "torch_dtype": "bfloat16", "use_cache": true, "vocab_size": 128256,
        "quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear",
            "quantization_mode": "offline", "modules_to_not_convert": null},
    }));
    let spec = config.spec;
    assert_eq!(
        (spec.head_dim, spec.ffn, spec.rope.theta),
        (128, 6912, 500_000.0)
    );
    assert!(spec.attn_sub_norm && spec.ffn_sub_norm && spec.tied_head);
    assert_eq!(spec.activation, Activation::Relu2);
    assert!(bitnet(&config.quant).is_some_and(|quant| !quant.online));
}

#[test]
fn one_bit_llm_3b() {
    let config = parsed(&json!({
        "architectures": ["BitnetForCausalLM"], "model_type": "llama", "attention_bias": false,
        "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "hidden_size": 3200, "initializer_range": 0.02, "input_bits": 8, "intermediate_size": 8640,
        "max_position_embeddings": 2048, "num_attention_heads": 32, "num_hidden_layers": 26,
        "num_key_value_heads": 32, "pad_token_id": 32000, "pretraining_tp": 1,
        "rms_norm_eps": 1e-5, "rope_scaling": null, "rope_theta": 10000.0,
        "tie_word_embeddings": true, "torch_dtype": "float16", "use_cache": true,
        "vocab_size": 32002, "weight_bits": 1,
    }));
    assert_eq!((config.spec.head_dim, config.spec.vocab), (100, 32002));
    assert!(config.spec.attn_sub_norm && bitnet(&config.quant).is_some_and(|quant| quant.online));
}

#[test]
fn falcon3_7b() {
    let config = parsed(&json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "activation": "swiglu",
        "attention_bias": false, "attention_dropout": 0.0, "eos_token_id": 11, "head_dim": 256,
        "hidden_act": "silu", "hidden_size": 3072, "intermediate_size": 23040,
        "max_position_embeddings": 32768, "mlp_bias": false, "num_attention_heads": 12,
        "num_hidden_layers": 28, "num_key_value_heads": 4, "pad_token_id": 2023,
        "pretraining_tp": 1, "rms_norm_eps": 1e-6, "rope_scaling": null, "rope_theta": 1000042,
        "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 131072,
        "quantization_config": {"modules_to_not_convert": null, "quant_method": "bitnet"},
    }));
    assert_eq!((config.spec.head_dim, config.spec.q_width()), (256, 3072));
    assert_eq!(config.spec.rope.theta, 1_000_042.0);
}

#[test]
fn llama_3_1_8b() {
    let config = parsed(&json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": false,
        "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu",
        "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 131072,
        "mlp_bias": false, "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "tie_word_embeddings": false, "vocab_size": 128256,
    }));
    assert!(config.quant.is_none());
    let RopeScaling::Llama3 {
        original_max_positions,
        ..
    } = config.spec.rope.scaling
    else {
        panic!("{:?}", config.spec.rope)
    };
    assert_eq!(
        (original_max_positions, config.spec.max_positions),
        (8192, 131_072)
    );
}

#[test]
fn qwen3_8b_with_yarn() {
    let config = parsed(&json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": false,
        "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu",
        "hidden_size": 4096, "intermediate_size": 12288, "max_position_embeddings": 65536,
        "max_window_layers": 36, "num_attention_heads": 32, "num_hidden_layers": 36,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-6, "rope_theta": 1000000,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16384},
        "sliding_window": null, "tie_word_embeddings": false, "use_sliding_window": false,
        "vocab_size": 151669,
    }));
    assert!(config.spec.qk_norm && config.spec.windows.is_none());
    assert!(matches!(
        config.spec.rope.scaling,
        RopeScaling::Yarn { factor: 4.0, .. }
    ));
}

#[test]
fn mistral_7b_and_tinyllama() {
    let config = parsed(&json!({
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "bos_token_id": 1,
        "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
        "max_position_embeddings": 32768, "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "sliding_window": 4096, "tie_word_embeddings": false, "vocab_size": 32000,
    }));
    assert_eq!(config.spec.window(0), Some(4096));
    let config = parsed(&json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "bos_token_id": 1,
        "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 5632,
        "max_position_embeddings": 2048, "num_attention_heads": 32, "num_hidden_layers": 22,
        "num_key_value_heads": 4, "pretraining_tp": 1, "rms_norm_eps": 1e-5, "rope_scaling": null,
        "tie_word_embeddings": false, "vocab_size": 32000,
    }));
    assert_eq!(
        (config.spec.head_dim, config.spec.rope.theta),
        (64, 10_000.0)
    );
}
