//! Good checkpoints: the weights, the text and the provenance arrive in the file.

use crate::common::*;
use onebit_convert::{ErrorKind, Options, Progress, convert};
use onebit_format::{ActivationMode, Scales};
use proptest::prelude::*;
use safetensors::Dtype;
use serde_json::json;

#[test]
fn packed_weights_keep_their_codes_and_get_their_multiplier() {
    for (class, scale, multiplier) in [
        (Some("autobitlinear"), 0.625, 0.625),
        (Some("bitlinear"), 0.625, 1.6),
        (None, 0.625, 1.6),
    ] {
        let model = packed_llama(class);
        let (_place, report, file) = converted(&model, &Options::default());
        let k = file.matrix("layers.1.k").unwrap();
        let source = &model.tensors[&weight(1, "self_attn.k_proj")];
        let codes: Vec<i32> = (0..k.rows() * k.cols())
            .map(|i| k.code(i / HIDDEN, i % HIDDEN))
            .collect();
        assert_eq!(codes, unpack(source), "{class:?}");
        assert_eq!(
            model.tensors["model.layers.1.self_attn.k_proj.weight_scale"].values(),
            [scale]
        );
        assert!(
            matches!(k.scales(), Scales::Tensor(found) if found == multiplier),
            "{class:?}: {:?}",
            k.scales()
        );
        assert_eq!(
            file.activation("layers.1.k").unwrap(),
            ActivationMode::I8Token
        );
        let counts = report
            .matrices
            .iter()
            .find(|matrix| matrix.name == "layers.1.k")
            .unwrap()
            .counts
            .unwrap();
        assert_eq!(
            counts,
            [-1, 0, 1].map(|code| codes.iter().filter(|c| **c == code).count() as u64)
        );
    }
}

#[test]
fn masters_are_quantized_as_in_training() {
    let model = online_bitnet();
    let (_place, _, file) = converted(&model, &Options::default());
    for (name, module, rows, cols) in LINEARS {
        let matrix = file.matrix(&format!("layers.0.{name}")).unwrap();
        let (codes, multiplier) = quantize(&model.tensors[&weight(0, module)].values());
        let transposed = file.meta().matrices[&format!("layers.0.{name}")].transposed;
        assert_eq!(transposed, name == "down");
        let code = |i: usize| match transposed {
            true => matrix.code(i % cols, i / cols),
            false => matrix.code(i / cols, i % cols),
        };
        let found: Vec<i32> = (0..rows * cols).map(code).collect();
        assert_eq!(found, codes, "{name}");
        assert!(
            matches!(matrix.scales(), Scales::Tensor(scale) if scale == multiplier),
            "{name}"
        );
    }
}

/// Exact halves go to the even neighbour, 0, and a matrix of zeros stays one.
#[test]
fn halves_round_to_even_and_zero_matrices_are_flagged() {
    let mut model = online_bitnet();
    let mut values = vec![1.0; FFN * HIDDEN];
    values[..4].copy_from_slice(&[0.5, -0.5, 1.5, 1.5]);
    let shape = [FFN, HIDDEN];
    model.insert(&weight(1, "mlp.gate_proj"), Dtype::F32, &shape, &values);
    model.insert(UP, Dtype::F32, &shape, &vec![0.0; FFN * HIDDEN]);
    let (_place, report, file) = converted(&model, &Options::default());
    let gate = file.matrix("layers.1.gate").unwrap();
    assert_eq!(
        [0, 1, 2, 3].map(|k| gate.code(0, k)),
        [0, 0, 1, 1],
        "the mean magnitude is exactly 1"
    );
    let zero: Vec<_> = report
        .matrices
        .iter()
        .filter(|m| m.is_all_zero())
        .map(|m| m.name.as_str())
        .collect();
    assert_eq!(zero, ["layers.1.up"]);
    assert!(
        report.to_string().contains("all weights are zero"),
        "{report}"
    );
    let Scales::Tensor(scale) = file.matrix("layers.1.up").unwrap().scales() else {
        panic!()
    };
    assert_eq!(scale, 1.0 / (1.0 / 1e-5f32));
}

