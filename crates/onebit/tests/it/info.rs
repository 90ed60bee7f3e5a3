//! `onebit info`.

use crate::{TINY, fixture_arg, onebit};

#[test]
fn json_describes_file_kernels_and_memory() {
    let info = onebit(&[
        "info",
        &fixture_arg(TINY.0),
        "--json",
        "-c",
        "64",
        "--kv",
        "f32",
        "--check",
    ])
    .json();
    assert_eq!(info["spec"]["layers"], 2);
    assert_eq!(info["spec"]["vocab"], TINY.1);
    assert_eq!(info["hashes"], "ok");
    assert_eq!(info["layouts"]["t2"]["tensors"], 14);
    assert_eq!(info["activations"]["i8_token"], 14);
    let tensors = info["tensors"].as_array().unwrap();
    let sum = |key: &str| {
        tensors
            .iter()
            .map(|tensor| tensor[key].as_u64().unwrap())
            .sum::<u64>()
    };
    assert!(sum("bytes") < info["file_bytes"].as_u64().unwrap());
    let available = info["kernels"]["available"].as_array().unwrap();
    assert_eq!(available[0], "scalar");
    assert!(available.contains(&info["kernels"]["chosen"]));
    let unavailable = info["kernels"]["unavailable"].as_object().unwrap();
    assert!(
        unavailable
            .values()
            .all(|why| !why.as_str().unwrap().is_empty())
    );
    assert_eq!(info["memory"]["ctx"], 64);
    assert_eq!(info["memory"]["kv"], "f32");
    let total = info["memory"]["total"].as_u64().unwrap();
    assert_eq!(
        total,
        info["memory"]["file"].as_u64().unwrap() + info["memory"]["anon"].as_u64().unwrap()
    );
    assert_eq!(info["provenance"]["files"][0]["name"], "model.safetensors");
}

#[test]
fn the_plan_knows_the_size_of_every_cache_type() {
    let kv_bytes = |kind: &str| {
        let args = [
            "info",
            &fixture_arg(TINY.0),
            "--json",
            "-c",
            "64",
            "--kv",
            kind,
        ];
        let info = onebit(&args).json();
        let items = info["memory"]["plan"]["items"].as_array().unwrap().clone();
        let kv = items
            .iter()
            .find(|item| item["name"] == "kv cache")
            .unwrap();
        let (spec, name) = (&info["spec"], info["memory"]["kv"].clone());
        let number = |key: &str| spec[key].as_u64().unwrap();
        let rows = 2 * number("layers") * number("kv_heads") * 64;
        (
            name,
            kv["bytes"].as_u64().unwrap(),
            rows,
            number("head_dim"),
        )
    };
    for (kind, name, element, scale) in [
        ("f32", "f32", 4, 0),
        ("f16", "f16", 2, 0),
        ("q8", "q8", 1, 4),
        ("int8", "q8", 1, 4),
    ] {
        let (found, bytes, rows, head_dim) = kv_bytes(kind);
        assert_eq!(found, name);
        assert_eq!(bytes, rows * (head_dim * element + scale), "{kind}");
    }
}

#[test]
fn the_text_names_what_matters() {
    let text = onebit(&["info", &fixture_arg(TINY.0)]).ok();
    for part in [
        "LlamaForCausalLM",
        "t2",
        "kernels",
        "scalar",
        "kv cache",
        "total",
        "model.safetensors",
    ] {
        assert!(text.contains(part), "`{part}` is not in {text}");
    }
}
