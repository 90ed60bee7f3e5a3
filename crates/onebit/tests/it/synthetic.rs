//! A model of middle size with made-up weights and no tokenizer.

use half::f16;
use onebit_format::{Layout, Plan, Provenance, SIGN_GROUP, Scales, Writer, pack};
use onebit_model::{ModelSpec, RopeSpec};
use onebit_runtime::{Encoding, Shape, ShapeTensor, Stored, TensorShape};
use std::path::{Path, PathBuf};

/// Its shape: 16 KiB of keys and values per position as f16, and more positions than anybody has memory for.
pub(crate) fn shape() -> Shape {
    Shape {
        spec: ModelSpec {
            architecture: "LlamaForCausalLM".into(),
            hidden: 512,
            layers: 4,
            heads: 8,
            kv_heads: 8,
            head_dim: 128,
            ffn: 1024,
            vocab: 20_000,
            max_positions: 1 << 20,
            norm_eps: 1e-5,
            rope: RopeSpec::new(10_000.0),
            tied_head: true,
            ..ModelSpec::default()
        },
        keep: Layout::BF16,
        linear: Layout::T2,
        grouped: false,
    }
}

/// Writes a model of that shape below `folder`.
pub(crate) fn write(folder: &Path, shape: &Shape, encoding: &Encoding) -> PathBuf {
    let path = folder.join("synthetic.onebit");
    let tensors = ShapeTensor::all(&shape.spec);
    let mut plan = Plan::new(
        serde_json::to_value(&shape.spec).unwrap(),
        Provenance::default(),
    );
    for tensor in &tensors {
        encoding.add(&mut plan, tensor);
    }
    let mut writer = Writer::create(&path, plan).unwrap();
    for tensor in &tensors {
        match tensor.shape {
            TensorShape::Vector(len) => writer.write_vector(&tensor.name, &vec![1.0; len]).unwrap(),
            TensorShape::Matrix { rows, cols } => {
                let stored = encoding.stored(&tensor.name, rows, cols);
                write_matrix(&mut writer, &tensor.name, stored, [rows, cols]);
            }
        }
    }
    writer.finish().unwrap();
    path
}

fn write_matrix(writer: &mut Writer, name: &str, stored: Stored, [rows, cols]: [usize; 2]) {
    let layout = stored.layout;
    let mut packed = vec![0; layout.band_bytes(cols).unwrap()];
    let mut band = Vec::new();
    let mut out = writer.write_matrix(name).unwrap();
    for row in 0..rows {
        let code = |col: usize| ((row * 31 + col * 7) % 3) as i8 - 1;
        let mut codes: Vec<i8> = (0..cols).map(code).collect();
        if layout.is_binary() {
            codes.iter_mut().for_each(|code| *code |= 1);
        }
        match layout {
            _ if layout.is_ternary() || layout.is_binary() => {
                band.extend(codes);
                if (row + 1) % layout.atom_rows() > 0 && row + 1 < rows {
                    continue;
                }
                pack::code_rows(layout, &band, cols, &mut packed);
                band.clear();
            }
            _ => {
                let values: Vec<f32> = codes.iter().map(|code| f32::from(*code) * 0.05).collect();
                pack::bf16_row(&values, &mut packed).unwrap();
            }
        }
        match stored.grouped {
            false => out.rows(&packed).unwrap(),
            true => {
                let there = row % layout.atom_rows() + 1;
                let scales = vec![f16::from_f32(0.02); there * cols.div_ceil(SIGN_GROUP)];
                out.rows(&pack::with_scales(layout, cols, &packed, &scales))
                    .unwrap();
            }
        }
    }
    let scales = match layout.is_float() {
        true => Scales::None,
        false if stored.grouped => Scales::Groups { size: SIGN_GROUP },
        false => Scales::Tensor(0.02),
    };
    out.finish(scales).unwrap();
}