#[test]
fn ternary_numbers_that_are_not_packed_are_read_as_codes() {
    let mut model = packed_bitnet();
    let name = weight(0, "mlp.up_proj");
    let codes: Vec<f32> = unpack(&model.tensors[&name])
        .into_iter()
        .map(|code| code as f32)
        .collect();
    model.insert(&name, Dtype::BF16, &[FFN, HIDDEN], &codes);
    let (_place, _, file) = converted(&model, &Options::default());
    let up = file.matrix("layers.0.up").unwrap();
    assert!(
        codes
            .iter()
            .enumerate()
            .all(|(i, code)| up.code(i / HIDDEN, i % HIDDEN) as f32 == *code)
    );

    model.insert(&name, Dtype::BF16, &[FFN, HIDDEN], &vec![0.5; FFN * HIDDEN]);
    let place = Place::new();
    model.write(&place.source());
    let error = place.convert(&Options::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(
        error.to_string().contains("0.5, expected -1, 0 or 1"),
        "{error}"
    );
}

#[test]
fn generation_defaults_and_text_travel_with_the_weights() {
    let mut model = packed_bitnet();
    model.config["eos_token_id"] = 5.into();
    model.config["bos_token_id"] = json!(null);
    let tokenizer = br#"{"version": "1.0"}"#;
    model
        .files
        .insert("tokenizer.json".into(), tokenizer.to_vec());
    let config = json!({"chat_template": [{"name": "tool", "template": "t"}, {"name": "default", "template": "d"}]});
    model
        .files
        .insert("tokenizer_config.json".into(), config.to_string().into());
    let (_place, _, file) = converted(&model, &Options::default());
    let meta = file.meta();
    assert_eq!(
        (meta.generation.eos.as_slice(), meta.generation.bos),
        (&[5][..], None)
    );
    assert_eq!(file.blob("tokenizer.json").unwrap(), tokenizer);
    assert_eq!(
        file.blob("tokenizer_config.json").unwrap(),
        config.to_string().as_bytes()
    );
    assert_eq!(meta.chat_template.as_deref(), Some("d"));

    model
        .files
        .insert("special_tokens_map.json".into(), b"{}".to_vec());
    let generation =
        json!({"eos_token_id": [6, 7], "temperature": 0.6, "do_sample": true, "top_k": 20});
    model.files.insert(
        "generation_config.json".into(),
        generation.to_string().into(),
    );
    model
        .files
        .insert("chat_template.jinja".into(), b"j".to_vec());
    let (_place, _, file) = converted(&model, &Options::default());
    let generation = &file.meta().generation;
    assert_eq!(
        (generation.eos.as_slice(), generation.temperature),
        (&[6, 7][..], Some(0.6))
    );
    assert_eq!(
        (generation.do_sample, generation.top_k, generation.top_p),
        (Some(true), Some(20), None)
    );
    assert_eq!(file.meta().chat_template.as_deref(), Some("j"));
    assert_eq!(file.blob("special_tokens_map.json").unwrap(), b"{}");
    assert_eq!(file.meta().provenance.source, "source");
}

#[test]
fn without_a_tokenizer_the_report_says_so() {
    let (_place, report, file) = converted(&packed_bitnet(), &Options::default());
    assert!(!file.has("tokenizer.json"));
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("tokenizer.json")),
        "{report}"
    );
}

/// One file or shards, the same tensors come out; scales may be far from their weights.
#[test]
fn sharding_changes_nothing_but_the_provenance() {
    let model = packed_bitnet();
    let (_place, _, single) = converted(&model, &Options::default());
    let place = Place::new();
    model.write_sharded(&place.source(), 5);
    place.convert(&Options::default()).unwrap();
    let sharded = place.open();
    assert_eq!(single.meta().sha256, sharded.meta().sha256);
    assert_eq!(sharded.meta().provenance.files.len(), 5);
    // Where both are there, the single file is the checkpoint.
    model.write(&place.source());
    let mut options = Options::default();
    options.force = true;
    place.convert(&options).unwrap();
    assert_eq!(place.open().meta().provenance.files.len(), 1);
}

#[test]
fn progress_adds_up_to_what_was_announced() {
    #[derive(Default)]
    struct Heard([u64; 2], usize);
    impl Progress for Heard {
        fn begin(&mut self, tensors: usize, bytes: u64) {
            (self.1, self.0[0]) = (tensors, bytes);
        }
        fn advance(&mut self, tensor: &str, bytes: u64) {
            assert!(!tensor.is_empty());
            self.0[1] += bytes;
        }
    }
    let place = Place::new();
    packed_bitnet().write(&place.source());
    let mut heard = Heard::default();
    convert(
        &place.source(),
        &place.output(),
        &Options::default(),
        &mut heard,
    )
    .unwrap();
    assert_eq!(heard.0[0], heard.0[1]);
    assert_eq!(
        heard.1,
        place.open().meta().matrices.len() + place.open().meta().vectors.len()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Any codes in any shape that can be packed come out as they went in.
    #[test]
    fn any_codes_survive(seed in any::<u64>(), quarter in 1usize..90) {
        let (rows, mut model) = (quarter * 4, packed_llama(Some("autobitlinear")));
        model.config["intermediate_size"] = rows.into();
        let mut numbers = Numbers::new(seed);
        let mut codes = Vec::new();
        for layer in 0..LAYERS {
            for (module, rows, cols) in [("gate", rows, HIDDEN), ("up", rows, HIDDEN), ("down", HIDDEN, rows)] {
                codes = numbers.codes(rows * cols);
                model.tensors.insert(weight(layer, &format!("mlp.{module}_proj")), pack(&codes, rows, cols));
            }
        }
        let (_place, _, file) = converted(&model, &Options::default());
        let down = file.matrix("layers.1.down").unwrap();
        for (i, code) in codes.into_iter().enumerate() {
            prop_assert_eq!(down.code(i / rows, i % rows), i32::from(code));
        }
    }
}
