//! Every checkpoint in `fixtures/checkpoints` converts, and the packed file holds exactly its
//! weights: the codes and numbers are read from the source here in a second, naive way.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::*;
use onebit_convert::{Options, convert};
use onebit_format::{Layout, MatrixRef, PackedFile, Scales};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints");
    let mut folders: Vec<PathBuf> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("config.json").is_file())
        .collect();
    folders.sort();
    assert!(!folders.is_empty(), "no checkpoints in {}", root.display());
    folders
}

/// A checkpoint read without the crate under test.
fn read(folder: &Path) -> (Value, BTreeMap<String, Tensor>) {
    let config = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
    let mut tensors = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("model") || !name.ends_with(".safetensors") {
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let tensor = Tensor {
                dtype: view.dtype(),
                shape: view.shape().to_vec(),
                bytes: view.data().to_vec(),
            };
            tensors.insert(name, tensor);
        }
    }
    (config, tensors)
}

#[test]
fn every_fixture_holds_exactly_its_weights() {
    for folder in folders() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let out = tempfile::tempdir().unwrap();
        let path = out.path().join("model.onebit");
        let report = convert(&folder, &path, &Options::default(), &mut ())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let file = PackedFile::open(&path).unwrap();
        file.check_hashes().unwrap();
        assert_eq!(file.file_len(), report.file_bytes, "{name}");
        let (config, tensors) = read(&folder);
        assert_eq!(file.meta().matrices.len(), report.matrices.len(), "{name}");
        for matrix in file.meta().matrices.keys() {
            let what = format!("{name}: {matrix}");
            check_matrix(
                &what,
                file.matrix(matrix).unwrap(),
                file.meta().matrices[matrix].transposed,
                &config,
                &tensors,
                &module(matrix),
            );
        }
        for vector in file.meta().vectors.keys() {
            let source = vector_source(vector, &config);
            let mut expected = tensors[&source].values();
            // `autobitlinear` multiplies its bias by the stored scale too.
            if let Some(module) = source.strip_suffix(".bias")
                && config["quantization_config"]["linear_class"] == "autobitlinear"
                && let Some(scale) = tensors.get(&format!("{module}.weight_scale"))
            {
                let scale = scale.values()[0];
                expected.iter_mut().for_each(|value| *value *= scale);
            }
            assert_eq!(file.vector(vector).unwrap(), expected, "{name}: {vector}");
        }
        for file in &file.meta().provenance.files {
            assert_eq!(
                file.sha256,
                sha256(&folder.join(&file.name)),
                "{name}: {}",
                file.name
            );
        }
    }
}

fn sha256(path: &Path) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(fs::read(path).unwrap())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The checkpoint's module of a matrix in the packed file.
fn module(matrix: &str) -> String {
    match matrix {
        "embed" => "model.embed_tokens".into(),
        "head" => "lm_head".into(),
        layered => {
            let (layer, name) = layered.rsplit_once('.').unwrap();
            let (_, module, ..) = LINEARS.iter().find(|linear| linear.0 == name).unwrap();
            format!("model.{layer}.{module}")
        }
    }
}

fn vector_source(vector: &str, config: &Value) -> String {
    let one_bit_llm = config["architectures"][0] == "BitnetForCausalLM";
    if vector == "norm" {
        return "model.norm.weight".into();
    }
    let (layer, name) = vector
        .strip_prefix("layers.")
        .unwrap()
        .split_once('.')
        .unwrap();
    let module = match name {
        "attn_norm" => "input_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        "attn_sub_norm" if one_bit_llm => "self_attn.inner_attn_ln",
        "ffn_sub_norm" if one_bit_llm => "mlp.ffn_layernorm",
        "attn_sub_norm" => "self_attn.attn_sub_norm",
        "ffn_sub_norm" => "mlp.ffn_sub_norm",
        "q_norm" => "self_attn.q_norm",
        "k_norm" => "self_attn.k_norm",
        other => {
            let (matrix, kind) = other.split_once('.').unwrap();
            let kind = if kind == "input_norm" {
                "rms_norm.weight"
            } else {
                kind
            };
            return format!("{}.{kind}", module(&format!("layers.{layer}.{matrix}")));
        }
    };
    format!("model.layers.{layer}.{module}.weight")
}

