//! Packed files that are truncated, that lie, or of which a bit has changed.

use crate::child::onebit;
use crate::{arg, fixture};
use onebit_format::{AlignedBytes, PackedFile};
use onebit_kernels::Kernels;
use onebit_model::Model;
use onebit_runtime::{Engine, Pool, SessionOptions, TextFiles, Tokenizer};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use tempfile::TempDir;

/// A packed model with a tokenizer, which is not its own.
fn sample() -> &'static [u8] {
    static SAMPLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        for name in ["config.json", "generation_config.json", "model.safetensors"] {
            fs::copy(
                fixture("checkpoints/llama_bitlinear").join(name),
                folder.path().join(name),
            )
            .unwrap();
        }
        for name in ["tokenizer.json", "tokenizer_config.json"] {
            fs::copy(
                fixture("tokenizers/llama3").join(name),
                folder.path().join(name),
            )
            .unwrap();
        }
        let out = folder.path().join("sample.onebit");
        onebit_convert::convert(folder.path(), &out, &Default::default(), &mut ()).unwrap();
        fs::read(out).unwrap()
    });
    &SAMPLE
}

fn header_len(bytes: &[u8]) -> usize {
    u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize
}

/// Opens a model and runs two tokens and a text; whether it opened.
fn run(bytes: &[u8]) -> bool {
    static POOL: LazyLock<Arc<Pool>> = LazyLock::new(|| Arc::new(Pool::new(1).unwrap()));
    let Ok(file) = PackedFile::from_bytes(AlignedBytes::from(bytes)) else {
        return false;
    };
    let tokenizer = TextFiles::from_packed(&file).and_then(|files| Tokenizer::new(&files));
    if let Ok(tokenizer) = tokenizer {
        drop(tokenizer.encode("Once upon a time", true));
    }
    let Ok(model) = Model::from_file(Arc::new(file)) else {
        return false;
    };
    let options = SessionOptions::new(model.spec()).context(2, model.spec());
    let engine = Engine::new(Arc::new(model), Kernels::best(), POOL.clone());
    let mut session = engine.session(options).unwrap();
    assert_eq!(session.prefill(&[0, 1]).unwrap().logits.len(), 211);
    true
}

/// The bytes as a file.
fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onebit");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// Runs the program with bytes as the model.
fn outside(bytes: &[u8], codes: &[i32], words: &[&str]) {
    let (_folder, path) = file(bytes);
    let ended = onebit(&["run", arg(&path), "--ids", "1,2", "-n", "2", "--temp", "0"]);
    if ended.code != Some(0) || !codes.contains(&0) {
        ended.refused_for(codes, words, bytes.len() as u64);
    }
}

#[test]
fn the_sample_runs() {
    assert!(run(sample()));
    outside(sample(), &[0], &[]);
}

#[test]
fn truncations_are_found() {
    let bytes = sample();
    let start = 8 + header_len(bytes);
    let ends = PackedFile::from_bytes(bytes.to_vec()).unwrap();
    let mut lengths: Vec<usize> = ends
        .index()
        .tensors()
        .map(|(_, _, range)| range.start)
        .collect();
    lengths.extend([
        0,
        1,
        7,
        8,
        9,
        63,
        64,
        start - 1,
        start,
        start + 1,
        bytes.len() - 64,
        bytes.len() - 1,
    ]);
    for (number, len) in lengths.into_iter().enumerate() {
        assert!(!run(&bytes[..len]), "{len} bytes");
        if number % 10 == 0 {
            outside(&bytes[..len], &[3], &["model.onebit"]);
        }
    }
    outside(&[bytes, &[0]].concat(), &[3], &["model.onebit"]);
    outside(&[bytes, bytes].concat(), &[3], &["model.onebit"]);
}

