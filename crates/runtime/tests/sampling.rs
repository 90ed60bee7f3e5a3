//! The sampling chain: what each step keeps, and that the whole is deterministic.

use onebit_runtime::sampling::{
    Candidate, check_logits, draw, greedy, likeliest, log_prob, min_p, penalize_repetition, top_p,
    weigh,
};
use onebit_runtime::{ErrorKind, RuntimeError, Sampler, SamplingOptions};
use proptest::prelude::*;

fn logits() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(
        prop_oneof![-8.0f32..8.0, Just(1.0f32), Just(f32::NEG_INFINITY)],
        1..60,
    )
    .prop_filter("one must be possible", |l| l.iter().any(|x| x.is_finite()))
}

fn weighed(logits: &[f32], k: usize, temperature: f32) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    likeliest(logits, k, &mut candidates);
    weigh(&mut candidates, temperature);
    candidates
}

fn sample(options: &SamplingOptions, logits: &[f32], history: &[u32]) -> u32 {
    let mut sampler = Sampler::new(options.clone(), logits.len()).unwrap();
    sampler.sample(logits, history).unwrap()
}

proptest! {
    #[test]
    fn likeliest_is_the_head_of_a_stable_sort(logits in logits(), k in 0usize..70) {
        let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
        ids.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
        ids.truncate(if k == 0 { usize::MAX } else { k });
        let mut candidates = Vec::new();
        likeliest(&logits, k, &mut candidates);
        prop_assert_eq!(candidates.iter().map(|c| c.id).collect::<Vec<_>>(), ids);
    }

    #[test]
    fn filters_keep_a_head_and_never_nothing(
        logits in logits(), k in 0usize..70, t in 0.05f32..4.0, p in 0.0f32..=1.0, m in 0.0f32..=1.0,
    ) {
        let all = weighed(&logits, k, t);
        let total: f64 = all.iter().map(|c| c.weight).sum();
        let mut nucleus = all.clone();
        top_p(&mut nucleus, p);
        prop_assert!(!nucleus.is_empty());
        prop_assert_eq!(&nucleus[..], &all[..nucleus.len()]);
        let share = |c: &[Candidate]| c.iter().map(|c| c.weight).sum::<f64>();
        prop_assert!(p >= 1.0 || share(&nucleus) >= f64::from(p) * total * (1.0 - 1e-12));
        prop_assert!(nucleus.len() == 1 || share(&nucleus[..nucleus.len() - 1]) < f64::from(p) * total || p >= 1.0);

        let mut likely = all.clone();
        min_p(&mut likely, m);
        let expected: Vec<_> = all.iter().copied().filter(|c| c.weight >= f64::from(m)).collect();
        prop_assert_eq!(likely, expected);
    }

    #[test]
    fn draws_follow_the_weights(logits in logits(), u in 0.0f64..1.0) {
        let candidates = weighed(&logits, 0, 1.0);
        let id = draw(&candidates, u);
        let before: f64 = candidates.iter().take_while(|c| c.id != id).map(|c| c.weight).sum();
        let own = candidates.iter().find(|c| c.id == id).unwrap().weight;
        let at = u * candidates.iter().map(|c| c.weight).sum::<f64>();
        prop_assert!(own > 0.0 && before - 1e-9 <= at && at <= before + own + 1e-9);
    }

    #[test]
    fn the_same_seed_draws_the_same(
        logits in logits(), seed: u64, history in prop::collection::vec(0u32..80, 0..20),
    ) {
        let options = SamplingOptions { seed, repetition_penalty: 1.3, ..Default::default() };
        let run = || {
            let mut sampler = Sampler::new(options.clone(), logits.len()).unwrap();
            (0..8).map(|_| sampler.sample(&logits, &history).unwrap()).collect::<Vec<_>>()
        };
        let first = run();
        prop_assert!(first.iter().all(|&id| logits[id as usize] > f32::NEG_INFINITY));
        prop_assert_eq!(first, run());
    }

    #[test]
    fn narrow_filters_are_greedy(logits in logits(), seed: u64) {
        let best = greedy(&logits);
        let options = SamplingOptions { seed, ..Default::default() };
        let one = SamplingOptions { top_k: 1, ..options.clone() };
        let nucleus = SamplingOptions { top_k: 0, top_p: 0.0, ..options.clone() };
        let zero = SamplingOptions { temperature: 0.0, ..options };
        for options in [one, nucleus, zero] {
            prop_assert_eq!(sample(&options, &logits, &[]), best);
        }
    }

    #[test]
    fn log_probs_are_a_distribution(logits in logits()) {
        let probabilities = (0..logits.len() as u32).map(|id| log_prob(&logits, id).unwrap().exp());
        prop_assert!((probabilities.sum::<f64>() - 1.0).abs() < 1e-9);
        prop_assert_eq!(log_prob(&logits, logits.len() as u32), None);
    }
}

