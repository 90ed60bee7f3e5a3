use super::*;

/// Frequencies that `transformers` computed, as text of `f32`s, are compared to this relative distance.
const CLOSE: f32 = 3e-7;

fn scaled(theta: f64, scaling: RopeScaling) -> RopeSpec {
    RopeSpec { theta, scaling }
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= CLOSE * b.abs(), "{i}: {a} for {b}");
    }
}

#[test]
fn angles_follow_the_published_formula() {
    let rope = Rope::new(&RopeSpec::new(10_000.0), 8);
    assert_close(&rope.inv_freq, &[1.0, 0.1, 0.01, 0.001]);
    let (mut cos, mut sin) = ([0.0; 4], [0.0; 4]);
    rope.angles(0, 1, &mut cos, &mut sin);
    assert_eq!((cos, sin), ([1.0; 4], [0.0; 4]));
    rope.angles(3, 4, &mut cos, &mut sin);
    assert_eq!(cos[0], 3.0f64.cos() as f32);
    assert_eq!(sin[0], 3.0f64.sin() as f32);
}

#[test]
fn scaled_frequencies_are_those_of_transformers() {
    let frequencies = |theta, scaling| Rope::new(&scaled(theta, scaling), 16).inv_freq;
    assert_close(
        &frequencies(10_000.0, RopeScaling::Linear { factor: 4.0 }),
        &[
            0.25,
            7.905_694e-2,
            2.5e-2,
            7.905_695e-3,
            2.5e-3,
            7.905_695e-4,
            2.5e-4,
            7.905_695e-5,
        ],
    );
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_positions: 64,
    };
    assert_close(
        &frequencies(10_000.0, llama3),
        &[
            1.0,
            2.443_845_9e-1,
            1.304_225_6e-2,
            3.952_847_3e-3,
            1.25e-3,
            3.952_847_3e-4,
            1.25e-4,
            3.952_847_3e-5,
        ],
    );
    let yarn = RopeScaling::Yarn {
        factor: 4.0,
        original_max_positions: 64,
        beta_fast: 32.0,
        beta_slow: 1.0,
        truncate: true,
        attention_factor: 1.138_629_436_111_989,
    };
    assert_close(
        &frequencies(1e6, yarn),
        &[
            1.0,
            1.111_424_6e-1,
            7.905_695e-3,
            1.405_853_3e-3,
            2.5e-4,
            4.445_698_5e-5,
            7.905_694e-6,
            1.405_853_4e-6,
        ],
    );
    let ramp_between_pairs = RopeScaling::Yarn {
        factor: 8.0,
        original_max_positions: 512,
        beta_fast: 16.0,
        beta_slow: 2.0,
        truncate: false,
        attention_factor: 0.901_783_986_978_712_3,
    };
    assert_close(
        &frequencies(10_000.0, ramp_between_pairs),
        &[
            1.0,
            3.162_277_6e-1,
            7.160_846e-2,
            7.324_998_3e-3,
            1.25e-3,
            3.952_847_3e-4,
            1.25e-4,
            3.952_847_3e-5,
        ],
    );
}

#[test]
fn yarn_multiplies_cosines_and_sines() {
    let yarn = RopeScaling::Yarn {
        factor: 4.0,
        original_max_positions: 64,
        beta_fast: 32.0,
        beta_slow: 1.0,
        truncate: true,
        attention_factor: 1.5,
    };
    let rope = Rope::new(&scaled(10_000.0, yarn), 8);
    let (mut cos, mut sin) = ([0.0; 4], [0.0; 4]);
    rope.angles(0, 1, &mut cos, &mut sin);
    assert_eq!((cos, sin), ([1.5; 4], [0.0; 4]));
}

#[test]
fn dynamic_frequencies_follow_the_length_beyond_the_original() {
    let dynamic = RopeScaling::Dynamic {
        factor: 4.0,
        original_max_positions: 32,
    };
    let rope = Rope::new(&scaled(10_000.0, dynamic), 16);
    let plain = Rope::new(&RopeSpec::new(10_000.0), 16);
    let angles = |rope: &Rope, position, length| {
        let (mut cos, mut sin) = ([0.0; 8], [0.0; 8]);
        rope.angles(position, length, &mut cos, &mut sin);
        (cos, sin)
    };
    for length in [1, 31, 32] {
        assert_eq!(angles(&rope, 7, length), angles(&plain, 7, 8), "{length}");
    }
    let grown: [f32; 8] = [
        1.0,
        2.672_23e-1,
        7.140_812e-2,
        1.908_189_2e-2,
        5.099_12e-3,
        1.362_602e-3,
        3.641_186e-4,
        9.730_085e-5,
    ];
    let (_, sin) = angles(&rope, 1, 50);
    let expected = grown.map(|frequency| f64::from(frequency).sin() as f32);
    assert_close(&sin, &expected);
}
