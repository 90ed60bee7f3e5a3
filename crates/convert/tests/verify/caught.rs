//! Files with one thing wrong are refused.

use super::*;
use crate::mutate::{LINEARS, Parts, Scale};
use onebit_model::{Activation, WindowSpec};

/// Tokens looked at.
const TOKENS: usize = 32;

/// The ternary checkpoints, by what they are about.
const TERNARY: [&str; 8] = [
    "bitnet_packed",
    "bitnet_online",
    "bitnet_bitlinear",
    "llama_bitlinear",
    "llama_bitlinear_bias",
    "llama_bitlinear_f16_scales",
    "llama_autobitlinear_bias",
    "llama_autobitlinear_online",
];

/// With every matrix stored by rows, as [`Parts`] changes them.
fn by_rows(options: &Options) -> Options {
    let mut options = options.clone();
    options.down = DownType::Rows;
    options
}

/// Packs each source, breaks the file, and expects a refusal.
#[track_caller]
fn caught(sources: &[PathBuf], options: &Options, what: &str, break_it: impl Fn(&mut Parts)) {
    let place = Place::new();
    for source in sources {
        let packed = place.pack(source, &by_rows(options)).unwrap();
        let mut parts = Parts::read(&packed);
        break_it(&mut parts);
        parts.write(&packed);
        let (found, failure) = measure(source, &packed, TOKENS);
        assert!(
            failure.is_some(),
            "{what} in {} is not noticed: {found}",
            source.display()
        );
    }
}

/// Taking a file apart and writing it again is not what is noticed below.
#[test]
fn nothing_wrong_is_noticed_in_what_was_only_taken_apart() {
    let place = Place::new();
    for source in everything() {
        let packed = place.pack(&source, &by_rows(&Options::default())).unwrap();
        let before = measure(&source, &packed, TOKENS).0;
        Parts::read(&packed).write(&packed);
        let (found, failure) = measure(&source, &packed, TOKENS);
        assert_eq!(failure, None, "{}: {found}", source.display());
        assert_eq!(found.worst_kl, before.worst_kl, "{}", source.display());
    }
}

fn ternary() -> Vec<PathBuf> {
    TERNARY
        .map(checkpoint)
        .into_iter()
        .chain([demo()])
        .collect()
}

fn with_sub_norms() -> Vec<PathBuf> {
    ["bitnet_packed", "bitnet_online", "bitnet_bitlinear"]
        .map(checkpoint)
        .into_iter()
        .chain([demo()])
        .collect()
}

fn dense() -> Vec<PathBuf> {
    [
        "llama_dense_bf16",
        "llama_dense_bf16_tied",
        "llama_dense_f16",
        "llama_dense_f32",
    ]
    .map(checkpoint)
    .into()
}

fn everything() -> Vec<PathBuf> {
    [ternary(), dense()].concat()
}

pub(crate) fn plain(sources: Vec<PathBuf>, what: &str, break_it: impl Fn(&mut Parts)) {
    caught(&sources, &Options::default(), what, break_it);
}

/// Into rows 4r to 4r + 3 instead of r, r + R, r + 2R and r + 3R.
pub(crate) fn swap_row_packing(parts: &mut Parts, names: &[&str]) {
    for matrix in parts.linears(names) {
        let quarter = matrix.rows / 4;
        matrix.permute_rows(|row| row / 4 + row % 4 * quarter);
    }
}

fn invert_scales(parts: &mut Parts, names: &[&str]) {
    for matrix in parts.linears(names) {
        if let Scale::Tensor(scale) = &mut matrix.scale {
            *scale = 1.0 / *scale;
        }
    }
}

#[test]
fn a_scale_that_divides_instead_of_multiplying() {
    plain(ternary(), "an inverted scale", |parts| {
        invert_scales(parts, &LINEARS)
    });
    plain(ternary(), "an inverted scale of q", |parts| {
        invert_scales(parts, &["q"])
    });
}

#[test]
fn rows_packed_in_another_order() {
    plain(ternary(), "another order of rows", |parts| {
        swap_row_packing(parts, &LINEARS)
    });
    plain(ternary(), "another order of rows of down", |parts| {
        swap_row_packing(parts, &["down"])
    });
}

#[test]
fn a_missing_sub_norm() {
    plain(with_sub_norms(), "no attn_sub_norm", |parts| {
        parts.spec.attn_sub_norm = false;
        parts
            .vectors
            .retain(|name, _| !name.ends_with(".attn_sub_norm"));
    });
    plain(with_sub_norms(), "no ffn_sub_norm", |parts| {
        parts.spec.ffn_sub_norm = false;
        parts
            .vectors
            .retain(|name, _| !name.ends_with(".ffn_sub_norm"));
    });
}

#[test]
fn another_base_of_the_rotary_embedding() {
    plain(everything(), "theta 50 times as large", |parts| {
        parts.spec.rope.theta *= 50.0
    });
    plain(everything(), "theta twice as large", |parts| {
        parts.spec.rope.theta *= 2.0
    });
}

