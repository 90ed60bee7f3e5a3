//! What will be written, in execution order, before anything is.

mod embeddings;
mod leftovers;

use std::collections::BTreeSet;

use onebit_format::{ActivationMode, Layout};
use onebit_model::ModelSpec;

use crate::config::Config;
use crate::error::{ConvertError, Result};
use crate::family::{BiasRule, Family};
use crate::linear::{self, Weights};
use crate::options::{Options, WeightType};
use crate::source::Checkpoint;
use crate::source::shard::TensorInfo;

/// One tensor to be written.
#[derive(Debug)]
pub(crate) enum Item<'a> {
    Matrix(Matrix<'a>),
    Vector {
        name: String,
        tensor: &'a TensorInfo,
        /// What its values are multiplied by.
        factor: f32,
    },
}

impl<'a> Item<'a> {
    /// The tensor it is made from.
    pub(crate) fn tensor(&self) -> &'a TensorInfo {
        match self {
            Self::Matrix(matrix) => matrix.weights.tensor(),
            Self::Vector { tensor, .. } => tensor,
        }
    }
}

/// One matrix to be written.
#[derive(Debug)]
pub(crate) struct Matrix<'a> {
    pub(crate) name: String,
    pub(crate) weights: Weights<'a>,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) layout: Layout,
}

impl Matrix<'_> {
    /// Float layouts multiply floats; the kernels of the others take int8 activations.
    pub(crate) fn activation(&self) -> ActivationMode {
        if self.layout.is_float() {
            ActivationMode::F32
        } else {
            ActivationMode::I8Token
        }
    }
}

/// Everything that will be written of a checkpoint's tensors.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) items: Vec<Item<'a>>,
    pub(crate) tied_head: bool,
    pub(crate) notes: Vec<String>,
    checkpoint: &'a Checkpoint,
    config: &'a Config,
    family: &'static Family,
    options: &'a Options,
    used: BTreeSet<&'a str>,
}

impl<'a> Plan<'a> {
    /// Finds and checks every tensor that the config asks for, and that there are no others.
    pub(crate) fn new(
        checkpoint: &'a Checkpoint,
        config: &'a Config,
        family: &'static Family,
        options: &'a Options,
    ) -> Result<Self> {
        let mut plan = Self {
            items: Vec::new(),
            tied_head: false,
            notes: Vec::new(),
            checkpoint,
            config,
            family,
            options,
            used: BTreeSet::new(),
        };
        plan.refuse_foreign_tensors()?;
        plan.refuse_ternarization()?;
        let head = plan.embeddings()?;
        for layer in 0..config.spec.layers {
            plan.layer(layer)?;
        }
        plan.vector("norm".into(), "model.norm.weight", config.spec.hidden)?;
        plan.items.extend(head.map(Item::Matrix));
        plan.refuse_leftovers()?;
        Ok(plan)
    }

    /// The specification of the network as it will be stored.
    pub(crate) fn spec(&self) -> ModelSpec {
        ModelSpec {
            tied_head: self.tied_head,
            ..self.config.spec.clone()
        }
    }

    fn layer(&mut self, layer: usize) -> Result<()> {
        let (spec, family) = (&self.config.spec, self.family);
        let (hidden, ffn, q, kv) = (spec.hidden, spec.ffn, spec.q_width(), spec.kv_width());
        self.norm(layer, "attn_norm", Some("input_layernorm"), hidden)?;
        self.linear(layer, "q", "self_attn.q_proj", [q, hidden])?;
        self.linear(layer, "k", "self_attn.k_proj", [kv, hidden])?;
        self.linear(layer, "v", "self_attn.v_proj", [kv, hidden])?;
        self.norm(
            layer,
            "q_norm",
            family.qk_norm.then_some("self_attn.q_norm"),
            spec.head_dim,
        )?;
        self.norm(
            layer,
            "k_norm",
            family.qk_norm.then_some("self_attn.k_norm"),
            spec.head_dim,
        )?;
        self.norm(layer, "attn_sub_norm", family.attn_sub_norm, q)?;
        self.linear(layer, "o", "self_attn.o_proj", [hidden, q])?;
        self.norm(layer, "ffn_norm", Some("post_attention_layernorm"), hidden)?;
        self.linear(layer, "gate", "mlp.gate_proj", [ffn, hidden])?;
        self.linear(layer, "up", "mlp.up_proj", [ffn, hidden])?;
        self.norm(layer, "ffn_sub_norm", family.ffn_sub_norm, ffn)?;
        self.linear(layer, "down", "mlp.down_proj", [hidden, ffn])
    }

