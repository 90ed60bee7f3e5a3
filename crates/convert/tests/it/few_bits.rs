//! Ternary and binary weights that are not stored as BitNet does: found in floats, of the onebit convention, of MLX.

use crate::common::*;
use half::f16;
use onebit_convert::{ConvertError, ErrorKind, Options};
use onebit_format::{ActivationMode, Layout, Scales};
use safetensors::Dtype;
use serde_json::{Value, json};

fn options(weights: &str) -> Options {
    let mut options = Options::default();
    options.weights = weights.parse().unwrap();
    options
}

fn refused(model: &Model, options: &Options) -> ConvertError {
    let place = Place::new();
    model.write(&place.source());
    let error = place.convert(options).unwrap_err();
    assert!(place.left_over().is_empty(), "{error}");
    error
}

#[track_caller]
fn check(model: &Model, kind: ErrorKind, parts: &[&str]) {
    let error = refused(model, &Options::default());
    assert_eq!(error.kind(), kind, "{error}");
    for part in parts {
        let text = error.to_string();
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

/// Values of -d and d, and zeros where `ternary`; a d per row, since rows are shorter than a group.
fn signs(rows: usize, cols: usize, ternary: bool, numbers: &mut Numbers) -> Vec<f32> {
    let mut values = Vec::new();
    for row in 0..rows {
        let d = f16::from_f32(0.05 + row as f32 / 512.0).to_f32();
        let codes = numbers.codes(cols);
        values.extend(codes.iter().map(|code| match (code, ternary) {
            (0, true) => 0.0,
            (1, _) => d,
            _ => -d,
        }));
    }
    values
}

/// A dense model whose linears are ternary or binary by their values.
fn sign_llama(dtype: Dtype, ternary: bool) -> Model {
    let mut model = dense_llama(dtype);
    let mut numbers = Numbers::new(3);
    for layer in 0..LAYERS {
        for (_, module, rows, cols) in LINEARS {
            let values = signs(rows, cols, ternary, &mut numbers);
            model.insert(&weight(layer, module), dtype, &[rows, cols], &values);
        }
    }
    model
}

#[test]
fn floats_of_one_magnitude_are_packed() {
    for (dtype, ternary, layout) in [
        (Dtype::F16, false, Layout::B1R64),
        (Dtype::F32, true, Layout::T2R16),
    ] {
        let model = sign_llama(dtype, ternary);
        let (_place, report, file) = converted(&model, &Options::default());
        let up = file.matrix("layers.1.up").unwrap();
        assert_eq!(up.layout(), layout);
        assert_eq!(file.activation("layers.1.up").unwrap(), ActivationMode::F32);
        for (i, value) in model.tensors[UP].values().into_iter().enumerate() {
            assert_eq!(up.value(i / HIDDEN, i % HIDDEN).to_bits(), value.to_bits());
        }
        let notes = report.notes.join("\n");
        assert!(notes.contains("the values of all linears"), "{notes}");
        assert!(
            notes.contains("lm_head.weight` has other values"),
            "{notes}"
        );
        assert!(file.matrix("head").unwrap().layout().is_float());

        let (_place, report, file) = converted(&model, &options("keep"));
        assert!(file.matrix("layers.1.up").unwrap().layout().is_float());
        assert!(
            !report.notes.iter().any(|note| note.contains("values")),
            "{report}"
        );
        let (_place, _, file) = converted(&model, &options("q8"));
        assert_eq!(file.matrix("layers.1.up").unwrap().layout(), Layout::I8);
        let (_place, _, file) = converted(&model, &options("t2"));
        assert_eq!(file.matrix("layers.1.up").unwrap().layout(), Layout::T2R16);
    }
}

#[test]
fn asking_for_binary_weights_leaves_their_order_to_the_activations() {
    for (activations, layout) in [("binary", Layout::B1), ("int8", Layout::B1R64)] {
        for group in [Value::Null, json!(128)] {
            let model = onebit("binary", activations, group);
            let (_place, _, file) = converted(&model, &options("b1"));
            assert_eq!(file.matrix("layers.1.down").unwrap().layout(), layout);
        }
    }
}

#[test]
fn binary_layouts_hold_no_ternary_weights() {
    let (_place, _, file) = converted(&sign_llama(Dtype::F16, false), &options("b1"));
    assert_eq!(file.matrix("layers.0.q").unwrap().layout(), Layout::B1R64);
    for model in [sign_llama(Dtype::F16, true), packed_bitnet()] {
        let error = refused(&model, &options("b1"));
        assert_eq!(error.kind(), ErrorKind::Request);
        assert!(error.to_string().contains("ternary"), "{error}");
    }
    let error = refused(&dense_llama(Dtype::F16), &options("b1"));
    assert_eq!(error.kind(), ErrorKind::Request);
    assert!(error.to_string().contains("-1 and 1"), "{error}");
}

#[test]
fn one_other_value_leaves_the_whole_model_dense() {
    let mut model = sign_llama(Dtype::F32, false);
    let mut values = model.tensors[UP].values();
    *values.last_mut().unwrap() *= 1.5;
    model.insert(UP, Dtype::F32, &[FFN, HIDDEN], &values);
    let (_place, report, file) = converted(&model, &Options::default());
    assert!(
        !report.notes.iter().any(|note| note.contains("values")),
        "{report}"
    );
    let matrices = &file.meta().matrices;
    assert!(
        matrices
            .values()
            .all(|matrix| matrix.layout == Layout::F32.id())
    );
    assert_eq!(refused(&model, &options("t2")).kind(), ErrorKind::Request);
}

#[test]
fn scales_that_no_f16_holds_leave_their_matrix_dense() {
    let mut model = sign_llama(Dtype::F32, false);
    let values: Vec<f32> = model.tensors[UP]
        .values()
        .iter()
        .map(|x| x * 1.001)
        .collect();
    model.insert(UP, Dtype::F32, &[FFN, HIDDEN], &values);
    let (_place, report, file) = converted(&model, &Options::default());
    assert_eq!(file.matrix("layers.1.up").unwrap().layout(), Layout::F32);
    assert_eq!(
        file.matrix("layers.1.gate").unwrap().layout(),
        Layout::B1R64
    );
    let notes = report.notes.join("\n");
    assert!(
        notes.contains(UP) && notes.contains("stays dense"),
        "{notes}"
    );
}

#[test]
fn groups_of_zeros_and_signed_zeros_are_kept() {
    let mut model = sign_llama(Dtype::F32, false);
    let mut values = model.tensors[UP].values();
    values[..HIDDEN].fill(0.0);
    values[7] = -0.0;
    model.insert(UP, Dtype::F32, &[FFN, HIDDEN], &values);
    let (_place, report, file) = converted(&model, &Options::default());
    let up = file.matrix("layers.1.up").unwrap();
    assert_eq!(up.layout(), Layout::B1R64, "{report}");
    for (k, value) in values[..HIDDEN].iter().enumerate() {
        assert_eq!(up.value(0, k).to_bits(), value.to_bits());
    }
}

#[test]
fn tables_take_the_type_that_was_asked_for() {
    let mut model = sign_llama(Dtype::F16, false);
    let mut numbers = Numbers::new(5);
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        let values = signs(VOCAB, HIDDEN, false, &mut numbers);
        model.insert(name, Dtype::F16, &[VOCAB, HIDDEN], &values);
    }
    let (_place, _, file) = converted(&model, &Options::default());
    assert_eq!(file.matrix("embed").unwrap().layout(), Layout::B1R64);
    assert_eq!(file.matrix("head").unwrap().layout(), Layout::B1R64);
    let mut options = Options::default();
    options.head = Some("q8".parse().unwrap());
    options.embed = Some("keep".parse().unwrap());
    let (_place, _, file) = converted(&model, &options);
    assert_eq!(file.matrix("embed").unwrap().layout(), Layout::F16);
    assert_eq!(file.matrix("head").unwrap().layout(), Layout::I8);
}

/// The packed form of the onebit convention.
fn onebit(weights: &str, activations: &str, group: Value) -> Model {
    let mut model = dense_llama(Dtype::BF16);
    model.config["quantization_config"] = json!({
        "quant_method": "onebit", "weights": weights, "activations": activations, "group_size": group,
    });
    let mut numbers = Numbers::new(11);
    for layer in 0..LAYERS {
        for (_, module, rows, cols) in LINEARS {
            let codes = numbers.codes(rows * cols);
            let packed = match weights {
                "binary" => bits(&codes, rows, cols),
                _ => pack(&codes, rows, cols),
            };
            let name = weight(layer, module);
            model.tensors.insert(name.clone(), packed);
            let shape: &[usize] = if group.is_null() { &[1] } else { &[rows, 1] };
            let scales = vec![0.5; shape.iter().product()];
            let scale = format!("{name}_scale");
            model.insert(&scale, Dtype::F16, shape, &scales);
        }
    }
    model
}

/// Codes above 0 as bits, the least significant first.
fn bits(codes: &[i8], rows: usize, cols: usize) -> Tensor {
    let mut bytes = vec![0u8; rows * cols.div_ceil(8)];
    for (i, _) in codes.iter().enumerate().filter(|(_, code)| **code > 0) {
        bytes[i / cols * cols.div_ceil(8) + i % cols / 8] |= 1 << (i % cols % 8);
    }
    Tensor {
        dtype: Dtype::U8,
        shape: vec![rows, cols.div_ceil(8)],
        bytes,
    }
}

#[test]
fn the_onebit_convention_says_what_was_trained() {
    for (activations, mode) in [
        ("binary", ActivationMode::SignToken),
        ("ternary", ActivationMode::TernaryToken),
        ("int8", ActivationMode::I8Token),
        ("float", ActivationMode::F32),
    ] {
        let binary = match mode {
            ActivationMode::SignToken => Layout::B1,
            _ => Layout::B1R64,
        };
        // Sums of groups are scaled one by one where the weights or, for want of floats, the inputs have scales by group.
        let [one, groups] = match mode {
            ActivationMode::F32 => [Layout::T2R16; 2],
            _ => [Layout::T2, Layout::T2R16],
        };
        for (weights, [one, groups]) in [("binary", [binary; 2]), ("ternary", [one, groups])] {
            let (_place, report, file) = converted(
                &onebit(weights, activations, Value::Null),
                &Options::default(),
            );
            let q = file.matrix("layers.0.q").unwrap();
            assert_eq!(q.layout(), one, "{report}");
            assert!(matches!(q.scales(), Scales::Tensor(0.5)));
            assert_eq!(file.activation("layers.0.q").unwrap(), mode);
            assert_eq!(file.activation("embed").unwrap(), ActivationMode::F32);
            let (_place, _, file) = converted(
                &onebit(weights, activations, json!(128)),
                &Options::default(),
            );
            let q = file.matrix("layers.0.q").unwrap();
            assert_eq!(q.layout(), groups);
            assert!(matches!(q.scales(), Scales::Groups { size: 128 }));
        }
    }
}

#[test]
fn rows_that_are_left_out_one_by_one_have_bytes_of_their_own() {
    for weights in ["auto", "t2"] {
        let mut model = onebit("ternary", "int8", json!(128));
        let layout = |model: &Model, name: &str| {
            let (_place, _, file) = converted(model, &options(weights));
            file.matrix(name).unwrap().layout()
        };
        assert_eq!(layout(&model, "layers.1.up"), Layout::T2R16);
        model.config["hidden_act"] = "relu2".into();
        assert_eq!(layout(&model, "layers.1.up"), Layout::T2);
        assert_eq!(layout(&model, "layers.1.gate"), Layout::T2R16);
    }
}

#[test]
fn dense_holds_ternary_weights_with_one_scale() {
    for activations in ["binary", "ternary", "int8"] {
        let model = onebit("ternary", activations, Value::Null);
        let (_a, _, two) = converted(&model, &options("t2"));
        let (_b, report, dense) = converted(&model, &options("dense"));
        for name in ["layers.0.q", "layers.1.down"] {
            let (two, dense) = (two.matrix(name).unwrap(), dense.matrix(name).unwrap());
            let smaller = Layout::dense(dense.rows(), dense.cols());
            assert_eq!(dense.layout(), smaller, "{report}");
            assert_eq!(smaller, Layout::T5R5, "no rows of 320 columns here");
            for r in 0..two.rows() {
                assert!((0..two.cols()).all(|k| two.value(r, k) == dense.value(r, k)));
            }
        }
        dense.check_hashes().unwrap();
    }
    for (model, reason) in [
        (onebit("binary", "int8", Value::Null), "binary"),
        (onebit("ternary", "int8", json!(128)), "per 128 columns"),
        (onebit("ternary", "float", Value::Null), "floats"),
        (sign_llama(Dtype::F16, true), "per 128 columns"),
        (dense_llama(Dtype::F16), "quantization-aware"),
    ] {
        let error = refused(&model, &options("dense"));
        assert_eq!(error.kind(), ErrorKind::Request, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn a_dense_down_by_columns_takes_two_bits() {
    let mut asked = options("dense");
    asked.down = onebit_convert::DownType::Columns;
    let (_place, _, file) = converted(&packed_bitnet(), &asked);
    let layout = |name: &str| file.matrix(name).unwrap().layout();
    assert_eq!(layout("layers.0.down"), Layout::T2);
    // Rows of `up` are left out one by one where their gate is zero.
    assert_eq!(layout("layers.0.up"), Layout::T5);
    assert_eq!(layout("layers.0.gate"), Layout::T5R5);
    assert!(file.meta().matrices["layers.0.down"].transposed);
}

#[test]
fn binary_weights_may_be_stored_as_ternary_ones() {
    let model = onebit("binary", "int8", Value::Null);
    let (_a, _, own) = converted(&model, &options("keep"));
    let (_b, _, wide) = converted(&model, &options("t2"));
    let (own, wide) = (
        own.matrix("layers.1.up").unwrap(),
        wide.matrix("layers.1.up").unwrap(),
    );
    assert_eq!((own.layout(), wide.layout()), (Layout::B1R64, Layout::T2));
    for r in 0..FFN {
        assert!((0..HIDDEN).all(|k| own.value(r, k) == wide.value(r, k)));
    }
    let error = refused(&model, &options("q8"));
    assert!(error.to_string().contains("binary"), "{error}");
}

#[test]
fn what_the_onebit_convention_does_not_say_is_refused() {
    let base = || onebit("binary", "binary", Value::Null);
    for (key, value) in [
        ("weights", json!("int2")),
        ("activations", json!("int4")),
        ("group_size", json!(64)),
        ("quant_method", json!("gptq")),
        ("modules_to_not_convert", json!(["lm_head", "down_proj"])),
    ] {
        let mut model = base();
        model.config["quantization_config"][key] = value.clone();
        let field = format!("quantization_config.{key}");
        check(&model, ErrorKind::Unsupported, &[&field]);
    }
    for key in ["weights", "activations"] {
        let mut model = base();
        model.config["quantization_config"][key] = Value::Null;
        check(&model, ErrorKind::Malformed, &[key, "missing"]);
    }
    let mut model = base();
    let down = "model.layers.0.mlp.down_proj.weight";
    *model.tensor(down).bytes.last_mut().unwrap() |= 0x80;
    check(
        &model,
        ErrorKind::Malformed,
        &[down, "past the last column"],
    );

    let mut model = base();
    model.tensors.remove(&format!("{UP}_scale"));
    check(&model, ErrorKind::Malformed, &[&format!("{UP}_scale")]);

    let mut model = base();
    model.insert(&format!("{UP}_scale"), Dtype::F32, &[1], &[-1.0]);
    check(&model, ErrorKind::Malformed, &[UP, "-1"]);

    let mut model = base();
    model.insert(UP, Dtype::F32, &[FFN, HIDDEN], &[0.5; FFN * HIDDEN]);
    check(&model, ErrorKind::Malformed, &[UP, "not packed"]);

    let mut model = onebit("ternary", "binary", json!(128));
    model.insert(UP, Dtype::F32, &[FFN, HIDDEN], &[0.5; FFN * HIDDEN]);
    model.tensors.remove(&format!("{UP}_scale"));
    check(&model, ErrorKind::Unsupported, &[UP, "group_size"]);

    let mut model = onebit("binary", "binary", json!(128));
    model.insert(&format!("{UP}_scale"), Dtype::F32, &[FFN, 1], &[0.1; FFN]);
    check(
        &model,
        ErrorKind::Unsupported,
        &[UP, "row 0, group 0", "16 bits"],
    );
    model.insert(
        &format!("{UP}_scale"),
        Dtype::F32,
        &[FFN, 1],
        &[f32::NAN; FFN],
    );
    check(&model, ErrorKind::Malformed, &[UP, "NaN"]);
    model.insert(&format!("{UP}_scale"), Dtype::F32, &[1, FFN], &[0.5; FFN]);
    check(&model, ErrorKind::Malformed, &[UP, "shape"]);
}

const EMBED: &str = "model.embed_tokens";

/// The embeddings as MLX stores them, with 64 columns; the rest is dense.
fn mlx(bits: usize) -> Model {
    let mut model = dense_llama(Dtype::BF16);
    model.config["quantization"] = json!({"group_size": 128, "bits": bits});
    model.config["hidden_size"] = 64.into();
    model.config["head_dim"] = HEAD_DIM.into();
    let widths = |name: &str, shape: &[usize]| match shape {
        [_] => vec![64],
        [rows, HIDDEN] if !name.contains("o_proj") => vec![*rows, 64],
        [HIDDEN, cols] => vec![64, *cols],
        other => other.to_vec(),
    };
    for (name, tensor) in &mut model.tensors {
        let mut shape = widths(name, &tensor.shape);
        if name.contains("o_proj") {
            shape = vec![64, HEADS * HEAD_DIM];
        }
        if name.contains("q_proj") {
            shape = vec![HEADS * HEAD_DIM, 64];
        }
        *tensor = Tensor::floats(Dtype::BF16, &shape, &vec![0.5; shape.iter().product()]);
    }
    let words = 64 * bits / 32;
    let codes = Tensor {
        dtype: Dtype::U32,
        shape: vec![VOCAB, words],
        bytes: vec![0x44; VOCAB * words * 4],
    };
    model.tensors.insert(format!("{EMBED}.weight"), codes);
    let bias = if bits == 1 { -0.25 } else { -0.5 };
    model.insert(
        &format!("{EMBED}.scales"),
        Dtype::F16,
        &[VOCAB, 1],
        &[0.5; VOCAB],
    );
    model.insert(
        &format!("{EMBED}.biases"),
        Dtype::F16,
        &[VOCAB, 1],
        &[bias; VOCAB],
    );
    model
}

#[test]
fn words_of_mlx_are_unpacked_from_their_low_bits() {
    let (_place, _, file) = converted(&mlx(1), &Options::default());
    let embed = file.matrix("embed").unwrap();
    assert_eq!(embed.layout(), Layout::B1R64);
    let row: Vec<f32> = (0..8).map(|k| embed.value(3, k)).collect();
    assert_eq!(row, [-0.25, -0.25, 0.25, -0.25, -0.25, -0.25, 0.25, -0.25]);
    let (_place, _, file) = converted(&mlx(2), &Options::default());
    let embed = file.matrix("embed").unwrap();
    assert_eq!(embed.layout(), Layout::T2R16);
    let row: Vec<f32> = (0..4).map(|k| embed.value(3, k)).collect();
    assert_eq!(row, [-0.5, 0.0, -0.5, 0.0]);
}

#[test]
fn what_mlx_may_say_and_is_not_known_is_refused() {
    for (key, value) in [
        ("bits", json!(4)),
        ("group_size", json!(64)),
        ("mode", json!("mxfp4")),
        ("model.embed_tokens", json!({"bits": 8, "group_size": 64})),
        ("lm_head", json!(false)),
    ] {
        let mut model = mlx(1);
        model.config["quantization"][key] = value;
        check(
            &model,
            ErrorKind::Unsupported,
            &[&format!("quantization.{key}")],
        );
    }
    let mut model = mlx(1);
    model.config["quantization_config"] = json!({"quant_method": "bitnet"});
    check(&model, ErrorKind::Unsupported, &["quantization"]);

    let mut model = mlx(1);
    model.insert(
        &format!("{EMBED}.biases"),
        Dtype::F16,
        &[VOCAB, 1],
        &[-0.5; VOCAB],
    );
    let parts = [EMBED, "row 0, group 0", "binary", "-scale / 2"];
    check(&model, ErrorKind::Unsupported, &parts);
    for (part, other) in [("scales", "biases"), ("biases", "scales")] {
        for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut model = mlx(1);
            for (part, value) in [(part, number), (other, 1.0)] {
                let name = format!("{EMBED}.{part}");
                model.insert(&name, Dtype::F16, &[VOCAB, 1], &[value; VOCAB]);
            }
            let parts = [EMBED, part, "row 0, group 0", "finite"];
            check(&model, ErrorKind::Malformed, &parts);
        }
    }
    model.tensors.remove(&format!("{EMBED}.biases"));
    check(&model, ErrorKind::Malformed, &["biases"]);

    let mut model = mlx(2);
    model.tensor(&format!("{EMBED}.weight")).bytes[9] = 0xc0;
    check(&model, ErrorKind::Unsupported, &[EMBED, "code 3"]);

    let mut model = mlx(1);
    model.tensor(&format!("{EMBED}.weight")).shape = vec![VOCAB * 2, 1];
    check(&model, ErrorKind::Malformed, &[EMBED, "shape"]);

    let mut model = mlx(1);
    model.insert(
        &format!("{EMBED}.weight"),
        Dtype::F16,
        &[VOCAB, 64],
        &[0.5; VOCAB * 64],
    );
    check(&model, ErrorKind::Malformed, &[EMBED, "U32"]);

    let mut options = Options::default();
    options.embed = Some("q8".parse().unwrap());
    let error = refused(&mlx(1), &options);
    assert_eq!(error.kind(), ErrorKind::Request);
    assert!(error.to_string().contains(EMBED), "{error}");
}

#[test]
fn bands_are_whole_where_a_table_is_cut_into_blocks() {
    // Blocks have 26,240 rows of so few columns; the last band has six rows.
    const ROWS: usize = 2 * 26_240 + 70;
    let mut model = sign_llama(Dtype::F16, false);
    model.config["vocab_size"] = ROWS.into();
    let mut numbers = Numbers::new(17);
    let names = ["model.embed_tokens.weight", "lm_head.weight"];
    for name in names {
        let values = signs(ROWS, HIDDEN, false, &mut numbers);
        model.insert(name, Dtype::F16, &[ROWS, HIDDEN], &values);
    }
    let (_place, _, file) = converted(&model, &Options::default());
    for (name, source) in ["embed", "head"].into_iter().zip(names) {
        let table = file.matrix(name).unwrap();
        assert_eq!(table.layout(), Layout::B1R64);
        let expected = model.tensors[source].values();
        let mut row = [0.0; HIDDEN];
        for (r, expected) in expected.chunks(HIDDEN).enumerate() {
            table.decode_row(r, &mut row);
            assert_eq!(row[..], *expected, "{name}, row {r}");
        }
    }
}
