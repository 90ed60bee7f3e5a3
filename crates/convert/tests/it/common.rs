//! Tiny checkpoints made on the fly, and what they should become, computed the obvious way.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use onebit_convert::{ConvertError, Options, Report, convert};
use onebit_format::PackedFile;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const HIDDEN: usize = 40;
pub(crate) const FFN: usize = 68;
pub(crate) const VOCAB: usize = 33;
pub(crate) const LAYERS: usize = 2;
pub(crate) const HEADS: usize = 4;
pub(crate) const KV_HEADS: usize = 2;
pub(crate) const HEAD_DIM: usize = 10;

/// A weight of the last layer.
pub(crate) const UP: &str = "model.layers.1.mlp.up_proj.weight";

/// The linears of a layer: name in the file, module in the checkpoint, rows, columns.
pub(crate) const LINEARS: [(&str, &str, usize, usize); 7] = [
    ("q", "self_attn.q_proj", HIDDEN, HIDDEN),
    ("k", "self_attn.k_proj", KV_HEADS * HEAD_DIM, HIDDEN),
    ("v", "self_attn.v_proj", KV_HEADS * HEAD_DIM, HIDDEN),
    ("o", "self_attn.o_proj", HIDDEN, HIDDEN),
    ("gate", "mlp.gate_proj", FFN, HIDDEN),
    ("up", "mlp.up_proj", FFN, HIDDEN),
    ("down", "mlp.down_proj", HIDDEN, FFN),
];

#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

impl Tensor {
    pub(crate) fn floats(dtype: Dtype, shape: &[usize], values: &[f32]) -> Self {
        let bytes = match dtype {
            Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Dtype::F16 => values
                .iter()
                .flat_map(|v| f16::from_f32(*v).to_le_bytes())
                .collect(),
            Dtype::BF16 => values
                .iter()
                .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
                .collect(),
            other => panic!("{other} is not a float type"),
        };
        Self {
            dtype,
            shape: shape.to_vec(),
            bytes,
        }
    }

    /// The numbers, whatever float type they are in.
    pub(crate) fn values(&self) -> Vec<f32> {
        let pairs = || self.bytes.chunks(2).map(|b| [b[0], b[1]]);
        match self.dtype {
            Dtype::F32 => self
                .bytes
                .chunks(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                .collect(),
            Dtype::F16 => pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
            Dtype::BF16 => pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
            other => panic!("{other} is not a float type"),
        }
    }
}

/// A checkpoint in memory, to be changed and written.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) config: Value,
    pub(crate) tensors: BTreeMap<String, Tensor>,
    /// Further files by name.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

impl Model {
    /// Writes `config.json`, one `model.safetensors` and the further files.
    pub(crate) fn write(&self, dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("config.json"), self.config.to_string()).unwrap();
        fs::write(dir.join("model.safetensors"), serialize(&self.tensors)).unwrap();
        for (name, bytes) in &self.files {
            fs::write(dir.join(name), bytes).unwrap();
        }
    }

    /// Writes shards instead, tensor number `i` to shard `i % count`, with their index.
    pub(crate) fn write_sharded(&self, dir: &Path, count: usize) {
        self.write(dir);
        fs::remove_file(dir.join("model.safetensors")).unwrap();
        let mut shards = vec![BTreeMap::new(); count];
        let mut map = serde_json::Map::new();
        for (i, (name, tensor)) in self.tensors.iter().enumerate() {
            shards[i % count].insert(name.clone(), tensor.clone());
            map.insert(name.clone(), shard_name(i % count).into());
        }
        for (i, shard) in shards.iter().enumerate() {
            fs::write(dir.join(shard_name(i)), serialize(shard)).unwrap();
        }
        let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
        fs::write(dir.join("model.safetensors.index.json"), index.to_string()).unwrap();
    }

    pub(crate) fn insert(&mut self, name: &str, dtype: Dtype, shape: &[usize], values: &[f32]) {
        self.tensors
            .insert(name.into(), Tensor::floats(dtype, shape, values));
    }

    pub(crate) fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors
            .get_mut(name)
            .unwrap_or_else(|| panic!("no tensor {name}"))
    }
}

pub(crate) fn shard_name(number: usize) -> String {
    format!("model-{number:05}.safetensors")
}

pub(crate) fn serialize(tensors: &BTreeMap<String, Tensor>) -> Vec<u8> {
    let views = tensors.iter().map(|(name, t)| {
        (
            name.clone(),
            TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap(),
        )
    });
    safetensors::serialize(views, None).unwrap()
}

/// A safetensors file with any header, right or wrong.
pub(crate) fn raw_safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

/// Numbers that look random and are the same every time.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 16
    }

    /// Floats in -1..1.
    pub(crate) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count)
            .map(|_| (self.next() % 2001) as f32 / 1000.0 - 1.0)
            .collect()
    }

    pub(crate) fn codes(&mut self, count: usize) -> Vec<i8> {
        (0..count).map(|_| (self.next() % 3) as i8 - 1).collect()
    }
}

/// Four rows per byte: byte row r holds rows r, r + R, r + 2R and r + 3R, low bits first.
pub(crate) fn pack(codes: &[i8], rows: usize, cols: usize) -> Tensor {
    let packed_rows = rows / 4;
    let mut bytes = vec![0u8; packed_rows * cols];
    for row in 0..rows {
        for col in 0..cols {
            let code = (codes[row * cols + col] + 1) as u8;
            bytes[row % packed_rows * cols + col] |= code << (2 * (row / packed_rows));
        }
    }
    Tensor {
        dtype: Dtype::U8,
        shape: vec![packed_rows, cols],
        bytes,
    }
}

