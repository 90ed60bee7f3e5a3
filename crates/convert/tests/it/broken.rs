//! Broken and unsupported checkpoints: each is refused with its class and a message that names the
//! culprit, and nothing is left at the output or beside it.

use std::fs;

use crate::common::*;
use onebit_convert::{ErrorKind, Options};
use safetensors::Dtype;
use serde_json::{Value, json};

use ErrorKind::{Malformed, Unsupported};

type Change = fn(&mut Model);
type Case = (
    &'static str,
    fn() -> Model,
    Change,
    ErrorKind,
    &'static [&'static str],
);

fn llama() -> Model {
    dense_llama(Dtype::BF16)
}

fn bitlinear() -> Model {
    packed_llama(None)
}

fn set(model: &mut Model, key: &str, value: impl Into<Value>) {
    model.config[key] = value.into();
}

fn set_quant(model: &mut Model, key: &str, value: impl Into<Value>) {
    model.config["quantization_config"][key] = value.into();
}

fn set_scale(model: &mut Model, value: f32) {
    model.insert(
        "model.layers.1.mlp.up_proj.weight_scale",
        Dtype::F32,
        &[1],
        &[value],
    );
}

#[rustfmt::skip]
const CASES: &[Case] = &[
    // Config values.
    ("zero layers", llama, |m| set(m, "num_hidden_layers", 0), Malformed, &["num_hidden_layers"]),
    ("absurd layers", llama, |m| set(m, "num_hidden_layers", u64::MAX), Malformed, &["num_hidden_layers"]),
    ("negative layers", llama, |m| set(m, "num_hidden_layers", -1), Malformed, &["num_hidden_layers", "-1"]),
    ("fractional width", llama, |m| set(m, "hidden_size", 40.5), Malformed, &["hidden_size", "40.5"]),
    ("width as text", llama, |m| set(m, "hidden_size", "40"), Malformed, &["hidden_size", "a string"]),
    ("absurd width", llama, |m| set(m, "intermediate_size", 1u64 << 60), Malformed, &["intermediate_size"]),
    ("zero vocabulary", llama, |m| set(m, "vocab_size", 0), Malformed, &["vocab_size"]),
    ("heads that do not divide", llama, |m| set(m, "num_attention_heads", 3), Malformed, &["num_attention_heads", "40"]),
    ("zero heads", llama, |m| set(m, "num_attention_heads", 0), Malformed, &["num_attention_heads"]),
    ("kv heads that do not divide", llama, |m| set(m, "num_key_value_heads", 3), Malformed, &["num_key_value_heads"]),
    ("zero kv heads", llama, |m| set(m, "num_key_value_heads", 0), Malformed, &["num_key_value_heads"]),
    ("odd head_dim", llama, |m| set(m, "head_dim", 9), Malformed, &["head_dim"]),
    ("negative eps", llama, |m| set(m, "rms_norm_eps", -1e-6), Malformed, &["rms_norm_eps"]),
    ("eps that rounds to -0", llama, |m| set(m, "rms_norm_eps", -1e-300), Malformed, &["rms_norm_eps"]),
    ("eps beyond f32", llama, |m| set(m, "rms_norm_eps", 1e300), Malformed, &["rms_norm_eps"]),
    ("zero theta", llama, |m| set(m, "rope_theta", 0), Malformed, &["rope_theta"]),
    ("negative theta", llama, |m| set(m, "rope_theta", -1.0), Malformed, &["rope_theta"]),
    ("theta as text", llama, |m| set(m, "rope_theta", "1e4"), Malformed, &["rope_theta"]),
    ("negative theta in rope_parameters", llama,
        |m| set(m, "rope_parameters", json!({"rope_type": "default", "rope_theta": -5})), Malformed, &["rope_theta"]),
    ("rope_scaling as text", llama, |m| set(m, "rope_scaling", "x"), Malformed, &["rope_scaling"]),
    ("unknown rope type", llama,
        |m| set(m, "rope_scaling", json!({"rope_type": "spiral", "factor": 2.0})), Unsupported, &["rope_type", "spiral"]),
    ("old key of the rope type", llama,
        |m| set(m, "rope_scaling", json!({"type": "su", "factor": 2.0})), Unsupported, &["rope_scaling.type", "su"]),
    ("partial rotation", llama, |m| set(m, "partial_rotary_factor", 0.5), Unsupported, &["partial_rotary_factor"]),
    ("unknown activation", llama, |m| set(m, "hidden_act", "gelu"), Unsupported, &["hidden_act", "gelu"]),
    ("experts", llama, |m| set(m, "num_local_experts", 8), Unsupported, &["num_local_experts", "8"]),
    ("vision", llama, |m| set(m, "vision_config", json!({})), Unsupported, &["vision_config"]),
    ("hadamard", llama, |m| set(m, "use_hadamard_rotation", true), Unsupported, &["use_hadamard_rotation"]),
    ("hadamard in quantization_config", packed_bitnet, |m| set_quant(m, "hadamard_dim", 128), Unsupported, &["quantization_config.hadamard_dim"]),
    ("bad token id", llama, |m| set(m, "eos_token_id", json!([1, "x"])), Malformed, &["eos_token_id"]),
    ("bad temperature", llama, |m| { m.files.insert("generation_config.json".into(), b"{\"temperature\": -1}".into()); },
        Malformed, &["generation_config.json", "temperature"]),
    ("no repetition penalty", llama, |m| { m.files.insert("generation_config.json".into(), b"{\"repetition_penalty\": 0}".into()); },
        Malformed, &["generation_config.json", "repetition_penalty"]),

    // Which family it is.
    ("unknown architecture", llama, |m| set(m, "architectures", json!(["MixtralForCausalLM"])), Unsupported, &["MixtralForCausalLM"]),
    ("architecture of another type", llama, |m| set(m, "model_type", "qwen3"), Unsupported, &["model_type", "qwen3"]),
    ("architectures as text", llama, |m| set(m, "architectures", "LlamaForCausalLM"), Malformed, &["architectures"]),
    ("no architecture", llama, |m| m.config = json!({}), Malformed, &["architectures"]),
    ("unknown quant_method", llama, |m| set(m, "quantization_config", json!({"quant_method": "gptq"})), Unsupported, &["quant_method", "gptq"]),
    ("no quant_method", llama, |m| set(m, "quantization_config", json!({"bits": 4})), Malformed, &["quant_method"]),
    ("unknown linear_class", packed_bitnet, |m| set_quant(m, "linear_class", "superlinear"), Unsupported, &["linear_class", "superlinear"]),
    ("null linear_class", packed_bitnet, |m| set_quant(m, "linear_class", json!(null)), Unsupported, &["linear_class"]),
    ("linear_class as number", packed_bitnet, |m| set_quant(m, "linear_class", 1), Malformed, &["linear_class"]),
    ("unknown mode", packed_bitnet, |m| set_quant(m, "quantization_mode", "later"), Unsupported, &["quantization_mode", "later"]),
    ("ternary head", bitlinear, |m| set_quant(m, "modules_to_not_convert", json!([])), Unsupported, &["modules_to_not_convert"]),
    ("pattern as a regular expression", bitlinear,
        |m| set_quant(m, "modules_to_not_convert", json!(["lm_head", "layers\\.[01]"])), Unsupported, &["modules_to_not_convert"]),

    // Config against tensors.
    ("packed, said to be online", packed_bitnet, |m| set_quant(m, "quantization_mode", "online"), Malformed, &["quantization_mode", "packed"]),
    ("masters, said to be offline", online_bitnet, |m| set_quant(m, "quantization_mode", "offline"), Malformed, &["offline", "weight_scale"]),
    ("masters of a class without masters", online_bitnet, |m| set_quant(m, "linear_class", "bitlinear"), Malformed, &["bitlinear"]),
    ("packed, without quantization_config", bitlinear, |m| set(m, "quantization_config", json!(null)), Malformed, &["quantization_config", "U8"]),
    ("scale of masters", online_bitnet, |m| set_scale(m, 1.0), Malformed, &["up_proj.weight_scale", "online"]),
    ("scale of a dense weight", llama, |m| set_scale(m, 1.0), Malformed, &["up_proj.weight_scale"]),
    ("more layers than config", llama, |m| set(m, "num_hidden_layers", 1), Malformed, &["model.layers.1.", "num_hidden_layers"]),
    ("fewer layers than config", llama, |m| set(m, "num_hidden_layers", 3), Malformed, &["model.layers.2.input_layernorm.weight"]),
    ("other width than config", llama, |m| set(m, "hidden_size", 48), Malformed, &["model.embed_tokens.weight", "[33, 40]", "48"]),
    ("other vocabulary than config", llama, |m| set(m, "vocab_size", 34), Malformed, &["model.embed_tokens.weight", "34"]),
    ("other ffn than config", bitlinear, |m| set(m, "intermediate_size", 64), Malformed, &["gate_proj", "[17, 40]"]),
    ("rows that cannot be packed", bitlinear, |m| set(m, "intermediate_size", 66), Malformed, &["gate_proj", "66"]),
    ("bias without the flag", llama, |m| m.insert("model.layers.0.self_attn.q_proj.bias", Dtype::F32, &[HIDDEN], &[0.0; HIDDEN]),
        Malformed, &["q_proj.bias"]),
    ("flag without a bias", llama, |m| set(m, "attention_bias", true), Malformed, &["q_proj.bias"]),
    ("norm of a linear without the flag", bitlinear,
        |m| m.insert("model.layers.0.self_attn.q_proj.rms_norm.weight", Dtype::F32, &[HIDDEN], &[0.0; HIDDEN]), Malformed, &["use_rms_norm"]),

    // Tensors.
    ("missing tensor", llama, |m| { m.tensors.remove(UP); }, Malformed, &[UP]),
    ("missing embeddings", llama, |m| { m.tensors.remove("model.embed_tokens.weight"); }, Malformed, &["model.embed_tokens.weight"]),
    ("missing scale", packed_bitnet, |m| { m.tensors.remove("model.layers.1.mlp.up_proj.weight_scale"); }, Malformed, &["up_proj.weight_scale"]),
    ("unknown tensor", llama, |m| m.insert("model.layers.0.mlp.experts.0.weight", Dtype::F32, &[1], &[0.0]), Unsupported, &["mlp.experts.0.weight"]),
    ("tensor of another family", llama, |m| sub_norms(m, "self_attn.attn_sub_norm", "mlp.ffn_sub_norm"), Unsupported, &["ffn_sub_norm"]),
    ("wrong type", llama, |m| { m.tensor(UP).dtype = Dtype::I16; }, Unsupported, &[UP, "I16"]),
    ("type nobody knows", llama, |m| { m.files.insert("model.safetensors".into(), raw_safetensors(
        r#"{"a":{"dtype":"F9","shape":[1],"data_offsets":[0,1]}}"#, &[0])); }, Unsupported, &["`a`", "F9"]),
    ("wrong type of a norm", llama, |m| { m.tensor("model.norm.weight").dtype = Dtype::U16; }, Unsupported, &["model.norm.weight", "U16"]),
    ("wrong shape", llama, |m| m.tensor(UP).shape.reverse(), Malformed, &[UP, "[40, 68]"]),
    ("wrong rank", llama, |m| m.tensor(UP).shape = vec![FFN * HIDDEN], Malformed, &[UP]),
    ("wrong length of a norm", llama, |m| m.insert("model.norm.weight", Dtype::F32, &[8], &[0.0; 8]), Malformed, &["model.norm.weight"]),
    ("two scales", packed_bitnet, |m| m.insert("model.layers.1.mlp.up_proj.weight_scale", Dtype::F32, &[2], &[1.0; 2]), Malformed, &["weight_scale", "[2]"]),
    ("no scale in the tensor", packed_bitnet, |m| m.insert("model.layers.1.mlp.up_proj.weight_scale", Dtype::F32, &[0], &[]), Malformed, &["weight_scale", "[0]"]),
    ("NaN scale", packed_bitnet, |m| set_scale(m, f32::NAN), Malformed, &["up_proj.weight_scale", "NaN"]),
    ("zero scale", packed_bitnet, |m| set_scale(m, 0.0), Malformed, &["up_proj.weight_scale"]),
    ("negative scale", packed_bitnet, |m| set_scale(m, -1.0), Malformed, &["up_proj.weight_scale", "-1"]),
    ("infinite scale", packed_bitnet, |m| set_scale(m, f32::INFINITY), Malformed, &["up_proj.weight_scale", "inf"]),
    ("infinite divisor", bitlinear, |m| set_scale(m, f32::INFINITY), Malformed, &["up_proj.weight_scale", "inf"]),
    ("zero divisor", bitlinear, |m| set_scale(m, -0.0), Malformed, &["up_proj.weight_scale"]),
    ("divisor whose inverse is infinite", bitlinear, |m| set_scale(m, 1e-40), Malformed, &["up_proj.weight_scale"]),
    ("code 3", packed_bitnet, |m| m.tensor(UP).bytes[5] |= 0b1100_0000, Malformed, &[UP, "row 51, column 5", "code 3"]),
    ("code 3 in the last byte", packed_bitnet, |m| *m.tensor(UP).bytes.last_mut().unwrap() |= 3, Malformed, &[UP, "row 16, column 39"]),
    ("NaN master", online_bitnet, |m| m.tensor(UP).bytes[82..84].fill(0xFF), Malformed, &[UP, "row 1, column 1", "NaN"]),
    ("infinite weight", llama, |m| m.tensor(UP).bytes[80..82].copy_from_slice(&[0x80, 0x7F]), Malformed, &[UP, "row 1, column 0", "inf"]),
    ("NaN embedding", llama, |m| m.tensor("model.embed_tokens.weight").bytes[0..2].fill(0xFF), Malformed, &["model.embed_tokens.weight"]),
    ("NaN norm", llama, |m| m.tensor("model.norm.weight").bytes[2..4].fill(0xFF), Malformed, &["model.norm.weight", "column 1"]),

    // Text.
    ("broken tokenizer", llama, |m| { m.files.insert("tokenizer.json".into(), b"{\"model\":".into()); }, Malformed, &["tokenizer.json"]),
    ("tokenizer that is a list", llama, |m| { m.files.insert("tokenizer.json".into(), b"[]".into()); }, Malformed, &["tokenizer.json"]),
    ("broken tokenizer config", llama, |m| { m.files.insert("tokenizer_config.json".into(), b"x".into()); }, Malformed, &["tokenizer_config.json"]),
    ("template that is a number", llama, |m| { m.files.insert("tokenizer_config.json".into(), b"{\"chat_template\": 1}".into()); }, Malformed, &["chat_template"]),
    ("template that is not text", llama, |m| { m.files.insert("chat_template.jinja".into(), vec![0xFF]); }, Malformed, &["chat_template.jinja"]),
];

#[test]
fn every_broken_checkpoint_is_refused_by_name() {
    for (name, model, change, kind, words) in CASES {
        let mut model = model();
        change(&mut model);
        let place = Place::new();
        model.write(&place.source());
        refused(name, &place, *kind, words);
    }
}

/// Files that are wrong as files: changes of the folder after it was written.
type FileCase = (&'static str, fn(&Place), ErrorKind, &'static [&'static str]);

fn write(place: &Place, name: &str, bytes: impl AsRef<[u8]>) {
    fs::write(place.source().join(name), bytes).unwrap();
}

fn remove(place: &Place, name: &str) {
    fs::remove_file(place.source().join(name)).unwrap();
}

fn as_directory(place: &Place, name: &str) {
    let path = place.source().join(name);
    let _ = fs::remove_file(&path);
    fs::create_dir(path).unwrap();
}

fn shorten(place: &Place, name: &str, by: usize) {
    let bytes = fs::read(place.source().join(name)).unwrap();
    write(place, name, &bytes[..bytes.len() - by]);
}

const ONE: &str = "model.safetensors";

#[rustfmt::skip]
const FILE_CASES: &[FileCase] = &[
    ("no folder", |p| fs::remove_dir_all(p.source()).unwrap(), Malformed, &["source"]),
    ("a file for a folder", |p| { fs::remove_dir_all(p.source()).unwrap(); fs::write(p.source(), "x").unwrap(); }, Malformed, &["folder"]),
    ("no config", |p| remove(p, "config.json"), Malformed, &["config.json"]),
    ("config is a directory", |p| as_directory(p, "config.json"), Malformed, &["config.json", "directory"]),
    ("config is a list", |p| write(p, "config.json", "[]"), Malformed, &["config.json", "array"]),
    ("config is empty", |p| write(p, "config.json", ""), Malformed, &["config.json"]),
    ("config is not text", |p| write(p, "config.json", [0xFF, 0xFE, 0]), Malformed, &["config.json"]),
    ("config is deep", |p| write(p, "config.json", format!("{{\"a\":{}", "[".repeat(1_000_000))), Malformed, &["config.json", "recursion"]),
    ("config key twice", |p| write(p, "config.json", r#"{"model_type": "llama", "model_type": "bitnet"}"#), Malformed, &["config.json", "model_type", "twice"]),
    ("generation config is broken", |p| write(p, "generation_config.json", "{"), Malformed, &["generation_config.json"]),
    ("tokenizer is a directory", |p| as_directory(p, "tokenizer.json"), Malformed, &["tokenizer.json", "directory"]),
    ("no weights of an unknown family", |p| { remove(p, ONE); write(p, "config.json", r#"{"architectures": ["X"]}"#); }, Unsupported, &["X"]),
    ("no weights", |p| remove(p, ONE), Malformed, &[ONE]),
    ("weights are a directory", |p| as_directory(p, ONE), Malformed, &[ONE, "directory"]),
    ("pickled weights", |p| { remove(p, ONE); write(p, "pytorch_model.bin", ""); }, Unsupported, &["pytorch_model.bin"]),
    ("empty weights", |p| write(p, ONE, ""), Malformed, &[ONE, "0 bytes"]),
    ("truncated by a byte", |p| shorten(p, ONE, 1), Malformed, &[ONE]),
    ("truncated in the header", |p| { let b = fs::read(p.source().join(ONE)).unwrap(); write(p, ONE, &b[..100]); }, Malformed, &[ONE, "header"]),
    ("a byte too many", |p| { let mut b = fs::read(p.source().join(ONE)).unwrap(); b.push(0); write(p, ONE, b); }, Malformed, &[ONE]),
    ("header longer than the file", |p| write(p, ONE, u64::MAX.to_le_bytes()), Malformed, &[ONE, "header"]),
    ("header is not JSON", |p| write(p, ONE, raw_safetensors("{]", &[])), Malformed, &[ONE]),
    ("header is deep", |p| write(p, ONE, raw_safetensors(&"{\"a\":".repeat(100_000), &[])), Malformed, &[ONE, "`a`"]),
    ("tensor twice", |p| write(p, ONE, raw_safetensors(
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, &[0])), Malformed, &[ONE, "`a`", "twice"]),
    ("overlap", |p| write(p, ONE, raw_safetensors(
        r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#, &[0; 3])), Malformed, &[ONE]),
    ("hole", |p| write(p, ONE, raw_safetensors(
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}"#, &[0; 3])), Malformed, &[ONE, "`b`"]),
    ("shape that overflows", |p| write(p, ONE, raw_safetensors(
        r#"{"a":{"dtype":"F32","shape":[9223372036854775807,8],"data_offsets":[0,0]}}"#, &[])), Malformed, &[ONE, "overflow"]),
    ("shape against bytes", |p| write(p, ONE, raw_safetensors(
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, &[0; 4])), Malformed, &[ONE]),
    ("reversed offsets", |p| write(p, ONE, raw_safetensors(
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}"#, &[0])), Malformed, &[ONE]),
];

#[test]
fn every_broken_file_is_refused_by_name() {
    for (name, change, kind, words) in FILE_CASES {
        let place = Place::new();
        llama().write(&place.source());
        change(&place);
        refused(name, &place, *kind, words);
    }
}

const INDEX: &str = "model.safetensors.index.json";

fn edit_index(place: &Place, change: impl FnOnce(&mut Value)) {
    let mut index = serde_json::from_slice(&fs::read(place.source().join(INDEX)).unwrap()).unwrap();
    change(&mut index);
    write(place, INDEX, index.to_string());
}

#[rustfmt::skip]
const SHARD_CASES: &[FileCase] = &[
    ("index is a directory", |p| as_directory(p, INDEX), Malformed, &[INDEX, "directory"]),
    ("no weight_map", |p| write(p, INDEX, "{}"), Malformed, &[INDEX, "weight_map"]),
    ("shard outside", |p| edit_index(p, |i| i["weight_map"][UP] = "../x.safetensors".into()), Malformed, &[UP, "../x.safetensors"]),
    ("absolute shard", |p| edit_index(p, |i| i["weight_map"][UP] = "/etc/passwd".into()), Malformed, &[UP, "/etc/passwd"]),
    ("shard that is not there", |p| edit_index(p, |i| i["weight_map"][UP] = "x.safetensors".into()), Malformed, &["x.safetensors"]),
    ("shard is a directory", |p| as_directory(p, &shard_name(1)), Malformed, &["model-00001.safetensors", "directory"]),
    ("missing shard", |p| remove(p, &shard_name(1)), Malformed, &["model-00001.safetensors"]),
    ("truncated shard", |p| shorten(p, &shard_name(1), 2), Malformed, &["model-00001.safetensors"]),
    ("tensor in another shard", |p| edit_index(p, |i| {
        let other = if i["weight_map"][UP] == shard_name(0) { shard_name(1) } else { shard_name(0) };
        i["weight_map"][UP] = other.into();
    }), Malformed, &[UP, INDEX]),
    ("tensor that is nowhere", |p| edit_index(p, |i| i["weight_map"]["x"] = shard_name(0).into()), Malformed, &["`x`", "model-00000"]),
    ("tensor not listed", |p| edit_index(p, |i| { i["weight_map"].as_object_mut().unwrap().remove(UP); }), Malformed, &[UP, "does not list it"]),
    ("shard name that is a number", |p| edit_index(p, |i| i["weight_map"][UP] = 1.into()), Malformed, &[UP, "a number"]),
];

#[test]
fn every_broken_index_is_refused_by_name() {
    for (name, change, kind, words) in SHARD_CASES {
        let place = Place::new();
        llama().write_sharded(&place.source(), 3);
        change(&place);
        refused(name, &place, *kind, words);
    }
}

fn refused(name: &str, place: &Place, kind: ErrorKind, words: &[&str]) {
    let error = match place.convert(&Options::default()) {
        Ok(_) => panic!("{name}: converted"),
        Err(error) => error,
    };
    let message = error.to_string();
    assert_eq!(error.kind(), kind, "{name}: {message}");
    for word in words {
        assert!(
            message.contains(word),
            "{name}: `{word}` is not in: {message}"
        );
    }
    assert_eq!(place.left_over(), [""; 0], "{name}: {message}");
}

/// Cutting a good checkpoint anywhere never converts and never panics.
#[test]
fn truncation_anywhere_is_refused() {
    let place = Place::new();
    packed_bitnet().write(&place.source());
    let bytes = fs::read(place.source().join(ONE)).unwrap();
    let step = bytes.len() / 97;
    for len in (0..bytes.len()).step_by(step) {
        write(&place, ONE, &bytes[..len]);
        refused(&format!("{len} bytes"), &place, Malformed, &[ONE]);
    }
}
