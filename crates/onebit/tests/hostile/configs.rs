//! Values that no config should have.

use crate::source::Place;

/// Writes the config with `key` set to `value`, which need not be JSON, and expects a refusal.
fn refused(key: &str, value: &str, codes: &[i32], outside: bool) {
    let place = Place::new();
    let mut config = place.config();
    config[key] = "HERE".into();
    place.write(
        "config.json",
        config.to_string().replacen("\"HERE\"", value, 1),
    );
    let shown: String = value.chars().take(60).collect();
    place.refused(
        &format!("{key} = {shown}"),
        codes,
        &["config.json"],
        outside,
    );
}

const SIZES: &[&str] = &[
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "max_position_embeddings",
    "head_dim",
];

#[test]
fn sizes_are_sizes() {
    let values = [
        "0",
        "-1",
        "1.5",
        "1e30",
        "1e400",
        "-0.0",
        "18446744073709551615",
        "18446744073709551616",
        "9223372036854775807",
        "340282366920938463463374607431768211456",
        "\"40\"",
        "\"\"",
        "[]",
        "[4]",
        "{}",
        "true",
        "NaN",
        "Infinity",
        "0x10",
    ];
    for (row, key) in SIZES.iter().enumerate() {
        for (column, value) in values.iter().enumerate() {
            refused(key, value, &[3], (row + column) % 5 == 0);
        }
    }
}

#[test]
fn numbers_are_numbers() {
    let numbers = [
        "-1",
        "1e400",
        "-1e-300",
        "\"1e-5\"",
        "[]",
        "{}",
        "true",
        "NaN",
        "-Infinity",
        "nan",
    ];
    for (row, key) in ["rms_norm_eps", "rope_theta"].iter().enumerate() {
        for (column, value) in numbers.iter().enumerate() {
            refused(key, value, &[3], (row + column) % 4 == 0);
        }
    }
    for (key, value) in [
        ("rms_norm_eps", "1e300"),
        ("rope_theta", "0"),
        ("rope_theta", "-0.0"),
    ] {
        refused(key, value, &[3], true);
    }
}

#[test]
fn words_and_flags_are_words_and_flags() {
    for key in ["tie_word_embeddings", "attention_bias", "mlp_bias"] {
        for value in ["1", "0", "\"true\"", "[]", "{}", "0.0", "1e30"] {
            refused(key, value, &[3], value == "1");
        }
    }
    for value in [
        "1",
        "[]",
        "{}",
        "true",
        "\"gelu\"",
        "\"\"",
        "\"SILU\\u0000\"",
    ] {
        refused("hidden_act", value, &[3, 4], value == "\"\"");
    }
    for value in [
        "1",
        "[1]",
        "[null]",
        "{}",
        "\"LlamaForCausalLM\"",
        "[\"\"]",
        "[\"GPT2LMHeadModel\"]",
        "true",
    ] {
        refused("architectures", value, &[3, 4], value == "[1]");
    }
    for value in ["1", "[]", "\"\"", "\"mixtral\"", "{}"] {
        refused("model_type", value, &[3, 4], value == "1");
    }
}

#[test]
fn objects_are_objects() {
    let quantization = [
        "1",
        "[]",
        "\"bitnet\"",
        "true",
        "{}",
        "{\"quant_method\": 1}",
        "{\"quant_method\": null}",
        "{\"quant_method\": \"\"}",
        "{\"quant_method\": \"bitnet\", \"quant_method\": \"bitnet\"}",
        "{\"quant_method\": \"awq\", \"bits\": 1e30}",
        "{\"quant_method\": \"bitnet\", \"linear_class\": []}",
        "{\"quant_method\": \"bitnet\", \"linear_class\": \"x\"}",
        "{\"quant_method\": \"bitnet\", \"modules_to_not_convert\": 1}",
        "{\"quant_method\": \"bitnet\", \"modules_to_not_convert\": [1]}",
        "{\"quant_method\": \"bitnet\", \"quantization_mode\": 1}",
    ];
    for (number, value) in quantization.iter().enumerate() {
        refused("quantization_config", value, &[3, 4], number % 3 == 0);
    }
    let rope = [
        "1",
        "[]",
        "\"linear\"",
        "true",
        "{\"rope_type\": 1}",
        "{\"rope_type\": \"helix\", \"factor\": 2}",
        "{\"rope_type\": \"linear\", \"factor\": -1}",
        "{\"rope_type\": \"linear\", \"factor\": \"2\"}",
        "{\"type\": [[[]]]}",
    ];
    for (number, value) in rope.iter().enumerate() {
        refused("rope_scaling", value, &[3, 4], number % 3 == 0);
    }
    for value in [
        "-1",
        "1e30",
        "\"2\"",
        "[[2]]",
        "[null]",
        "{}",
        "4294967296",
        "[2, -2]",
        "true",
    ] {
        refused("eos_token_id", value, &[3], value == "-1");
        refused("bos_token_id", value, &[3], value == "{}");
    }
}

