//! Steps, caches and workspaces that are refused, and what they leave behind.

mod common;

use common::run::{Runner, bits, rows, tokens};
use common::shapes;
use onebit_kernels::{Kernels, Serial};
use onebit_model::{
    ErrorKind, InputForms, KvCache, KvOptions, KvType, MAX_POSITIONS, ModelError, ModelSpec, Row,
    Step, Workspace,
};

#[test]
fn refused_steps_name_the_reason_and_change_nothing() {
    let model = shapes::bitnet().model(1);
    let mut runner = Runner::new(&model, Kernels::best(), &Serial);
    let ids = tokens(&model, 5, 1);
    let expected = bits(&runner.logits(&ids));
    let mut cache = runner.cache(KvType::F32);
    runner.extend(&mut cache, &ids[..3], 3);

    let row = |sequence, position, token| Row {
        sequence,
        position,
        token,
    };
    let too_long: Vec<Row> = (0..65).map(|i| row(0, 3 + i, 0)).collect();
    let cases: [(&[Row], &str); 7] = [
        (
            &[row(0, 3, 61)],
            "token id 61 is out of range: the vocabulary has 61 entries",
        ),
        (
            &[row(0, 3, u32::MAX)],
            "token id 4294967295 is out of range: the vocabulary has 61 entries",
        ),
        (
            &[row(0, 3, 1), row(0, 5, 1)],
            "position 5 does not continue sequence 0: expected 4",
        ),
        (
            &[row(0, 2, 1)],
            "position 2 does not continue sequence 0: expected 3",
        ),
        (
            &[row(0, 3, 1), row(1, 0, 1)],
            "row 1 names sequence 1, but the step has 1 caches",
        ),
        (&[], "0 rows in one step: the workspace allows 1 to 64"),
        (
            &too_long,
            "65 rows in one step: the workspace allows 1 to 64",
        ),
    ];
    for (rows, message) in cases {
        let error = runner.step(rows, &mut [&mut cache]).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.kind(), ErrorKind::Request);
        assert_eq!(cache.len(), 3);
    }
    assert!(bits(&runner.extend(&mut cache, &ids[3..], 2)) == expected[3..]);
}

#[test]
fn a_full_context_is_refused_before_it_is_written() {
    let model = shapes::bitnet().model(1);
    let mut runner = Runner::new(&model, Kernels::best(), &Serial);
    let mut cache =
        KvCache::new(model.spec(), KvOptions::new(KvType::F32, KvType::F16), 60).unwrap();
    assert_eq!(cache.capacity(), 64);
    runner.extend(&mut cache, &tokens(&model, 64, 1), 64);
    let error = runner
        .step(&rows(0, 64, &[1]), &mut [&mut cache])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "context full: position 64 of sequence 0 does not fit a context of 64 tokens"
    );
    assert!(matches!(
        error,
        ModelError::ContextFull { capacity: 64, .. }
    ));
    assert_eq!(error.kind(), ErrorKind::Request);
    assert_eq!(cache.len(), 64);
}

#[test]
fn logits_must_be_of_rows_and_fit() {
    let model = shapes::bitnet().model(1);
    let mut workspace = Workspace::new(&model, 4, 1).unwrap();
    let mut cache = KvCache::new(model.spec(), KvType::F32, 64).unwrap();
    let rows = rows(0, 0, &[1, 2]);
    for (logits_for, message) in [
        (&[2][..], "logits asked for row 2, but the step has 2 rows"),
        (
            &[0, 1],
            "2 rows of logits in one step: the workspace allows 1 to 1",
        ),
    ] {
        let step = Step {
            rows: &rows,
            caches: &mut [&mut cache],
            logits_for,
            hidden: false,
        };
        let error = model
            .forward(Kernels::best(), &Serial, &mut workspace, step)
            .map(|_| ())
            .unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn caches_and_workspaces_of_other_models_are_refused() {
    let (model, other) = (shapes::bitnet().model(1), shapes::odd().model(1));
    let mut workspace = Workspace::new(&model, 1, 1).unwrap();
    let mut cache = KvCache::new(other.spec(), KvType::F32, 64).unwrap();
    let rows = rows(0, 0, &[1]);
    for (model, what) in [(&model, "cache"), (&other, "workspace")] {
        let step = Step {
            rows: &rows,
            caches: &mut [&mut cache],
            logits_for: &[0],
            hidden: false,
        };
        let error = model
            .forward(Kernels::best(), &Serial, &mut workspace, step)
            .map(|_| ())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("this {what} was made for a model of another shape")
        );
    }
}

#[test]
fn absurd_sizes_are_refused() {
    let model = shapes::bitnet().model(1);
    let cache = |capacity| KvCache::new(model.spec(), KvType::F32, capacity).map(|_| ());
    for capacity in [0, MAX_POSITIONS + 1, usize::MAX] {
        assert!(matches!(cache(capacity), Err(ModelError::Capacity { .. })));
    }
    assert_eq!(Workspace::new(&model, 0, 0).unwrap().max_rows(), 1);
    for (rows, logits) in [(usize::MAX, 1), (1, usize::MAX), (usize::MAX / 4096, 1)] {
        let error = Workspace::new(&model, rows, logits)
            .map(|_| ())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Memory);
    }
}