/// Each either refuses to open, or opens and runs.
#[test]
fn every_bit_of_the_header_may_flip() {
    let mut bytes = sample().to_vec();
    let header = 8 + header_len(&bytes);
    let end = bytes[..header]
        .iter()
        .rposition(|byte| *byte != b' ')
        .unwrap();
    for at in 0..=end {
        // All bits of the length and of one byte in sixteen, one bit of the others.
        let all = at < 8 || at % 16 == 0;
        for bit in (0..8).filter(|bit| all || *bit == at % 8) {
            bytes[at] ^= 1 << bit;
            run(&bytes);
            if at % 397 == 0 && bit == 2 {
                outside(&bytes, &[0, 2, 3, 4], &[]);
            }
            bytes[at] ^= 1 << bit;
        }
    }
    assert!(run(&bytes));
}

#[test]
fn flipped_weights_run_and_are_found_by_check() {
    let mut bytes = sample().to_vec();
    let start = 8 + header_len(&bytes);
    for (number, at) in (start..bytes.len()).step_by(1009).enumerate() {
        let bit = number % 8;
        bytes[at] ^= 1 << bit;
        run(&bytes);
        let opened = PackedFile::from_bytes(bytes.clone());
        assert!(
            opened.is_err() || opened.unwrap().check_hashes().is_err(),
            "byte {at}"
        );
        if number % 16 == 0 {
            let (_folder, path) = file(&bytes);
            let ended = onebit(&["info", "--check", arg(&path)]);
            ended.refused_for(&[3], &["tensor"], bytes.len() as u64);
        }
        bytes[at] ^= 1 << bit;
    }
}

/// The sample with its metadata and its container's header changed.
fn changed(change: impl FnOnce(&mut Value, &mut Value)) -> Vec<u8> {
    let bytes = sample();
    let len = header_len(bytes);
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    let mut meta =
        serde_json::from_str(header["__metadata__"]["onebit"].as_str().unwrap()).unwrap();
    change(&mut meta, &mut header);
    if header["__metadata__"]["onebit"].is_string() {
        header["__metadata__"]["onebit"] = meta.to_string().into();
    }
    joined(header.to_string(), &bytes[8 + len..])
}

fn joined(mut header: String, data: &[u8]) -> Vec<u8> {
    while !(8 + header.len()).is_multiple_of(64) {
        header.push(' ');
    }
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

type Lie = (
    &'static str,
    i32,
    &'static [&'static str],
    fn(&mut Value, &mut Value),
);