    fn norm(&mut self, layer: usize, name: &str, module: Option<&str>, len: usize) -> Result<()> {
        match module {
            Some(module) => self.vector(
                format!("layers.{layer}.{name}"),
                &format!("model.layers.{layer}.{module}.weight"),
                len,
            ),
            None => Ok(()),
        }
    }

    /// A linear with what belongs to it: its input's norm before, its bias behind.
    fn linear(&mut self, layer: usize, name: &str, module: &str, shape: [usize; 2]) -> Result<()> {
        let (config, checkpoint) = (self.config, self.checkpoint);
        let biased = match module {
            "self_attn.o_proj" if self.family.attn_bias == BiasRule::NotOutput => false,
            module if module.starts_with("mlp.") => config.spec.mlp_bias,
            _ => config.spec.attn_bias,
        };
        let name = format!("layers.{layer}.{name}");
        let module = format!("model.layers.{layer}.{module}");
        let weights = linear::resolve(checkpoint, config.quant.as_ref(), &module, shape)?;
        if config.spec.input_norm_eps.is_some() {
            if !weights.is_ternary() {
                return Err(ConvertError::unsupported(
                    format!("tensor `{module}.weight` left dense"),
                    "with use_rms_norm every linear has a norm",
                ));
            }
            self.vector(
                format!("{name}.input_norm"),
                &format!("{module}.rms_norm.weight"),
                shape[1],
            )?;
        }
        let layout = self.linear_layout(&weights)?;
        self.use_tensor(weights.tensor());
        if let Some(scale) = checkpoint.tensors.get(&linear::names(&module)[1]) {
            self.use_tensor(scale);
        }
        let bias = format!("{name}.bias");
        let bias_factor = linear::bias_factor(&weights, config.quant.as_ref());
        self.items.push(Item::Matrix(Matrix {
            name,
            weights,
            rows: shape[0],
            cols: shape[1],
            layout,
        }));
        if biased {
            self.scaled_vector(bias, &format!("{module}.bias"), shape[0], bias_factor)
        } else {
            Ok(())
        }
    }

    fn vector(&mut self, name: String, source: &str, len: usize) -> Result<()> {
        self.scaled_vector(name, source, len, 1.0)
    }

    fn scaled_vector(&mut self, name: String, source: &str, len: usize, factor: f32) -> Result<()> {
        let tensor = self.checkpoint.tensor(source)?;
        linear::float_layout(tensor)?;
        linear::check_shape(tensor, &[len])?;
        self.use_tensor(tensor);
        self.items.push(Item::Vector {
            name,
            tensor,
            factor,
        });
        Ok(())
    }

    fn use_tensor(&mut self, tensor: &'a TensorInfo) {
        self.used.insert(&tensor.name);
    }

    fn linear_layout(&self, weights: &Weights<'_>) -> Result<Layout> {
        let choice = self.options.weights;
        match (weights, choice) {
            (
                Weights::Dense { layout, .. },
                WeightType::Auto | WeightType::Keep | WeightType::T2,
            ) => Ok(*layout),
            (Weights::Dense { .. }, WeightType::F16) => Ok(Layout::F16),
            (Weights::Dense { .. }, WeightType::Q8) => Ok(Layout::I8),
            (Weights::Dense { .. }, WeightType::Q4) => Ok(Layout::I4),
            (_, WeightType::Auto | WeightType::Keep | WeightType::T2) => Ok(Layout::T2),
            (_, WeightType::F16 | WeightType::Q8 | WeightType::Q4) => Err(ConvertError::Request(
                "this model's weights are ternary: t2 holds them exactly in 2 bits; \
                 f16, q8 and q4 are for dense models"
                    .into(),
            )),
        }
    }

    fn refuse_ternarization(&self) -> Result<()> {
        if self.options.weights == WeightType::T2 && self.config.quant.is_none() {
            return Err(ConvertError::Request(
                "this model is dense: rounding its weights to -1, 0 and 1 would destroy it. A ternary model has to \
                 be trained as one (quantization-aware training). Smaller types for dense weights: f16, q8, q4"
                    .into(),
            ));
        }
        Ok(())
    }
}
