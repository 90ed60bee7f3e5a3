//! What will be written, in execution order, before anything is.

mod embeddings;
mod leftovers;
mod signs;

use std::collections::{BTreeMap, BTreeSet};

use onebit_format::{ActivationMode, Layout};
use onebit_model::{Activation, ModelSpec};

use crate::config::Config;
use crate::config::few_bits::Kind;
use crate::config::quant::Quant;
use crate::error::{ConvertError, Result};
use crate::family::{BiasRule, Family};
use crate::linear::{self, Groups, Weights};
use crate::options::{DownType, Options, WeightType};
use crate::signs::{Found, layout as natural_layout};
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
    /// What ternary and binary weights were trained with.
    pub(crate) trained: ActivationMode,
    /// Stored with inputs as rows.
    pub(crate) transposed: bool,
}

impl Matrix<'_> {
    /// What the inputs were trained to be turned into. Float layouts multiply floats; weights made int8 or 4 bits wide here
    /// take int8.
    pub(crate) fn activation(&self) -> ActivationMode {
        match self.layout {
            layout if layout.is_ternary() || layout.is_binary() => self.trained,
            layout if layout.is_float() => ActivationMode::F32,
            _ => ActivationMode::I8Token,
        }
    }

    /// Rows and columns as stored.
    pub(crate) fn stored(&self) -> [usize; 2] {
        match self.transposed {
            true => [self.cols, self.rows],
            false => [self.rows, self.cols],
        }
    }

    /// Whether a ternary or binary matrix has group scales.
    pub(crate) fn is_grouped(&self) -> bool {
        self.weights.is_grouped()
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
    /// What was found in the float tensors of a model all of whose linears are ternary or binary by their values.
    found: BTreeMap<&'a str, Found>,
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
            found: BTreeMap::new(),
        };
        plan.refuse_foreign_tensors()?;
        plan.find_signs()?;
        plan.refuse_rounding()?;
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
        let weights = self.by_value(weights);
        // Linears left dense are not replaced, so they have none.
        if config.spec.input_norm_eps.is_some() && weights.kind().is_some() {
            self.vector(
                format!("{name}.input_norm"),
                &format!("{module}.rms_norm.weight"),
                shape[1],
            )?;
        }
        let mut layout = self.linear_layout(&name, &weights, shape)?;
        self.use_weights(&weights);
        if let Some(scale) = checkpoint.tensors.get(&linear::names(&module)[1]) {
            self.use_tensor(scale);
        }
        let trained = self.trained();
        let transposed = self.is_transposed(&name, &weights, layout);
        if transposed {
            layout = Layout::T2;
        }
        let bias = format!("{name}.bias");
        let bias_factor = linear::bias_factor(&weights, config.quant.as_ref());
        self.items.push(Item::Matrix(Matrix {
            name,
            weights,
            rows: shape[0],
            cols: shape[1],
            layout,
            trained,
            transposed,
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

    fn use_weights(&mut self, weights: &Weights<'a>) {
        self.use_tensor(weights.tensor());
        if let Weights::Grouped {
            groups: Groups::Affine { scales, biases },
            ..
        } = weights
        {
            self.use_tensor(scales);
            self.use_tensor(biases);
        }
    }

    /// Whether a matrix is stored by columns: `down` where that was asked for and kernels multiply it.
    fn is_transposed(&self, name: &str, weights: &Weights<'_>, layout: Layout) -> bool {
        let quantized = self.trained() != ActivationMode::F32;
        let one_scale = layout.is_ternary() && !weights.is_grouped();
        let asked = match self.options.down {
            DownType::Rows => false,
            DownType::Columns => true,
            DownType::Auto => self.config.spec.activation == Activation::Relu2,
        };
        name.ends_with(".down") && asked && one_scale && quantized
    }

    /// What the inputs of this model's ternary and binary matrices were turned into in training.
    fn trained(&self) -> ActivationMode {
        match &self.config.quant {
            Some(Quant::BitNet(_)) => ActivationMode::I8Token,
            Some(Quant::OneBit(quant)) => quant.activations,
            Some(Quant::Mlx(_)) | None => ActivationMode::F32,
        }
    }

    fn linear_layout(
        &self,
        name: &str,
        weights: &Weights<'_>,
        shape: [usize; 2],
    ) -> Result<Layout> {
        let choice = self.options.weights;
        if let Weights::Dense { layout, .. } = weights {
            return Ok(match choice {
                WeightType::F16 => Layout::F16,
                WeightType::Q8 => Layout::I8,
                WeightType::Q4 => Layout::I4,
                WeightType::Auto
                | WeightType::Keep
                | WeightType::T2
                | WeightType::Dense
                | WeightType::B1 => *layout,
            });
        }
        let natural = |kind| match kind {
            Kind::Ternary if self.is_read_by_row(name) => Layout::T2,
            kind => natural_layout(kind, weights, self.trained()),
        };
        match (choice, weights.kind().unwrap_or(Kind::Ternary)) {
            (WeightType::Auto | WeightType::Keep, kind) => Ok(natural(kind)),
            (WeightType::T2, _) => Ok(natural(Kind::Ternary)),
            (WeightType::Dense, kind) => self.dense_layout(name, weights, kind, shape),
            (WeightType::B1, kind @ Kind::Binary) => Ok(natural(kind)),
            (WeightType::B1, Kind::Ternary) => Err(ConvertError::Request(
                "this model's weights are ternary: b1 has no zero, t2 holds them exactly in 2 bits"
                    .into(),
            )),
            (WeightType::F16 | WeightType::Q8 | WeightType::Q4, kind) => {
                let (kind, layout, bits) = match kind {
                    Kind::Binary => ("binary", "b1", "1 bit"),
                    Kind::Ternary => ("ternary", "t2", "2 bits"),
                };
                Err(ConvertError::Request(format!(
                    "this model's weights are {kind}: {layout} holds them exactly in {bits}; \
                     f16, q8 and q4 are for dense models"
                )))
            }
        }
    }

    /// Whether rows are left out one by one, because their gate is zero: each has bytes of its own then.
    fn is_read_by_row(&self, name: &str) -> bool {
        self.config.spec.activation == Activation::Relu2 && name.ends_with(".up")
    }

    /// The smaller layout of five codes to a byte, where the kernels can multiply it as the model was trained.
    fn dense_layout(
        &self,
        name: &str,
        weights: &Weights<'_>,
        kind: Kind,
        [rows, cols]: [usize; 2],
    ) -> Result<Layout> {
        let why = match (kind, weights) {
            (Kind::Binary, _) => "weights are binary: b1 holds them in 1 bit, dense takes 1.6",
            (Kind::Ternary, Weights::Grouped { .. }) => {
                "weights have a scale per 128 columns, dense has one per matrix: t2 holds them exactly"
            }
            (Kind::Ternary, _) if self.trained() == ActivationMode::F32 => {
                "activations are floats, which t2 multiplies faster than dense"
            }
            (Kind::Ternary, _) => {
                return Ok(match self.is_read_by_row(name) {
                    true => Layout::T5,
                    false => Layout::dense(rows, cols),
                });
            }
        };
        Err(ConvertError::Request(format!("this model's {why}")))
    }

    fn refuse_rounding(&self) -> Result<()> {
        let values = match self.options.weights {
            WeightType::T2 | WeightType::Dense => "-1, 0 and 1",
            WeightType::B1 => "-1 and 1",
            _ => return Ok(()),
        };
        if self.config.quant.is_some() || !self.found.is_empty() {
            return Ok(());
        }
        Err(ConvertError::Request(format!(
            "this model is dense: rounding its weights to {values} would destroy it. A model with such weights has to \
             be trained as one (quantization-aware training). Smaller types for dense weights: f16, q8, q4"
        )))
    }
}