#[rustfmt::skip]
const LIES: &[Lie] = &[
    ("no metadata", 3, &[], |_, h| drop(h.as_object_mut().unwrap().remove("__metadata__"))),
    ("other metadata", 3, &[], |_, h| h["__metadata__"] = json!({"format": "pt"})),
    ("metadata that is null", 3, &[], |m, _| *m = Value::Null),
    ("metadata that is a list", 3, &[], |m, _| *m = json!([])),
    ("no version", 3, &["format_version"], |m, _| drop(m.as_object_mut().unwrap().remove("format_version"))),
    ("a later version", 4, &["version 2"], |m, _| m["format_version"] = 2.into()),
    ("an absurd version", 4, &["18446744073709551615"], |m, _| m["format_version"] = u64::MAX.into()),
    ("a negative version", 3, &[], |m, _| m["format_version"] = (-1).into()),
    ("a version as text", 3, &[], |m, _| m["format_version"] = "1".into()),
    ("a feature nobody has", 4, &["hadamard"], |m, _| m["required_features"] = json!(["hadamard"])),
    ("features as text", 3, &[], |m, _| m["required_features"] = json!("x")),
    ("an unknown field", 3, &["surprise"], |m, _| m["surprise"] = 1.into()),
    ("no model", 3, &["model"], |m, _| drop(m.as_object_mut().unwrap().remove("model"))),
    ("a model that is null", 3, &[], |m, _| m["model"] = Value::Null),
    ("a model with a field too many", 3, &["experts"], |m, _| m["model"]["experts"] = 8.into()),
    ("no layers", 3, &["layers"], |m, _| m["model"]["layers"] = 0.into()),
    ("more layers", 3, &["layers.2"], |m, _| m["model"]["layers"] = 3.into()),
    ("fewer layers", 3, &["layers.1"], |m, _| m["model"]["layers"] = 1.into()),
    ("absurd layers", 3, &["layers"], |m, _| m["model"]["layers"] = u64::MAX.into()),
    ("negative layers", 3, &[], |m, _| m["model"]["layers"] = (-1).into()),
    ("layers as text", 3, &[], |m, _| m["model"]["layers"] = "2".into()),
    ("layers as 2.0", 3, &[], |m, _| m["model"]["layers"] = json!(2.0)),
    ("no heads", 3, &["heads"], |m, _| m["model"]["heads"] = 0.into()),
    ("heads that do not divide", 3, &["kv_heads"], |m, _| m["model"]["kv_heads"] = 3.into()),
    ("no kv heads", 3, &["kv_heads"], |m, _| m["model"]["kv_heads"] = 0.into()),
    ("an odd head", 3, &["head_dim"], |m, _| m["model"]["head_dim"] = 31.into()),
    ("an absurd head", 3, &["head_dim"], |m, _| m["model"]["head_dim"] = (1u64 << 40).into()),
    ("another width", 3, &["hidden", "128"], |m, _| { m["model"]["hidden"] = 64.into(); m["model"]["architecture"] = "hidden".into(); }),
    ("an absurd width", 3, &["hidden"], |m, _| m["model"]["hidden"] = (1u64 << 62).into()),
    ("another vocabulary", 3, &["embed"], |m, _| m["model"]["vocab"] = 210.into()),
    ("an absurd vocabulary", 3, &["vocab"], |m, _| m["model"]["vocab"] = u64::MAX.into()),
    ("no positions", 3, &["max_positions"], |m, _| m["model"]["max_positions"] = 0.into()),
    ("absurd positions", 3, &["max_positions"], |m, _| m["model"]["max_positions"] = u64::MAX.into()),
    ("a negative eps", 3, &["norm_eps"], |m, _| m["model"]["norm_eps"] = json!(-1.0)),
    ("an absurd eps", 3, &["norm_eps"], |m, _| m["model"]["norm_eps"] = json!(1e300)),
    ("a theta of zero", 3, &["theta"], |m, _| m["model"]["rope"]["theta"] = 0.into()),
    ("a negative theta", 3, &["theta"], |m, _| m["model"]["rope"]["theta"] = (-1).into()),
    ("a theta of null", 3, &[], |m, _| m["model"]["rope"]["theta"] = Value::Null),
    ("an unknown activation", 3, &["gelu"], |m, _| m["model"]["activation"] = "gelu".into()),
    ("a tied head with a head", 3, &["head"], |m, _| m["model"]["tied_head"] = true.into()),
    ("sub-norms that are not there", 3, &["attn_sub_norm"], |m, _| m["model"]["attn_sub_norm"] = true.into()),
    ("biases that are not there", 3, &["bias"], |m, _| m["model"]["mlp_bias"] = true.into()),
    ("a window of nothing", 3, &["windows"], |m, _| m["model"]["windows"] = json!({"size": 0})),
    ("an unknown layout", 4, &["t7.r1k8"], |m, _| m["matrices"]["layers.0.q"]["layout"] = "t7.r1k8".into()),
    ("the layout of another type", 3, &["layers.0.q"], |m, _| m["matrices"]["layers.0.q"]["layout"] = "f32.r1k16".into()),
    ("no rows", 3, &["layers.0.q"], |m, _| m["matrices"]["layers.0.q"]["rows"] = 0.into()),
    ("no columns", 3, &["layers.0.q"], |m, _| m["matrices"]["layers.0.q"]["cols"] = 0.into()),
    ("absurd rows", 3, &["layers.0.q"], |m, _| m["matrices"]["layers.0.q"]["rows"] = u64::MAX.into()),
    ("absurd columns", 3, &["layers.0.q"], |m, _| m["matrices"]["layers.0.q"]["cols"] = u64::MAX.into()),
    ("too many columns", 3, &["layers.0.q"], |m, _| m["matrices"]["layers.0.q"]["cols"] = 65_537.into()),
    ("columns in the padding", 3, &["layers.0.q"], |m, _| m["matrices"]["layers.0.q"]["cols"] = 129.into()),
    ("no scale", 3, &["layers.0.q"], |m, _| m["matrices"]["layers.0.q"]["scale"] = "none".into()),
    ("a scale beyond the others", 3, &[], |m, _| m["matrices"]["layers.0.q"]["scale"] = json!({"tensor": {"index": 4000}})),
    ("an absurd scale index", 3, &[], |m, _| m["matrices"]["layers.0.q"]["scale"] = json!({"tensor": {"index": u64::MAX}})),
    ("the scale of another matrix", 3, &[], |m, _| m["matrices"]["layers.0.q"]["scale"] = m["matrices"]["layers.0.k"]["scale"].clone()),
    ("an unknown activation mode", 3, &[], |m, _| m["matrices"]["layers.0.q"]["activation"] = "i2".into()),
    ("a matrix that is not there", 3, &[], |m, _| m["matrices"]["ghost"] = m["matrices"]["layers.0.q"].clone()),
    ("a matrix that is not said", 3, &["layers.0.q"], |m, _| drop(m["matrices"].as_object_mut().unwrap().remove("layers.0.q"))),
    ("a matrix that is a vector too", 3, &["layers.0.q"], |m, _| m["vectors"]["layers.0.q"] = 128.into()),
    ("a vector of nothing", 3, &["norm"], |m, _| m["vectors"]["norm"] = 0.into()),
    ("an absurd vector", 3, &["norm"], |m, _| m["vectors"]["norm"] = u64::MAX.into()),
    ("a shorter vector", 3, &["norm"], |m, _| m["vectors"]["norm"] = 127.into()),
    ("an absurd blob", 3, &["tokenizer.json"], |m, _| m["blobs"]["tokenizer.json"] = (u64::MAX - 63).into()),
    ("no hashes", 3, &["sha256"], |m, _| m["sha256"] = json!({})),
    ("a hash that is none", 3, &["sha256"], |m, _| m["sha256"]["norm"] = "x".into()),
    ("a hash of nothing", 3, &["ghost"], |m, _| m["sha256"]["ghost"] = "0".repeat(64).into()),
    ("an infinite temperature", 3, &[], |m, _| m["generation"]["temperature"] = json!(1e39)),
    ("a temperature as text", 3, &[], |m, _| m["generation"]["temperature"] = "hot".into()),
    ("an end that is no token", 3, &[], |m, _| m["generation"]["eos"] = json!([-1])),
    ("a template that is no text", 3, &[], |m, _| m["chat_template"] = 1.into()),
    ("another type", 3, &["layers.0.q"], |_, h| h["layers.0.q"]["dtype"] = "I8".into()),
    ("another shape", 3, &["layers.0.q"], |_, h| h["layers.0.q"]["shape"] = json!([64, 128])),
    ("a shape that overflows", 3, &[], |_, h| h["layers.0.q"]["shape"] = json!([1u64 << 63, 1u64 << 63])),
    ("a shape that never ends", 3, &["dimensions"], |_, h| h["layers.0.q"]["shape"] = json!(vec![1; 1 << 20])),
    ("offsets that are not aligned", 3, &[], |_, h| h["layers.0.q"]["data_offsets"] = json!([1, 8193])),
    ("offsets of another tensor", 3, &[], |_, h| h["layers.0.q"]["data_offsets"] = h["layers.0.o"]["data_offsets"].clone()),
    ("offsets beyond the file", 3, &[], |_, h| h["layers.0.q"]["data_offsets"] = json!([1u64 << 50, (1u64 << 50) + 8192])),
    ("a tensor too few", 3, &[], |_, h| drop(h.as_object_mut().unwrap().remove("layers.0.q"))),
    ("a tensor too many", 3, &["extra"], |_, h| h["extra"] = json!({"dtype": "U8", "shape": [0], "data_offsets": [0, 0]})),
];

