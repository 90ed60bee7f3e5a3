//! Correct files are within the limits, and the two evaluations agree as closely as floats can.

use super::*;
use crate::mutate::Parts;
use onebit_convert::{FloatType, Precision, TokenSource, WeightType};

#[test]
fn every_fixture_is_within_its_limits() {
    let place = Place::new();
    for source in sources() {
        let packed = place.pack(&source, &Options::default()).unwrap();
        let positions = Parts::read(&packed).spec.max_positions;
        for tokens in [1, 5, 32, 100].map(|tokens| positions.min(tokens)) {
            let (found, failure) = measure(&source, &packed, tokens);
            assert_eq!(failure, None, "{}: {found}", source.display());
            assert_eq!(found.tokens, tokens);
        }
    }
}

/// Where no activation is rounded, nothing but the order of float sums can differ.
#[test]
fn dense_models_agree_to_the_last_digits() {
    let place = Place::new();
    for name in [
        "llama_dense_bf16",
        "llama_dense_bf16_tied",
        "llama_dense_f16",
        "llama_dense_f32",
    ] {
        let packed = place.pack(&checkpoint(name), &Options::default()).unwrap();
        let (found, _) = measure(&checkpoint(name), &packed, 64);
        assert_eq!(found.precision, Precision::Float, "{name}");
        assert!(found.max_error < 1e-4 * found.spread, "{name}: {found}");
        assert!(
            found.worst_kl < 1e-9 && found.agreement == 1.0,
            "{name}: {found}"
        );
    }
}

/// Where an activation is rounded, both sides round alike but for values between two codes: most positions of
/// small models have none.
#[test]
fn ternary_models_agree_to_the_last_digits_before_the_first_tie() {
    let place = Place::new();
    for name in [
        "bitnet_packed",
        "bitnet_online",
        "bitnet_bitlinear",
        "llama_bitlinear",
        "llama_autobitlinear_bias",
    ] {
        let packed = place.pack(&checkpoint(name), &Options::default()).unwrap();
        let (found, _) = measure(&checkpoint(name), &packed, 8);
        assert_eq!(found.precision, Precision::Int8, "{name}");
        assert!(found.max_error < 1e-4 * found.spread, "{name}: {found}");
    }
}

#[test]
fn the_demo_model_is_verified_on_text() {
    let place = Place::new();
    let packed = place.pack(&demo(), &Options::default()).unwrap();
    let (found, failure) = measure(&demo(), &packed, 64);
    assert_eq!(failure, None, "{found}");
    assert_eq!((found.tokens, found.token_source), (64, TokenSource::Text));
    assert_eq!(found.agreement, 1.0, "{found}");
    assert_eq!(measure(&demo(), &packed, 64).0, found, "the same again");
    let (fixture, _) = measure(&demo(), &fixtures().join("demo/demo.onebit"), 64);
    assert_eq!(
        fixture.mean_kl, found.mean_kl,
        "the packed file in the tree"
    );
}

#[test]
fn smaller_types_are_judged_by_their_own_limits() {
    let place = Place::new();
    for (kind, precision) in [
        (FloatType::F16, Precision::F16),
        (FloatType::Q8, Precision::Q8),
        (FloatType::Q4, Precision::Q4),
    ] {
        for source in [
            "llama_dense_f32",
            "llama_autobitlinear_tied",
            "bitnet_packed",
            "llama_bitlinear",
        ] {
            for (head, embed) in [(true, false), (true, true)] {
                let mut options = Options::default();
                options.head = head.then_some(kind);
                options.embed = embed.then_some(kind);
                check(&place, source, &options, precision);
            }
        }
    }
    for (kind, precision) in [
        (WeightType::F16, Precision::F16),
        (WeightType::Q8, Precision::Q8),
        (WeightType::Q4, Precision::Q4),
    ] {
        for source in [
            "llama_dense_f32",
            "llama_dense_bf16_tied",
            "llama_dense_f16",
        ] {
            let mut options = Options::default();
            options.weights = kind;
            check(&place, source, &options, precision);
        }
    }
}

fn check(place: &Place, source: &str, options: &Options, precision: Precision) {
    let packed = place.pack(&checkpoint(source), options).unwrap();
    let (found, failure) = measure(&checkpoint(source), &packed, 48);
    assert_eq!(failure, None, "{source} {options:?}: {found}");
    // f16 holds the small test models' bf16 and f16 weights exactly, but is another type than bf16.
    match (precision, found.precision) {
        (Precision::F16, Precision::Float | Precision::Int8 | Precision::F16) => {}
        (expected, found) => assert_eq!(found, expected, "{source} {options:?}"),
    }
    if precision >= Precision::Q8 {
        assert!(found.mean_kl > 1e-6, "{source}: {found}");
    }
}
