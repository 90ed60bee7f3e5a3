//! The decoder against a plain `f64` one, for every combination of features.

mod common;

use common::run::{Runner, tokens};
use common::{reference, shapes};
use onebit_kernels::{Kernels, Serial};

#[test]
fn logits_agree_with_a_plain_decoder() {
    for (name, recipe) in shapes::all() {
        let model = recipe.model(11);
        let ids = tokens(&model, 12, 5);
        let expected = reference::logits(&model, &ids);
        let logits = Runner::new(&model, Kernels::best(), &Serial).logits(&ids);
        let pairs = logits.iter().flatten().zip(expected.iter().flatten());
        let worst = pairs
            .map(|(a, b)| (f64::from(*a) - b).abs())
            .fold(0.0, f64::max);
        assert!(worst < 1e-3, "{name}: logits differ by {worst}");
        let spread = logits
            .iter()
            .flatten()
            .fold(0.0f32, |max, x| max.max(x.abs()));
        assert!(
            spread > 0.5,
            "{name}: logits are too small ({spread}) for the comparison to mean anything"
        );
    }
}