/// A Llama without a `quantization_config`.
pub(crate) fn dense_llama(dtype: Dtype) -> Model {
    let mut model = Model {
        config: json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama",
            "hidden_size": HIDDEN, "intermediate_size": FFN, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "vocab_size": VOCAB,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
            "tie_word_embeddings": false,
        }),
        tensors: BTreeMap::new(),
        files: BTreeMap::new(),
    };
    let mut numbers = Numbers::new(7);
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        model.insert(
            name,
            dtype,
            &[VOCAB, HIDDEN],
            &numbers.floats(VOCAB * HIDDEN),
        );
    }
    model.insert(
        "model.norm.weight",
        dtype,
        &[HIDDEN],
        &numbers.floats(HIDDEN),
    );
    for layer in 0..LAYERS {
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            model.insert(
                &weight(layer, norm),
                dtype,
                &[HIDDEN],
                &numbers.floats(HIDDEN),
            );
        }
        for (_, module, rows, cols) in LINEARS {
            model.insert(
                &weight(layer, module),
                dtype,
                &[rows, cols],
                &numbers.floats(rows * cols),
            );
        }
    }
    model
}

/// A Llama with packed linears, whose scales are multipliers or divisors by `linear_class`.
pub(crate) fn packed_llama(linear_class: Option<&str>) -> Model {
    let mut model = dense_llama(Dtype::BF16);
    model.config["quantization_config"] =
        json!({"quant_method": "bitnet", "modules_to_not_convert": null});
    if let Some(class) = linear_class {
        model.config["quantization_config"]["linear_class"] = class.into();
    }
    let mut numbers = Numbers::new(9);
    for layer in 0..LAYERS {
        for (i, (_, module, rows, cols)) in LINEARS.into_iter().enumerate() {
            model.tensors.insert(
                weight(layer, module),
                pack(&numbers.codes(rows * cols), rows, cols),
            );
            let scale = format!("model.layers.{layer}.{module}.weight_scale");
            model.insert(&scale, Dtype::BF16, &[1], &[0.5 + i as f32 / 8.0]);
        }
    }
    model
}

/// The layout of microsoft/bitnet-b1.58-2B-4T: packed, sub-norms, tied.
pub(crate) fn packed_bitnet() -> Model {
    let mut model = packed_llama(Some("autobitlinear"));
    as_bitnet(&mut model);
    model.config["quantization_config"]["quantization_mode"] = "offline".into();
    model
}

/// The same network as float masters that are quantized online.
pub(crate) fn online_bitnet() -> Model {
    let mut model = dense_llama(Dtype::BF16);
    as_bitnet(&mut model);
    model.config["quantization_config"] = json!({"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"});
    model
}

fn as_bitnet(model: &mut Model) {
    model.config["architectures"] = json!(["BitNetForCausalLM"]);
    model.config["model_type"] = "bitnet".into();
    model.config["hidden_act"] = "relu2".into();
    model.config["tie_word_embeddings"] = true.into();
    model.tensors.remove("lm_head.weight");
    sub_norms(model, "self_attn.attn_sub_norm", "mlp.ffn_sub_norm");
}

pub(crate) fn sub_norms(model: &mut Model, attn: &str, ffn: &str) {
    let mut numbers = Numbers::new(11);
    for layer in 0..LAYERS {
        model.insert(
            &weight(layer, attn),
            Dtype::BF16,
            &[HIDDEN],
            &numbers.floats(HIDDEN),
        );
        model.insert(
            &weight(layer, ffn),
            Dtype::BF16,
            &[FFN],
            &numbers.floats(FFN),
        );
    }
}

pub(crate) fn weight(layer: usize, module: &str) -> String {
    format!("model.layers.{layer}.{module}.weight")
}

/// Codes of a packed tensor, the obvious way.
pub(crate) fn unpack(tensor: &Tensor) -> Vec<i32> {
    let [packed_rows, cols] = tensor.shape[..] else {
        panic!("not a matrix")
    };
    let mut codes = vec![0; packed_rows * 4 * cols];
    for (i, byte) in tensor.bytes.iter().enumerate() {
        for quarter in 0..4 {
            let row = i / cols + quarter * packed_rows;
            codes[row * cols + i % cols] = i32::from((byte >> (2 * quarter)) & 3) - 1;
        }
    }
    codes
}

/// Codes and multiplier of float masters: s = 1 / max(mean |w|, 1e-5), round(w s), clamp.
pub(crate) fn quantize(values: &[f32]) -> (Vec<i32>, f32) {
    let mean = values.iter().map(|v| f64::from(v.abs())).sum::<f64>() / values.len() as f64;
    let scale = 1.0 / (mean as f32).max(1e-5);
    let codes = values
        .iter()
        .map(|v| (v * scale).round_ties_even().clamp(-1.0, 1.0) as i32);
    (codes.collect(), 1.0 / scale)
}

/// A folder for a source and one for the output.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        Self { dir }
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.dir.path().join("out/model.onebit")
    }

    /// Names in the folder of the output.
    pub(crate) fn left_over(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path().join("out")).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect()
    }

    pub(crate) fn convert(&self, options: &Options) -> Result<Report, ConvertError> {
        convert(&self.source(), &self.output(), options, &mut ())
    }

    pub(crate) fn open(&self) -> PackedFile {
        PackedFile::open(&self.output()).unwrap()
    }
}

/// Writes and converts a model.
pub(crate) fn converted(model: &Model, options: &Options) -> (Place, Report, PackedFile) {
    let place = Place::new();
    model.write(&place.source());
    let report = place.convert(options).unwrap();
    let file = place.open();
    (place, report, file)
}
