//! A tiny packed model with random weights and one of the small tokenizers.

#![allow(dead_code, reason = "every test file uses a part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use onebit_format::{ActivationMode, Layout, PackedFile, Plan, Provenance, Scales, Writer, pack};
use onebit_kernels::{Kernels, KvType};
use onebit_model::{Activation, Model, ModelSpec, RopeSpec};
use onebit_runtime::{Engine, Pool, Session, SessionOptions, Tokenizer};

pub(crate) const VOCAB: usize = 800;

/// The folder of a small tokenizer.
pub(crate) fn tokenizer_folder(style: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/tokenizers")
        .join(style)
}

/// A small tokenizer of a style.
pub(crate) fn tokenizer(style: &str) -> Tokenizer {
    Tokenizer::from_dir(&tokenizer_folder(style)).unwrap()
}

pub(crate) fn spec() -> ModelSpec {
    ModelSpec {
        architecture: "test".into(),
        hidden: 64,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        ffn: 96,
        vocab: VOCAB,
        max_positions: 256,
        norm_eps: 1e-5,
        rope: RopeSpec::new(10_000.0),
        activation: Activation::Relu2,
        tied_head: true,
        attn_sub_norm: true,
        ffn_sub_norm: true,
        ..ModelSpec::default()
    }
}

/// Numbers that look random and are the same everywhere.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

fn plan(spec: &ModelSpec, tokenizer_json: &[u8]) -> Plan {
    let mut plan = Plan::new(serde_json::to_value(spec).unwrap(), Provenance::default());
    plan.generation.eos = vec![VOCAB as u32 - 1];
    plan.chat_template = Some(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}".into(),
    );
    plan.matrix(
        "embed",
        Layout::F32,
        spec.vocab,
        spec.hidden,
        ActivationMode::F32,
    );
    for (name, rows, cols) in matrices(spec) {
        plan.matrix(name, Layout::T2, rows, cols, ActivationMode::I8Token);
    }
    for (name, len) in vectors(spec) {
        plan.vector(name, len);
    }
    plan.blob("tokenizer.json", tokenizer_json.len());
    plan
}

fn matrices(spec: &ModelSpec) -> Vec<(String, usize, usize)> {
    let (hidden, ffn, q, kv) = (spec.hidden, spec.ffn, spec.q_width(), spec.kv_width());
    let shapes = [
        ("q", q, hidden),
        ("k", kv, hidden),
        ("v", kv, hidden),
        ("o", hidden, q),
        ("gate", ffn, hidden),
        ("up", ffn, hidden),
        ("down", hidden, ffn),
    ];
    let layer = |i| shapes.map(|(name, rows, cols)| (format!("layers.{i}.{name}"), rows, cols));
    (0..spec.layers).flat_map(layer).collect()
}

fn vectors(spec: &ModelSpec) -> Vec<(String, usize)> {
    let lens = [
        ("attn_norm", spec.hidden),
        ("ffn_norm", spec.hidden),
        ("attn_sub_norm", spec.q_width()),
        ("ffn_sub_norm", spec.ffn),
    ];
    let layer = |i| lens.map(|(name, len)| (format!("layers.{i}.{name}"), len));
    (0..spec.layers)
        .flat_map(layer)
        .chain([("norm".to_owned(), spec.hidden)])
        .collect()
}

/// Writes the model, with random ternary weights and embeddings.
pub(crate) fn write_model(path: &Path, style: &str) {
    write_model_of(path, style, &spec());
}

fn write_model_of(path: &Path, style: &str, spec: &ModelSpec) {
    let mut numbers = Numbers(7);
    let tokenizer = std::fs::read(tokenizer_folder(style).join("tokenizer.json")).unwrap();
    let mut writer = Writer::create(path, plan(spec, &tokenizer)).unwrap();
    let mut row = vec![0u8; Layout::F32.row_bytes(spec.hidden).unwrap()];
    let mut matrix = writer.write_matrix("embed").unwrap();
    for _ in 0..spec.vocab {
        let values: Vec<f32> = (0..spec.hidden)
            .map(|_| numbers.next() as f32 / (1u64 << 30) as f32 - 1.0)
            .collect();
        pack::f32_row(&values, &mut row).unwrap();
        matrix.rows(&row).unwrap();
    }
    matrix.finish(Scales::None).unwrap();
    for (name, rows, cols) in matrices(spec) {
        let mut row = vec![0u8; Layout::T2.row_bytes(cols).unwrap()];
        let mut matrix = writer.write_matrix(&name).unwrap();
        for _ in 0..rows {
            let codes: Vec<i8> = (0..cols).map(|_| (numbers.next() % 3) as i8 - 1).collect();
            pack::ternary_row(&codes, &mut row);
            matrix.rows(&row).unwrap();
        }
        matrix.finish(Scales::Tensor(0.1)).unwrap();
    }
    for (name, len) in vectors(spec) {
        writer.write_vector(&name, &vec![1.0; len]).unwrap();
    }
    writer.write_blob("tokenizer.json", &tokenizer).unwrap();
    writer.finish().unwrap();
}

/// The model in memory, with the tokenizer of a style.
pub(crate) fn model(style: &str) -> Arc<Model> {
    model_of(style, &spec())
}

/// The same weights in another network.
pub(crate) fn model_of(style: &str, spec: &ModelSpec) -> Arc<Model> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.onebit");
    write_model_of(&path, style, spec);
    Arc::new(Model::from_file(Arc::new(PackedFile::read_to_heap(&path).unwrap())).unwrap())
}

/// The model mapped from a file, and the folder of that file.
pub(crate) fn mapped_model(style: &str, spec: &ModelSpec) -> (tempfile::TempDir, Model) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.onebit");
    write_model_of(&path, style, spec);
    let model = Model::open(&path).unwrap();
    (dir, model)
}

/// The model with a number of threads.
pub(crate) fn engine(model: &Arc<Model>, kernels: &'static Kernels, threads: usize) -> Engine {
    Engine::new(
        Arc::clone(model),
        kernels,
        Arc::new(Pool::new(threads).unwrap()),
    )
}

/// A session of up to `context` tokens in batches of `batch`.
pub(crate) fn session(engine: &Engine, context: usize, batch: usize) -> Session {
    let options = SessionOptions {
        context,
        batch,
        kv: KvType::F32.into(),
        ..SessionOptions::new(engine.model().spec())
    };
    engine.session(options).unwrap()
}