#[test]
fn greedy_takes_the_lowest_of_equals() {
    assert_eq!(greedy(&[1.0, 3.0, 3.0]), 1);
    assert_eq!(greedy(&[-0.0, 0.0]), 0);
    assert_eq!(greedy(&[f32::NEG_INFINITY, -5.0]), 1);
}

#[test]
fn long_rows_are_searched_to_their_ends() {
    let row: Vec<f32> = (0..1000).map(|i| (i * 37 % 500) as f32 - 600.0).collect();
    for at in [0, 15, 16, 255, 256, 511, 990, 999] {
        let mut logits = row.clone();
        logits[at] = 5.0;
        logits[999] = 5.0;
        assert_eq!(greedy(&logits), at as u32);
        assert!(check_logits(&logits).is_ok());
        for value in [f32::NAN, f32::INFINITY] {
            logits[at] = value;
            logits[999] = value;
            let error = check_logits(&logits).unwrap_err();
            assert!(matches!(error, RuntimeError::Logits { token, .. } if token == at));
        }
    }
}

#[test]
fn penalties_count_once_and_only_in_the_window() {
    let mut logits = [2.0, -2.0, 0.0, 1.0];
    penalize_repetition(&mut logits, &[0, 1, 0, 2, 99], 2.0);
    assert_eq!(logits, [1.0, -4.0, 0.0, 1.0]);
    let options = SamplingOptions {
        repetition_penalty: 4.0,
        repetition_window: 2,
        ..SamplingOptions::greedy()
    };
    assert_eq!(sample(&options, &[3.0, 2.0, 1.0], &[1, 2, 0]), 1);
    assert_eq!(sample(&options, &[3.0, 2.0, 1.0], &[0, 1, 2]), 0);
    let none = SamplingOptions {
        repetition_window: 0,
        ..options
    };
    assert_eq!(sample(&none, &[3.0, 2.0, 1.0], &[0]), 0);
}

#[test]
fn a_fixed_seed_gives_fixed_tokens() {
    let logits: Vec<f32> = (0..50).map(|i| ((i * 37) % 50) as f32 / 10.0).collect();
    let options = SamplingOptions {
        seed: 42,
        temperature: 1.0,
        top_k: 0,
        ..Default::default()
    };
    let mut sampler = Sampler::new(options, 50).unwrap();
    let ids: Vec<u32> = (0..8)
        .map(|_| sampler.sample(&logits, &[]).unwrap())
        .collect();
    assert_eq!(ids, GOLDEN);
}

/// Drawn with the options above; the same on every platform.
const GOLDEN: [u32; 8] = [5, 8, 29, 47, 28, 43, 4, 43];

#[test]
fn unusable_logits_are_errors() {
    for (logits, token) in [
        (vec![0.0, f32::NAN], 1),
        (vec![f32::INFINITY, f32::NAN], 0),
        (vec![f32::NEG_INFINITY; 3], 0),
        (vec![], 0),
    ] {
        let error = Sampler::new(SamplingOptions::greedy(), 3)
            .unwrap()
            .sample(&logits, &[]);
        let error = error.unwrap_err();
        assert!(
            matches!(error, RuntimeError::Logits { token: t, .. } if t == token),
            "{error}"
        );
        assert_eq!(error.kind(), ErrorKind::Failed);
    }
    assert!(check_logits(&[f32::NEG_INFINITY, 0.0]).is_ok());
}

#[test]
fn options_out_of_bounds_are_named() {
    let options = SamplingOptions::default;
    for (name, options) in [
        (
            "temperature",
            SamplingOptions {
                temperature: -0.1,
                ..options()
            },
        ),
        (
            "temperature",
            SamplingOptions {
                temperature: f32::NAN,
                ..options()
            },
        ),
        (
            "top_p",
            SamplingOptions {
                top_p: 1.1,
                ..options()
            },
        ),
        (
            "min_p",
            SamplingOptions {
                min_p: -1.0,
                ..options()
            },
        ),
        (
            "repetition_penalty",
            SamplingOptions {
                repetition_penalty: 0.0,
                ..options()
            },
        ),
    ] {
        let error = Sampler::new(options, 1).unwrap_err();
        assert!(error.to_string().starts_with(name), "{error}");
        assert_eq!(error.kind(), ErrorKind::Request);
    }
}
