//! What each option stores, and what is refused.

use crate::common::*;
use onebit_convert::{ErrorKind, FloatType, Options, WeightType};
use onebit_format::{ActivationMode, Layout};
use onebit_model::ModelSpec;
use safetensors::Dtype;

fn options(weights: &str) -> Options {
    let mut options = Options::default();
    options.weights = weights.parse().unwrap();
    options
}

fn tables(embed: Option<FloatType>, head: Option<FloatType>) -> Options {
    let mut options = Options::default();
    (options.embed, options.head) = (embed, head);
    options
}

#[test]
fn dense_weights_take_the_type_that_was_asked_for() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let model = dense_llama(dtype);
        let own = match dtype {
            Dtype::F32 => Layout::F32,
            Dtype::F16 => Layout::F16,
            _ => Layout::BF16,
        };
        for (name, layout) in [
            ("auto", own),
            ("keep", own),
            ("f16", Layout::F16),
            ("q8", Layout::I8),
            ("q4", Layout::I4),
        ] {
            let (_place, report, file) = converted(&model, &options(name));
            let up = file.matrix("layers.1.up").unwrap();
            assert_eq!(up.layout(), layout, "{dtype} {name}");
            let step = match layout {
                Layout::I4 => 0.15,
                Layout::I8 => 0.005,
                Layout::F16 if dtype == Dtype::F32 => 0.0005,
                _ => 0.0,
            };
            for (i, value) in model.tensors[UP].values().into_iter().enumerate() {
                let stored = up.value(i / HIDDEN, i % HIDDEN);
                assert!(
                    (stored - value).abs() <= step,
                    "{dtype} {name}: {stored} for {value}"
                );
            }
            let mode = if layout.is_float() {
                ActivationMode::F32
            } else {
                ActivationMode::I8Token
            };
            assert_eq!(file.activation("layers.1.up").unwrap(), mode);
            assert_eq!(
                file.matrix("head").unwrap().layout(),
                own,
                "--weights leaves the head alone"
            );
            assert!(report.matrices.iter().all(|matrix| matrix.counts.is_none()));
        }
    }
}

#[test]
fn requests_that_cannot_be_served_are_refused() {
    let mut large = dense_llama(Dtype::F32);
    large.insert(UP, Dtype::F32, &[FFN, HIDDEN], &vec![1e6; FFN * HIDDEN]);
    let mut larger = large.clone();
    larger.insert(UP, Dtype::F32, &[FFN, HIDDEN], &vec![1e30; FFN * HIDDEN]);
    for (model, weights, word) in [
        (
            &dense_llama(Dtype::F32),
            "t2",
            "quantization-aware training",
        ),
        (&packed_bitnet(), "q8", "ternary"),
        (&online_bitnet(), "f16", "ternary"),
        (&large, "f16", UP),
        (&larger, "q4", UP),
    ] {
        let place = Place::new();
        model.write(&place.source());
        let error = place.convert(&options(weights)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request, "{error}");
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(place.left_over(), [""; 0]);
    }
    let error = "x".parse::<WeightType>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Request);
    assert!(error.to_string().contains("`x`"), "{error}");
    assert_eq!(
        "x".parse::<FloatType>().unwrap_err().kind(),
        ErrorKind::Request
    );
}

#[test]
fn tied_tables_are_one_tensor_until_two_types_are_asked_for() {
    use FloatType::{F16, Keep, Q4, Q8};
    let tied = packed_bitnet();
    for (embed, head, embed_layout, head_layout) in [
        (None, None, Layout::BF16, None),
        (None, Some(Q8), Layout::I8, None),
        (Some(Q4), None, Layout::I4, None),
        (Some(F16), Some(F16), Layout::F16, None),
        (Some(Keep), Some(Q8), Layout::BF16, Some(Layout::I8)),
        (Some(Q4), Some(F16), Layout::I4, Some(Layout::F16)),
    ] {
        let (_place, report, file) = converted(&tied, &tables(embed, head));
        assert_eq!(file.matrix("embed").unwrap().layout(), embed_layout);
        assert_eq!(
            file.matrix("head").ok().map(|head| head.layout()),
            head_layout
        );
        let spec: ModelSpec = serde_json::from_value(file.meta().model.clone()).unwrap();
        assert_eq!(spec.tied_head, head_layout.is_none());
        assert_eq!(
            report.notes.iter().any(|note| note.contains("bytes more")),
            head_layout.is_some(),
            "{report}"
        );
    }
    let (_place, _, file) = converted(&dense_llama(Dtype::F16), &tables(Some(Q8), None));
    assert_eq!(file.matrix("embed").unwrap().layout(), Layout::I8);
    assert_eq!(file.matrix("head").unwrap().layout(), Layout::F16);
}
