//! Small random models, packed in memory, and ways to run them.

#![allow(dead_code)] // each test binary uses a part

#[path = "../../../kernels/tests/sets/chosen.rs"]
pub(crate) mod chosen;
pub(crate) mod counting;
pub(crate) mod reference;
pub(crate) mod run;
pub(crate) mod shapes;

use std::path::Path;
use std::sync::Arc;

use half::f16;
use onebit_format::{
    ActivationMode, I4_GROUP, Layout, PackedFile, Plan, Provenance, SIGN_GROUP, Scales, Writer,
    pack,
};
use onebit_model::{Activations, Model, ModelSpec};

/// A seeded generator (splitmix64).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Uniform in -1..1.
    pub(crate) fn symmetric(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// A tensor of a file to be packed; its values are random.
#[derive(Clone, Debug)]
pub(crate) enum Tensor {
    Matrix {
        name: String,
        layout: Layout,
        rows: usize,
        cols: usize,
        activation: ActivationMode,
        /// Whether a ternary or binary matrix has group scales.
        grouped: bool,
    },
    Vector {
        name: String,
        len: usize,
    },
}

impl Tensor {
    pub(crate) fn matrix(
        name: impl Into<String>,
        layout: Layout,
        rows: usize,
        cols: usize,
    ) -> Self {
        let activation = usual_activation(layout);
        Self::Matrix {
            name: name.into(),
            layout,
            rows,
            cols,
            activation,
            grouped: false,
        }
    }

    pub(crate) fn vector(name: impl Into<String>, len: usize) -> Self {
        Self::Vector {
            name: name.into(),
            len,
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Matrix { name, .. } | Self::Vector { name, .. } => name,
        }
    }
}

/// Floats for float layouts, int8 for integer ones.
pub(crate) fn usual_activation(layout: Layout) -> ActivationMode {
    if layout.is_float() {
        ActivationMode::F32
    } else {
        ActivationMode::I8Token
    }
}

/// A spec and the layouts of its matrices.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) spec: ModelSpec,
    pub(crate) linears: Layout,
    /// What the inputs of the linears are turned into.
    pub(crate) activation: ActivationMode,
    pub(crate) embed: Layout,
    pub(crate) head: Layout,
    /// Whether ternary and binary matrices have group scales.
    pub(crate) grouped: bool,
    /// Whether int8 per group takes the place of floats.
    pub(crate) int8: bool,
}

impl Recipe {
    pub(crate) fn model(&self, seed: u64) -> Arc<Model> {
        let config = serde_json::to_value(&self.spec).unwrap();
        let file = Arc::new(pack_file(config, &self.tensors(), seed));
        let model = Model::from_file(file).unwrap();
        if !self.int8 {
            return Arc::new(model);
        }
        Arc::new(model.with_activations(Activations::Int8).unwrap())
    }

    /// The embedding or the head. Ternary and binary ones are trained as the linears are.
    fn table(&self, name: &str, layout: Layout) -> Tensor {
        let signs = layout.is_ternary() || layout.is_binary();
        Tensor::Matrix {
            name: name.into(),
            layout,
            rows: self.spec.vocab,
            cols: self.spec.hidden,
            activation: if signs {
                self.activation
            } else {
                usual_activation(layout)
            },
            grouped: signs && self.grouped,
        }
    }

    /// The canonical tensors of the spec.
    pub(crate) fn tensors(&self) -> Vec<Tensor> {
        let spec = &self.spec;
        let mut tensors = vec![self.table("embed", self.embed)];
        for layer in 0..spec.layers {
            self.layer(&format!("layers.{layer}"), &mut tensors);
        }
        tensors.push(Tensor::vector("norm", spec.hidden));
        if !spec.tied_head {
            tensors.push(self.table("head", self.head));
        }
        tensors
    }

    fn layer(&self, layer: &str, tensors: &mut Vec<Tensor>) {
        let spec = &self.spec;
        let (hidden, q, kv, ffn) = (spec.hidden, spec.q_width(), spec.kv_width(), spec.ffn);
        let vectors = [
            (true, "attn_norm", hidden),
            (true, "ffn_norm", hidden),
            (spec.attn_sub_norm, "attn_sub_norm", q),
            (spec.ffn_sub_norm, "ffn_sub_norm", ffn),
            (spec.qk_norm, "q_norm", spec.head_dim),
            (spec.qk_norm, "k_norm", spec.head_dim),
        ];
        for (_, name, len) in vectors.into_iter().filter(|v| v.0) {
            tensors.push(Tensor::vector(format!("{layer}.{name}"), len));
        }
        let linears = [
            ("q", q, hidden, spec.attn_bias),
            ("k", kv, hidden, spec.attn_bias),
            ("v", kv, hidden, spec.attn_bias),
            ("o", hidden, q, spec.attn_bias),
            ("gate", ffn, hidden, spec.mlp_bias),
            ("up", ffn, hidden, spec.mlp_bias),
            ("down", hidden, ffn, spec.mlp_bias),
        ];
        for (name, rows, cols, bias) in linears {
            let (layout, activation) = (self.linears, self.activation);
            let matrix = format!("{layer}.{name}");
            tensors.push(Tensor::Matrix {
                name: matrix,
                layout,
                rows,
                cols,
                activation,
                grouped: self.grouped,
            });
            if bias {
                tensors.push(Tensor::vector(format!("{layer}.{name}.bias"), rows));
            }
            if spec.input_norm_eps.is_some() {
                tensors.push(Tensor::vector(format!("{layer}.{name}.input_norm"), cols));
            }
        }
    }
}

