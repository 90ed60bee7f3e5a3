//! Packed files that are not models, or not models of their config.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{Recipe, Tensor, pack_file, shapes};
use onebit_format::{ActivationMode, Layout};
use onebit_model::{Activations, ErrorKind, Model, ModelError};

fn refused(config: serde_json::Value, tensors: &[Tensor]) -> ModelError {
    Model::from_file(Arc::new(pack_file(config, tensors, 1))).unwrap_err()
}

fn refused_tensors(recipe: &Recipe, change: impl FnOnce(&mut Vec<Tensor>)) -> ModelError {
    let mut tensors = recipe.tensors();
    change(&mut tensors);
    refused(serde_json::to_value(&recipe.spec).unwrap(), &tensors)
}

fn find<'a>(tensors: &'a mut [Tensor], name: &str) -> &'a mut Tensor {
    tensors
        .iter_mut()
        .find(|tensor| tensor.name() == name)
        .unwrap()
}

#[test]
fn tensors_must_be_those_of_the_config() {
    let recipe = shapes::bitnet();
    let cases = [
        (
            refused_tensors(&recipe, |t| {
                t.retain(|t| t.name() != "layers.1.attn_sub_norm")
            }),
            "tensor layers.1.attn_sub_norm is missing: the config asks for [64]",
        ),
        (
            refused_tensors(&recipe, |t| t.retain(|t| t.name() != "layers.2.down")),
            "tensor layers.2.down is missing: the config asks for [64, 96]",
        ),
        (
            refused_tensors(&recipe, |t| {
                *find(t, "layers.0.k") = Tensor::matrix("layers.0.k", Layout::T2, 64, 64);
            }),
            "tensor layers.0.k has shape [64, 64], the config asks for [32, 64]",
        ),
        (
            refused_tensors(&recipe, |t| *find(t, "norm") = Tensor::vector("norm", 65)),
            "tensor norm has shape [65], the config asks for [64]",
        ),
        (
            refused_tensors(&recipe, |t| t.push(Tensor::vector("layers.0.q.bias", 64))),
            "tensor layers.0.q.bias has no place in a model of this config",
        ),
        (
            refused_tensors(&recipe, |t| {
                t.push(Tensor::matrix("head", Layout::F32, 61, 64))
            }),
            "tensor head has no place in a model of this config",
        ),
    ];
    for (error, message) in cases {
        assert_eq!(error.to_string(), message);
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }
}

#[test]
fn the_output_projection_may_lack_its_bias() {
    let recipe = shapes::qk_norm_and_biases();
    let mut tensors = recipe.tensors();
    tensors.retain(|tensor| !tensor.name().ends_with(".o.bias"));
    let config = serde_json::to_value(&recipe.spec).unwrap();
    Model::from_file(Arc::new(pack_file(config, &tensors, 1))).unwrap();
}

#[test]
fn inputs_must_suit_the_layout() {
    let recipe = shapes::bitnet();
    let name = "layers.0.q";
    let (layout, activation) = (Layout::F16, ActivationMode::I8Token);
    let error = refused_tensors(&recipe, |tensors| {
        *find(tensors, name) = Tensor::Matrix {
            name: name.into(),
            layout,
            rows: 64,
            cols: 64,
            activation,
            grouped: false,
        };
    });
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains(name), "{error}");
}

#[test]
fn linears_with_one_input_must_quantize_it_in_one_way() {
    let recipe = shapes::bitnet();
    let error = refused_tensors(&recipe, |tensors| {
        let Tensor::Matrix { activation, .. } = find(tensors, "layers.1.up") else {
            unreachable!();
        };
        *activation = ActivationMode::TernaryToken;
    });
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let text = error.to_string();
    assert!(
        text.contains("layer 1") && text.contains("gate and up"),
        "{text}"
    );
}

#[test]
fn activations_that_a_model_does_not_have_are_refused() {
    let with = |recipe: Recipe, asked| {
        let file = Arc::clone(recipe.model(1).file());
        Model::from_file(file).unwrap().with_activations(asked)
    };
    use Activations::{Auto, F32, Int8};
    for asked in [Auto, F32, Int8] {
        assert!(with(shapes::bitnet(), asked).is_ok());
        assert!(with(shapes::float_inputs(Layout::B1), asked).is_ok());
        assert!(with(shapes::float_inputs(Layout::B1R64), asked).is_ok());
    }
    let dense = with(shapes::llama(Layout::F16), Int8).unwrap_err();
    assert_eq!(dense.kind(), ErrorKind::Unsupported);
    assert!(with(shapes::llama(Layout::F16), F32).is_ok());
    for asked in [F32, Int8] {
        let few = shapes::few_bits(Layout::B1, ActivationMode::SignToken, false);
        let error = with(few, asked).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request);
        assert!(error.to_string().contains(asked.name()), "{error}");
    }
}

#[test]
fn a_choice_of_activations_decides_what_is_computed() {
    for layout in [Layout::T2R16, Layout::B1, Layout::B1R64] {
        a_choice_decides(&shapes::bonsai(layout));
    }
}

fn a_choice_decides(recipe: &Recipe) {
    let trained = recipe.model(2);
    assert!(trained.input_forms().floats && !trained.input_forms().groups);
    let file = Arc::clone(trained.file());
    let int8 = Model::from_file(file)
        .unwrap()
        .with_activations(Activations::Auto)
        .unwrap();
    assert!(!int8.input_forms().floats && int8.input_forms().groups);
    let back = int8.with_activations(Activations::F32).unwrap();
    assert_eq!(back.input_forms(), trained.input_forms());
}

#[test]
fn configs_are_checked_field_by_field() {
    let recipe = shapes::bitnet();
    for (field, value, part) in [
        ("layers", serde_json::json!(0), "layers"),
        ("kv_heads", serde_json::json!(3), "kv_heads"),
        ("hidden", serde_json::json!("wide"), "`hidden`"),
        (
            "rope",
            serde_json::json!({"theta": "x"}),
            "`rope.theta`: invalid type",
        ),
        ("experts", serde_json::json!(8), "experts"),
        ("activation", serde_json::json!("gelu"), "gelu"),
        ("rope", serde_json::json!({"theta": -1.0}), "rope.theta"),
        (
            "rope",
            serde_json::json!({"theta": 1e4, "scaling": {"type": "twisted"}}),
            "twisted",
        ),
        ("vocab", serde_json::json!(60), "embed"),
    ] {
        let mut config = serde_json::to_value(&recipe.spec).unwrap();
        config[field] = value;
        let error = refused(config, &recipe.tensors());
        assert!(error.to_string().contains(part), "{field}: {error}");
        assert_eq!(error.kind(), ErrorKind::Malformed, "{field}");
    }
    let error = refused(serde_json::json!([]), &recipe.tensors());
    assert_eq!(error.kind(), ErrorKind::Malformed);
}

#[test]
fn a_missing_file_is_named() {
    let error = Model::open(Path::new("no/such/model.onebit")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.to_string().contains("model.onebit"), "{error}");
}

#[test]
fn roles_add_up() {
    let model = shapes::llama(Layout::T2).model(1);
    let bytes = model.weight_bytes();
    assert_eq!(bytes.embed, 61 * 64 * 4);
    assert_eq!(bytes.head, 61 * 64 * 4);
    assert!(
        bytes.layers > 0
            && bytes.embed + bytes.head + bytes.layers <= model.file().file_len() as usize
    );
    assert_eq!(shapes::bitnet().model(1).weight_bytes().head, 0);
}