#[test]
fn every_lie_is_found() {
    for (number, (name, code, words, lie)) in LIES.iter().enumerate() {
        let bytes = changed(lie);
        assert!(!run(&bytes), "{name}");
        let codes = if *code == 4 { &[4][..] } else { &[3] };
        if number % 2 == 0 || *code == 4 {
            outside(&bytes, codes, words);
        }
    }
}

#[test]
fn numbers_that_are_none_are_found() {
    let sample = PackedFile::from_bytes(sample().to_vec()).unwrap();
    for (name, kind, range) in sample.index().tensors() {
        let numbers: &[f32] = match kind.to_string().as_str() {
            "scales" => &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, 0.0, -0.0],
            "vector" => &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY],
            _ => &[],
        };
        for number in numbers {
            let mut bytes = sample.bytes().to_vec();
            bytes[range.start..range.start + 4].copy_from_slice(&number.to_le_bytes());
            assert!(!run(&bytes), "{name} = {number}");
        }
        if let Some(number) = numbers.first().filter(|_| !name.starts_with("layers.1")) {
            let mut bytes = sample.bytes().to_vec();
            bytes[range.start + 4..range.start + 8].copy_from_slice(&number.to_le_bytes());
            outside(&bytes, &[3], &["finite"]);
        }
    }
}