#[test]
fn documents_are_documents() {
    let place = Place::new();
    let config = String::from_utf8(place.read("config.json")).unwrap();
    let utf16: Vec<u8> = config.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let deep = |open: &str, close: &str| {
        let nested = open.repeat(100_000) + "1" + &close.repeat(100_000);
        config
            .replacen('{', &format!("{{\"deep\": {nested},"), 1)
            .into_bytes()
    };
    let long = |unit: &str| {
        config
            .replacen('{', &format!("{{\"x\": [{unit}],"), 1)
            .into_bytes()
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("a space", b" ".to_vec()),
        ("a zero", vec![0]),
        ("zeros", vec![0; 4096]),
        ("null", b"null".to_vec()),
        ("a list", b"[]".to_vec()),
        ("a number", b"1e5".to_vec()),
        ("no end", config.as_bytes()[..config.len() - 2].to_vec()),
        ("an end too many", (config.clone() + "}").into_bytes()),
        ("two documents", (config.clone() + &config).into_bytes()),
        (
            "a comment",
            ("// config\n".to_owned() + &config).into_bytes(),
        ),
        (
            "a comma too many",
            config.replacen("\n}", ",\n}", 1).into_bytes(),
        ),
        ("single quotes", config.replace('"', "'").into_bytes()),
        (
            "a byte order mark",
            [b"\xef\xbb\xbf", config.as_bytes()].concat(),
        ),
        ("UTF-16", utf16),
        ("Latin-1", b"{\"a\": \"\xe9\"}".to_vec()),
        ("half a character", b"{\"a\": \"\\ud800\"}".to_vec()),
        ("a raw control character", b"{\"a\": \"\x01\"}".to_vec()),
        (
            "a key twice",
            config
                .replacen('{', "{\"hidden_size\": 128,", 1)
                .into_bytes(),
        ),
        ("deep lists", deep("[", "]")),
        ("deep objects", deep("{\"a\":", "}")),
        ("many values", long(&vec!["0"; 3 << 20].join(","))),
        ("many objects", long(&vec!["{}"; 2 << 20].join(","))),
        (
            "a long string",
            long(&format!("\"{}\"", "x".repeat(8 << 20))),
        ),
        ("a long number", long(&"9".repeat(5 << 20))),
    ];
    for (name, bytes) in cases {
        let place = Place::new();
        place.write("config.json", &bytes);
        place.refused(name, &[3, 4], &[], true);
        let place = Place::new();
        place.write("generation_config.json", &bytes);
        if name != "a comma too many" && name != "a key twice" {
            place.refused(name, &[3], &["generation_config.json"], false);
        }
    }
}

/// Odd, but fine.
#[test]
fn what_is_only_unusual_is_accepted() {
    let accepted = |change: &dyn Fn(&Place)| {
        let place = Place::new();
        change(&place);
        place.convert().unwrap();
    };
    accepted(&|place| {
        let config = String::from_utf8(place.read("config.json")).unwrap();
        place.write("config.json", config.replace('\n', "\r\n"));
    });
    for (key, value) in [
        ("head_dim", serde_json::Value::Null),
        ("rope_scaling", serde_json::Value::Null),
        ("something_new", serde_json::json!({"deep": [[[[1e30]]]]})),
    ] {
        accepted(&|place| {
            let mut config = place.config();
            config[key] = value.clone();
            place.write("config.json", config.to_string());
        });
    }
}