/// Rows of q and k in an order that makes neighbours turn together.
#[test]
fn interleaved_instead_of_half_split_rotation() {
    plain(everything(), "interleaved rotation", |parts| {
        let width = parts.spec.head_dim;
        for matrix in parts.linears(&["q", "k"]) {
            matrix.permute_rows(|row| {
                let (head, i) = (row / width * width, row % width);
                head + i % (width / 2) * 2 + i / (width / 2)
            });
        }
    });
}

/// Query head `h` with kv head `h % kv_heads`: heads reordered so that the decoder pairs them like this.
#[test]
fn query_heads_with_the_wrong_kv_heads() {
    let several: Vec<_> = ternary()
        .into_iter()
        .filter(|path| !path.ends_with("llama_bitlinear_f16_scales"))
        .collect();
    plain(several, "kv heads by remainder", |parts| {
        let (width, kv, group) = (parts.spec.head_dim, parts.spec.kv_heads, parts.spec.group());
        assert!(kv > 1 && group > 1);
        let from = |i: usize| (i / width % group * kv + i / width / group) * width + i % width;
        parts
            .linears(&["q"])
            .for_each(|matrix| matrix.permute_rows(from));
        parts
            .linears(&["o"])
            .for_each(|matrix| matrix.permute_cols(from));
        for (name, norm) in &mut parts.vectors {
            if name.ends_with(".attn_sub_norm") {
                *norm = (0..norm.len()).map(|i| norm[from(i)]).collect();
            }
        }
    });
}

#[test]
fn one_row_of_weights_with_its_signs_flipped() {
    for name in ["q", "k", "v", "o"] {
        plain(ternary(), &format!("a flipped row of {name}"), |parts| {
            parts.linears(&[name]).next().unwrap().negate_row(1)
        });
    }
    for name in LINEARS {
        plain(dense(), &format!("a flipped row of {name}"), |parts| {
            parts.linears(&[name]).next().unwrap().negate_row(1)
        });
    }
    plain(
        everything(),
        "a flipped row of the embeddings or of the head",
        |parts| {
            for name in ["embed", "head"] {
                if let Some(matrix) = parts.matrices.get_mut(name) {
                    (0..matrix.rows)
                        .step_by(8)
                        .for_each(|row| matrix.negate_row(row));
                }
            }
        },
    );
}

pub(crate) fn exchange_gate_and_up(parts: &mut Parts) {
    for layer in 0..parts.spec.layers {
        let [gate, up] = ["gate", "up"].map(|name| format!("layers.{layer}.{name}"));
        let matrix = parts.matrices.remove(&gate).unwrap();
        let matrix = parts.matrices.insert(up, matrix).unwrap();
        parts.matrices.insert(gate, matrix);
    }
}

#[test]
fn another_network() {
    plain(everything(), "another activation", |parts| {
        parts.spec.activation = match parts.spec.activation {
            Activation::Silu => Activation::Relu2,
            _ => Activation::Silu,
        };
    });
    plain(everything(), "a window", |parts| {
        parts.spec.windows = Some(WindowSpec {
            size: 8,
            first_layer: 0,
        });
    });
    plain(everything(), "gate and up exchanged", exchange_gate_and_up);
    plain(dense(), "another epsilon", |parts| {
        parts.spec.norm_eps = 1e-3
    });
}

/// `autobitlinear` multiplies its bias by the stored scale.
#[test]
fn biases_without_their_scale() {
    plain(
        vec![checkpoint("llama_autobitlinear_bias")],
        "a bias that is not scaled",
        |parts| {
            for (name, bias) in &mut parts.vectors {
                if let Some(matrix) = name.strip_suffix(".bias")
                    && let Scale::Tensor(scale) = parts.matrices[matrix].scale
                {
                    bias.iter_mut().for_each(|value| *value /= scale);
                }
            }
        },
    );
    let with_bias = [
        "llama_bitlinear_bias",
        "llama_dense_bf16_tied",
        "llama_autobitlinear_bias",
    ];
    plain(with_bias.map(checkpoint).into(), "no bias", |parts| {
        (parts.spec.attn_bias, parts.spec.mlp_bias) = (false, false);
        parts.vectors.retain(|name, _| !name.ends_with(".bias"));
    });
}

/// The loose limits of 8 and 4 bits still catch what breaks a model.
#[test]
fn faults_beside_small_types() {
    for kind in ["q8", "q4"] {
        let mut options = Options::default();
        options.head = Some(kind.parse().unwrap());
        let sources = [
            checkpoint("bitnet_packed"),
            checkpoint("llama_bitlinear"),
            demo(),
        ];
        caught(&sources, &options, "an inverted scale", |parts| {
            invert_scales(parts, &LINEARS)
        });
        caught(&sources, &options, "another order of rows", |parts| {
            swap_row_packing(parts, &LINEARS)
        });
    }
}

/// Weights so large that the logits are not finite.
#[test]
fn logits_that_are_not_finite() {
    plain(ternary(), "an infinite scale", |parts| {
        for matrix in parts.linears(&LINEARS) {
            if let Scale::Tensor(scale) = &mut matrix.scale {
                *scale = f32::MAX;
            }
        }
    });
}
