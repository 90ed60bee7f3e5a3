//! Weights that are multiplied with zero are left out, and nothing changes.

mod common;

use std::sync::Arc;

use common::chosen::sets;
use common::run::{Backwards, Runner, Threads, bits, tokens};
use common::{Recipe, shapes};
use onebit_format::{Layout, PackedFile, Plan, Writer, pack};
use onebit_kernels::{Executor, Kernels, Serial};
use onebit_model::{KvType, Model, ModelError, Row, Step, Workspace};

/// The same file with every `down` stored transposed.
fn turned(file: &PackedFile) -> PackedFile {
    let meta = file.meta();
    let mut plan = Plan::new(meta.model.clone(), meta.provenance.clone());
    for (name, matrix) in &meta.matrices {
        let layout = Layout::from_id(&matrix.layout).unwrap();
        match name.ends_with(".down") {
            true => plan.transposed_matrix(name, matrix.cols, matrix.rows, matrix.activation),
            false => plan.matrix(name, layout, matrix.rows, matrix.cols, matrix.activation),
        };
    }
    for (name, len) in &meta.vectors {
        plan.vector(name, *len);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("turned.onebit");
    let mut writer = Writer::create(&path, plan).unwrap();
    for name in meta.matrices.keys() {
        let matrix = file.matrix(name).unwrap();
        let mut out = writer.write_matrix(name).unwrap();
        if name.ends_with(".down") {
            let mut row = vec![0; Layout::T2.row_bytes(matrix.rows()).unwrap()];
            for k in 0..matrix.cols() {
                let codes: Vec<i8> = (0..matrix.rows())
                    .map(|r| matrix.code(r, k) as i8)
                    .collect();
                pack::ternary_row(&codes, &mut row);
                out.rows(&row).unwrap();
            }
        } else {
            out.rows(matrix.bytes()).unwrap();
        }
        out.finish(matrix.scales()).unwrap();
    }
    for name in meta.vectors.keys() {
        writer
            .write_vector(name, file.vector(name).unwrap())
            .unwrap();
    }
    writer.finish().unwrap();
    PackedFile::read_to_heap(&path).unwrap()
}

/// Squared ReLU with and without sub-norms and biases, and SiLU, whose zeros are only those of rounding.
fn recipes() -> [(&'static str, Recipe); 4] {
    let mut biased = shapes::bitnet();
    biased.spec.mlp_bias = true;
    let mut wide = shapes::odd();
    wide.spec.ffn = 1300;
    wide.spec.hidden = 600;
    [
        ("bitnet", shapes::bitnet()),
        ("biases", biased),
        ("several strips and lists", wide),
        ("silu", shapes::llama(Layout::T2)),
    ]
}

#[test]
fn a_transposed_down_gives_the_same_bits() {
    for (name, recipe) in recipes() {
        let model = recipe.model(7);
        let other = Model::from_file(Arc::new(turned(model.file()))).unwrap();
        let ids = tokens(&model, 9, 1);
        let expected =
            bits(&Runner::new(&model, Kernels::by_name("scalar").unwrap(), &Serial).logits(&ids));
        for kernels in sets() {
            let executors: [&dyn Executor; 4] =
                [&Serial, &Backwards(3), &Backwards(100), &Threads(4)];
            for executor in executors {
                for (model, chunk) in [
                    (&*model, 1),
                    (&other, 1),
                    (&other, 2),
                    (&other, 4),
                    (&other, 9),
                ] {
                    let mut runner = Runner::new(model, kernels, executor);
                    if chunk == 1 {
                        // No room for what many threads add.
                        runner.workspace = Workspace::new(model, 1, 1).unwrap();
                    }
                    let mut cache = runner.cache(KvType::F32);
                    let logits = bits(&runner.extend(&mut cache, &ids, chunk));
                    assert!(
                        logits == expected,
                        "{name}: {}, {} threads, steps of {chunk}",
                        kernels.name(),
                        executor.threads()
                    );
                }
            }
        }
    }
}

/// Bytes that a step of one token leaves out.
fn skipped(model: &Model, rows: &[Row]) -> u64 {
    let mut runner = Runner::new(model, Kernels::best(), &Backwards(2));
    let mut cache = runner.cache(KvType::F32);
    let step = Step {
        rows,
        caches: &mut [&mut cache],
        logits_for: &[],
        hidden: false,
    };
    let output = model
        .forward(runner.kernels, runner.executor, &mut runner.workspace, step)
        .unwrap();
    output.skipped_bytes()
}

#[test]
fn what_is_left_out_is_counted() {
    let rows: Vec<Row> = (0..2)
        .map(|position| Row {
            sequence: 0,
            position,
            token: 5,
        })
        .collect();
    let recipe = shapes::bitnet();
    let model = recipe.model(7);
    let other = Model::from_file(Arc::new(turned(model.file()))).unwrap();
    let spec = &recipe.spec;
    let up = (spec.layers * spec.ffn * Layout::T2.row_bytes(spec.hidden).unwrap()) as u64;
    let only_up = skipped(&model, &rows[..1]);
    let both = skipped(&other, &rows[..1]);
    assert!(
        (up / 4..up * 3 / 4).contains(&only_up),
        "about half of the gates are not above zero: {only_up} of {up}"
    );
    // An input of down is zero wherever the gate is not above zero, and rounds to zero elsewhere.
    let down = (spec.layers * spec.ffn * Layout::T2.row_bytes(spec.hidden).unwrap()) as u64;
    assert!(
        both >= 2 * only_up && both < up + down,
        "{both} of {up} + {down}"
    );
    assert_eq!(
        skipped(&other, &rows),
        0,
        "steps of several rows read everything"
    );
    assert!((model.bytes_per_token() as u64) > up + down);
    let silu = shapes::llama(Layout::T2).model(7);
    assert_eq!(skipped(&silu, &rows[..1]), 0);
}

#[test]
fn matrices_are_transposed_only_where_kernels_can_multiply_them() {
    let recipe = shapes::float_inputs(Layout::T2);
    let file = turned(recipe.model(7).file());
    let error = Model::from_file(Arc::new(file)).unwrap_err();
    assert!(matches!(error, ModelError::Layout { .. }), "{error}");
    assert!(error.to_string().contains("transposed"), "{error}");
}