#[test]
fn options_out_of_range_are_refused() {
    let model = shapes::bitnet().model(1);
    let base = KvOptions::from(KvType::F16);
    for (options, message) in [
        (
            KvOptions { sinks: 65, ..base },
            "KV cache: sinks 65 must be at most 64",
        ),
        (
            KvOptions {
                window: Some(0),
                ..base
            },
            "KV cache: window 0 must be at least 1",
        ),
    ] {
        let error = KvCache::new(model.spec(), options, 64).map(|_| ());
        let error = error.unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.kind(), ErrorKind::Request);
    }
    let spec = ModelSpec {
        head_dim: 512,
        ..model.spec().clone()
    };
    assert!(KvCache::new(&spec, KvType::Q8, 64).is_ok());
    let error = KvCache::new(&spec, KvType::Q4, 64).map(|_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a KV cache of type q4 takes heads of at most 256 elements, the model's have 512: use q8 or f16"
    );
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn planned_sizes() {
    let spec = shapes::bitnet().spec;
    let bytes =
        |keys, values, capacity| KvCache::bytes(&spec, KvOptions::new(keys, values), capacity);
    assert_eq!(
        bytes(KvType::F32, KvType::F16, 65),
        Some(3 * 2 * 128 * 16 * (4 + 2))
    );
    assert_eq!(
        bytes(KvType::Q8, KvType::Q8, 64),
        Some(3 * 2 * 64 * (16 + 4) * 2)
    );
    assert_eq!(bytes(KvType::F16, KvType::F16, usize::MAX), None);
    // 128 rows, then 64 recent and 4 first ones of 16 bytes and a scale of 4.
    assert_eq!(
        bytes(KvType::Q4, KvType::B1, 128),
        Some(3 * 2 * (128 * (8 + 2 + 2 + 2) + 2 * 68 * 20))
    );
    let narrow = KvOptions {
        window: Some(20),
        ..KvOptions::from(KvType::F32)
    };
    // A ring of 64 beside the first block.
    assert_eq!(
        KvCache::bytes(&spec, narrow, 1024),
        Some(3 * 2 * 128 * 16 * 4 * 2)
    );
    let absurd = KvOptions {
        window: Some(usize::MAX),
        recent: usize::MAX,
        ..KvOptions::from(KvType::Q2)
    };
    assert_eq!(
        KvCache::bytes(&spec, absurd, 128),
        Some(3 * 2 * 2 * (128 * (4 + 2) + 132 * 20))
    );
    let codes = InputForms {
        codes: true,
        ..InputForms::default()
    };
    let small = Workspace::bytes(&spec, codes, 1, 1).unwrap();
    let large = Workspace::bytes(&spec, codes, 512, 1).unwrap();
    assert!(small < large && large < 512 * small);
    for more in [
        InputForms {
            floats: true,
            ..codes
        },
        InputForms {
            groups: true,
            ..codes
        },
        InputForms {
            bits: true,
            ..codes
        },
    ] {
        assert!(Workspace::bytes(&spec, more, 512, 1).unwrap() > large);
    }
    assert_eq!(Workspace::bytes(&spec, codes, usize::MAX, 1), None);
}