/// Packs `tensors` with random values under the config `model`, in memory.
pub(crate) fn pack_file(model: serde_json::Value, tensors: &[Tensor], seed: u64) -> PackedFile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onebit");
    pack_to(&path, model, tensors, seed);
    PackedFile::read_to_heap(&path).unwrap()
}

/// The same at `path`.
pub(crate) fn pack_to(path: &Path, model: serde_json::Value, tensors: &[Tensor], seed: u64) {
    let mut plan = Plan::new(
        model,
        Provenance {
            source: "random".into(),
            ..Provenance::default()
        },
    );
    for tensor in tensors {
        match tensor {
            Tensor::Matrix {
                name,
                layout,
                rows,
                cols,
                activation,
                grouped,
            } if *grouped => plan.grouped_matrix(name, *layout, *rows, *cols, *activation),
            Tensor::Matrix {
                name,
                layout,
                rows,
                cols,
                activation,
                ..
            } => plan.matrix(name, *layout, *rows, *cols, *activation),
            Tensor::Vector { name, len } => plan.vector(name, *len),
        };
    }
    let mut writer = Writer::create(path, plan).unwrap();
    let mut rng = Rng(seed);
    for tensor in tensors {
        match tensor {
            Tensor::Matrix {
                name,
                layout,
                rows,
                cols,
                grouped,
                ..
            } => {
                let shape = [*rows, *cols];
                write_matrix(&mut writer, name, *layout, shape, *grouped, &mut rng)
            }
            Tensor::Vector { name, len } => {
                let (base, spread) = if name.ends_with("bias") {
                    (0.0, 0.3)
                } else {
                    (1.0, 0.5)
                };
                let values: Vec<f32> = (0..*len).map(|_| base + spread * rng.symmetric()).collect();
                writer.write_vector(name, &values).unwrap();
            }
        }
    }
    writer.finish().unwrap();
}

fn write_matrix(
    writer: &mut Writer,
    name: &str,
    layout: Layout,
    [rows, cols]: [usize; 2],
    grouped: bool,
    rng: &mut Rng,
) {
    let mut out = vec![0; layout.band_bytes(cols).unwrap()];
    let mut band: Vec<i8> = Vec::new();
    let mut matrix = writer.write_matrix(name).unwrap();
    let spread = if name == "embed" {
        1.0
    } else {
        (3.0 / cols as f32).sqrt()
    };
    let (mut row_scales, mut weights) = (Vec::new(), Vec::new());
    for row in 0..rows {
        let codes: Vec<i8> = (0..cols).map(|_| rng.below(3) as i8 - 1).collect();
        let signs: Vec<i8> = (0..cols).map(|_| 1 - 2 * rng.below(2) as i8).collect();
        let x: Vec<f32> = (0..cols).map(|_| spread * rng.symmetric()).collect();
        match layout {
            _ if layout.is_ternary() || layout.is_binary() => {
                band.extend(if layout.is_binary() { &signs } else { &codes });
                if (row + 1) % layout.atom_rows() > 0 && row + 1 < rows {
                    continue;
                }
                pack::code_rows(layout, &band, cols, &mut out);
                band.clear();
            }
            Layout::I8 => row_scales.push(pack::quantize_i8_row(&x, &mut out)),
            Layout::I4 => {
                let mut scales = vec![f16::ZERO; cols.div_ceil(I4_GROUP)];
                pack::quantize_i4_row(&x, &mut out, &mut scales);
                let stored = pack::with_scales(layout, cols, &out, &scales);
                matrix.rows(&stored).unwrap();
                continue;
            }
            Layout::F16 => pack::f16_row(&x, &mut out).unwrap(),
            Layout::BF16 => pack::bf16_row(&x, &mut out).unwrap(),
            Layout::F32 => pack::f32_row(&x, &mut out).unwrap(),
            _ => unreachable!("no test uses {layout}"),
        }
        match grouped {
            true => weights.extend_from_slice(&out),
            false => matrix.rows(&out).unwrap(),
        }
    }
    if grouped {
        // After all codes, so that every layout gets the same.
        let scale = |_| f16::from_f32((1.0 + 0.5 * rng.symmetric()) * spread);
        let scales = rows * cols.div_ceil(SIGN_GROUP);
        let scales: Vec<f16> = (0..scales).map(scale).collect();
        let stored = pack::with_scales(layout, cols, &weights, &scales);
        matrix.rows(&stored).unwrap();
    }
    let scales = match layout {
        _ if grouped => Scales::Groups { size: SIGN_GROUP },
        _ if layout.is_ternary() || layout.is_binary() => {
            Scales::Tensor((1.0 + 0.3 * rng.symmetric()) * spread)
        }
        Layout::I8 => Scales::Rows(&row_scales),
        Layout::I4 => Scales::Groups { size: I4_GROUP },
        _ => Scales::None,
    };
    matrix.finish(scales).unwrap();
}
