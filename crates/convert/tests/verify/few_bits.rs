//! Faults of models with weights of one or two bits that are not BitNet's.

use super::*;
use crate::caught::{exchange_gate_and_up, plain, swap_row_packing};
use crate::mutate::{LINEARS, Scale};

/// Weights of one or two bits that are not BitNet's.
#[test]
fn faults_of_models_with_one_or_two_bits() {
    let few_bits = [
        "onebit_binary_binary",
        "onebit_binary_binary_groups",
        "onebit_ternary_ternary",
        "onebit_binary_int8",
        "onebit_binary_float",
    ];
    let floats = [
        "onebit_binary_float",
        "qwen3_signs_binary",
        "qwen3_signs_ternary",
        "qwen3_mlx_1bit",
        "qwen3_mlx_2bit",
    ];
    let all = [few_bits.map(checkpoint), floats.map(checkpoint)].concat();
    plain(all.clone(), "gate and up exchanged", exchange_gate_and_up);
    plain(
        all.clone(),
        "another base of the rotary embedding",
        |parts| parts.spec.rope.theta *= 50.0,
    );
    plain(all, "another order of rows", |parts| {
        swap_row_packing(parts, &LINEARS)
    });
    for name in LINEARS {
        plain(
            floats.map(checkpoint).into(),
            &format!("a flipped row of {name}"),
            |parts| {
                parts.linears(&[name]).next().unwrap().negate_row(1);
            },
        );
    }
    let grouped = [
        checkpoint("onebit_binary_binary_groups"),
        checkpoint("qwen3_signs_binary"),
    ];
    plain(
        grouped.into(),
        "groups with the scales of their neighbours",
        |parts| {
            for matrix in parts.linears(&LINEARS) {
                if let Scale::Groups(_, scales) = &mut matrix.scale {
                    scales.rotate_right(1);
                }
            }
        },
    );
}