fn check_matrix(
    what: &str,
    matrix: MatrixRef<'_>,
    transposed: bool,
    config: &Value,
    tensors: &BTreeMap<String, Tensor>,
    module: &str,
) {
    // Where element `i` of the checkpoint's matrix, row by row, is stored.
    let place = |i: usize| match transposed {
        true => (i % matrix.rows(), i / matrix.rows()),
        false => (i / matrix.cols(), i % matrix.cols()),
    };
    let source = &tensors[&format!("{module}.weight")];
    if let Some(expected) = few_bits(&matrix, config, tensors, module) {
        assert_eq!(expected.len(), matrix.rows() * matrix.cols(), "{what}");
        for (i, value) in expected.iter().enumerate() {
            let (row, col) = place(i);
            assert_eq!(matrix.value(row, col), *value, "{what}: {i}");
        }
        return;
    }
    if matrix.layout() != Layout::T2 {
        let values = source.values();
        assert_eq!([matrix.rows(), matrix.cols()], source.shape[..], "{what}");
        let own = match source.dtype {
            Dtype::F32 => Layout::F32,
            Dtype::F16 => Layout::F16,
            _ => Layout::BF16,
        };
        assert_eq!(matrix.layout(), own, "{what}");
        for (i, value) in values.iter().enumerate() {
            let stored = matrix.value(i / matrix.cols(), i % matrix.cols());
            assert_eq!(stored.to_bits(), value.to_bits(), "{what}: {i}");
        }
        return;
    }
    let (codes, multiplier) = if source.dtype == Dtype::U8 {
        let scale = tensors[&format!("{module}.weight_scale")].values()[0];
        let multiplies = config["quantization_config"]["linear_class"] == "autobitlinear";
        (unpack(source), if multiplies { scale } else { 1.0 / scale })
    } else {
        quantize(&source.values())
    };
    assert_eq!(codes.len(), matrix.rows() * matrix.cols(), "{what}");
    for (i, code) in codes.iter().enumerate() {
        let (row, col) = place(i);
        assert_eq!(matrix.code(row, col), *code, "{what}: {i}");
    }
    let Scales::Tensor(stored) = matrix.scales() else {
        panic!("{what}: {:?}", matrix.scales())
    };
    assert_eq!(stored.to_bits(), multiplier.to_bits(), "{what}");
}

/// The weights of a matrix that is stored in few bits but not as BitNet does, multiplied out.
fn few_bits(
    matrix: &MatrixRef<'_>,
    config: &Value,
    tensors: &BTreeMap<String, Tensor>,
    module: &str,
) -> Option<Vec<f32>> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let tensor = |part: &str| tensors.get(&format!("{module}.{part}"));
    let source = tensor("weight").unwrap();
    let quantization = &config["quantization_config"];
    let group = |k: usize| k / 128;
    if source.dtype == Dtype::U32 {
        let bits = config["quantization"]["bits"].as_u64().unwrap() as usize;
        assert_eq!(matrix.layout(), [Layout::B1R64, Layout::T2R16][bits - 1]);
        let [scales, biases] = ["scales", "biases"].map(|part| tensor(part).unwrap().values());
        let (row_bytes, groups) = (cols * bits / 8, cols.div_ceil(128));
        let value = |i: usize| {
            let (row, k) = (i / cols, i % cols);
            let byte = source.bytes[row * row_bytes + k * bits / 8];
            let code = byte >> (k * bits % 8) & ((1 << bits) - 1);
            let at = row * groups + group(k);
            f32::from(code) * scales[at] + biases[at]
        };
        return Some((0..rows * cols).map(value).collect());
    }
    if quantization["quant_method"] == "onebit" && module.ends_with("_proj") {
        let binary = quantization["weights"] == "binary";
        assert_eq!(matrix.layout().is_binary(), binary);
        let signs = quantization["activations"] == "binary";
        assert_eq!(matrix.layout() == Layout::B1, binary && signs);
        let Some(scale) = tensor("weight_scale") else {
            let masters = source.values();
            let (codes, multiplier) = quantize(&masters);
            let sum: f64 = masters.iter().map(|x| f64::from(x.abs())).sum();
            let mean = (sum / masters.len() as f64) as f32;
            let sign = |x: &f32| if *x >= 0.0 { mean } else { -mean };
            let ternary = || codes.iter().map(|code| *code as f32 * multiplier).collect();
            return Some(if binary {
                masters.iter().map(sign).collect()
            } else {
                ternary()
            });
        };
        let (scales, row_bytes) = (scale.values(), cols.div_ceil(8));
        let codes: Vec<i32> = if binary {
            let bit =
                |i: usize| source.bytes[i / cols * row_bytes + i % cols / 8] >> (i % cols % 8) & 1;
            (0..rows * cols)
                .map(|i| i32::from(bit(i)) * 2 - 1)
                .collect()
        } else {
            unpack(source)
        };
        let scale = |i: usize| match scales.len() {
            1 => scales[0],
            _ => scales[i / cols * cols.div_ceil(128) + group(i % cols)],
        };
        return Some(
            codes
                .iter()
                .enumerate()
                .map(|(i, code)| *code as f32 * scale(i))
                .collect(),
        );
    }
    let packed = matches!(matrix.scales(), Scales::Groups { size: 128 });
    packed.then(|| source.values())
}