/// A file that was made with an invalid code has the right hash, and the code is found all the same.
#[test]
fn code_3_is_found_by_check() {
    use sha2::{Digest, Sha256};
    let sample = PackedFile::from_bytes(sample().to_vec()).unwrap();
    let ranges = sample.index().tensors();
    let range = ranges
        .into_iter()
        .find(|(name, _, _)| *name == "layers.0.q")
        .unwrap()
        .2;
    let mut bytes = sample.bytes().to_vec();
    bytes[range.start + 5] |= 0x0C;
    let hash: String = Sha256::digest(&bytes[range.clone()])
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let old = &sample.meta().sha256["layers.0.q"];
    let at = bytes
        .windows(64)
        .position(|window| window == old.as_bytes())
        .unwrap();
    bytes[at..at + 64].copy_from_slice(hash.as_bytes());
    assert!(run(&bytes));
    let (_folder, path) = file(&bytes);
    onebit(&["info", arg(&path)]).ok();
    onebit(&["info", "--check", arg(&path)]).refused(3, &["layers.0.q", "code 3"]);
}

/// Weights are not looked at when a file is opened; what they lead to is said.
#[test]
fn weights_that_are_no_numbers_are_no_panic() {
    let sample = PackedFile::from_bytes(sample().to_vec()).unwrap();
    for (name, _, range) in sample.index().tensors() {
        if !name.starts_with("embed") && !name.starts_with("head") && !name.ends_with(".down") {
            continue;
        }
        let mut bytes = sample.bytes().to_vec();
        bytes[range].fill(0xFF);
        assert!(run(&bytes), "{name}");
        outside(&bytes, &[0, 1], &[]);
    }
}

#[test]
fn metadata_of_too_many_values_is_refused_in_little_memory() {
    let lists = format!("[{}0]", "0,".repeat(4 << 20));
    let header = format!("{{\"__metadata__\":{{\"onebit\":\"{{\\\"model\\\":{lists}}}\"}}}}");
    outside(&joined(header, &[]), &[3], &["values"]);
    let deep = format!(
        "{{\"__metadata__\":{{\"onebit\":\"{}\"}}}}",
        "[".repeat(100_000)
    );
    outside(&joined(deep, &[]), &[3], &["recursion"]);
    let large = format!("{{\"a\":{}}}", " ".repeat(70 << 20));
    outside(&joined(large, &[]), &[3], &["67108864"]);
}
