//! The decoder against a plain `f64` one, for every combination of features.

mod common;

use common::run::{Runner, tokens};
use common::{reference, shapes};
use onebit_kernels::{Kernels, Serial};

/// Where an activation lies this close to a rounding tie (in steps), `f32` and `f64` may fall on different sides of it.
const TIE: f64 = 2e-5;

#[test]
fn logits_agree_with_a_plain_decoder() {
    for (name, recipe) in shapes::all() {
        let mut compared = 0;
        for seed in 0..40 {
            let model = recipe.model(seed);
            let ids = tokens(&model, 7, seed);
            let expected = reference::run(&model, &ids);
            if expected.nearest_tie < TIE {
                continue;
            }
            let logits = Runner::new(&model, Kernels::best(), &Serial).logits(&ids);
            let pairs = logits
                .iter()
                .flatten()
                .zip(expected.logits.iter().flatten());
            let worst = pairs
                .map(|(a, b)| (f64::from(*a) - b).abs())
                .fold(0.0, f64::max);
            assert!(
                worst < 1e-3,
                "{name}, seed {seed}: logits differ by {worst}"
            );
            let largest = logits
                .iter()
                .flatten()
                .fold(0.0f32, |max, x| max.max(x.abs()));
            assert!(
                largest > 0.5,
                "{name}: logits are too small for the comparison to mean anything"
            );
            compared += 1;
            if compared == 4 {
                break;
            }
        }
        assert_eq!(compared, 4, "{name}: too few runs keep clear of ties");
    }
}
