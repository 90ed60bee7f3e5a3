//! Settings that fit a budget, for shapes of real size.

use onebit_model::KvType;
use onebit_runtime::{
    Budget, BudgetSource, ErrorKind, MemoryParts, Open, RuntimeError, SessionOptions, Shape, fit,
    largest_contexts,
};

const ALL: Open = Open {
    kv: true,
    context: true,
    batch: true,
};

fn parts(name: &str) -> MemoryParts {
    let shape = Shape::named(name).unwrap();
    let encoding = shape.encoding(shape.linear, shape.keep);
    MemoryParts::of_shape(&shape, &encoding).unwrap()
}

fn budget(bytes: u64) -> Budget {
    Budget {
        resident: bytes,
        source: BudgetSource::Asked,
        allocatable: None,
    }
}

/// The 2B4T with room for `context` positions.
fn options(parts: &MemoryParts, context: usize) -> SessionOptions {
    SessionOptions {
        context,
        ..SessionOptions::new(parts.spec())
    }
}

#[test]
fn more_memory_never_chooses_less() {
    let parts = parts("2b4t");
    let wanted = options(&parts, 4096);
    let mut before: Option<SessionOptions> = None;
    let mut batches = Vec::new();
    for megabytes in (1200..2000).step_by(5) {
        let limit = budget(megabytes * 1_000_000);
        let Ok(chosen) = fit(&parts, &wanted, ALL, &limit) else {
            assert!(before.is_none(), "{megabytes} MB are too little now");
            continue;
        };
        assert!(limit.holds(&parts.plan(&chosen).unwrap()), "{chosen:?}");
        let size = |kind: KvType| kind.row_bytes(128);
        if let Some(before) = before {
            assert!(
                size(chosen.kv.keys) >= size(before.kv.keys),
                "{megabytes} MB"
            );
        }
        batches.push(chosen.batch);
        before = Some(chosen);
    }
    assert_eq!(before, Some(wanted));
    assert!(batches.iter().any(|batch| *batch < 128));
}

#[test]
fn what_is_fixed_stays() {
    let parts = parts("2b4t");
    let wanted = SessionOptions {
        kv: KvType::F32.into(),
        ..options(&parts, 4096)
    };
    let tight = budget(parts.plan(&wanted).unwrap().total());
    let open = |kv, context, batch| Open { kv, context, batch };
    let context = fit(&parts, &wanted, open(false, true, false), &tight).unwrap();
    assert!(context.context < 4096 && context.context >= 2048);
    assert_eq!((context.kv.keys, context.batch), (KvType::F32, 128));
    let kv = fit(&parts, &wanted, open(true, false, false), &tight).unwrap();
    assert_eq!((kv.kv.keys, kv.context, kv.batch), (KvType::F16, 4096, 128));
    let refused = fit(&parts, &wanted, Open::default(), &tight).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Memory);
}

#[test]
fn refusals_name_what_fits() {
    let parts = parts("2b4t");
    let wanted = options(&parts, 16_384);
    let tight = budget(1_600_000_000);
    let refused = fit(&parts, &wanted, Open::default(), &tight).unwrap_err();
    let RuntimeError::DoesNotFit(refusal) = refused else {
        panic!("{refused}");
    };
    assert!(refusal.nearest.len() >= 2, "{refusal:?}");
    for settings in &refusal.nearest {
        assert!(tight.holds(&parts.plan(settings).unwrap()), "{settings:?}");
    }
    let contexts = refusal.nearest.iter().map(|settings| settings.context);
    assert!(contexts.is_sorted());
    let enough = budget(Budget::least(refusal.needed));
    assert_eq!(
        fit(&parts, &wanted, Open::default(), &enough).unwrap(),
        wanted
    );
    let little = budget(Budget::least(refusal.least) - 1);
    let hopeless = fit(&parts, &wanted, ALL, &little).unwrap_err();
    assert!(hopeless.to_string().contains("GB"), "{hopeless}");
    let layer = fit(&parts, &wanted, ALL, &budget(parts.layer_bytes() - 1)).unwrap_err();
    assert!(layer.to_string().contains("one layer"), "{layer}");
}

#[test]
fn the_largest_contexts_fit_and_no_larger_ones_do() {
    let parts = parts("2b4t");
    let limit = budget(2_000_000_000);
    let wanted = options(&parts, 1);
    for (kind, context) in largest_contexts(&parts, &wanted, &limit) {
        let with = |context| SessionOptions {
            context,
            kv: kind.into(),
            ..wanted
        };
        let holds = |context| limit.holds(&parts.plan(&with(context)).unwrap());
        let context = context.unwrap();
        assert!(holds(context) && !holds(context + 64), "{kind:?} {context}");
    }
}
