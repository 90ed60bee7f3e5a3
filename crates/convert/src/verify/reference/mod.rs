//! The network evaluated from the tensors of the checkpoint, for clarity and not for speed.
//!
//! This is the second opinion that a packed file is compared with: it shares with the converter the reading of tensors
//! and of the config, and nothing of packing, kernels or the decoder. All tokens go through one layer after another
//! as one batch, in `f32`, by the formulas that `transformers` evaluates in float32.

mod arithmetic;
mod attention;
mod linear;
mod rope;
mod tensors;
mod weights;

use onebit_format::ActivationMode;

use crate::config::Config;
use crate::config::quant::Quant;
use crate::error::{ConvertError, Result};
use crate::family::Family;
use crate::source::Checkpoint;
use crate::verify::limits::Trained;
use crate::verify::work::Work;
use arithmetic::Rows;
use linear::Linear;
use rope::Rope;
use tensors::{optional_vector, vector};
use weights::Matrix;

/// The linears of a layer: in the packed file, in the checkpoint.
const LINEARS: [(&str, &str); 7] = [
    ("q", "self_attn.q_proj"),
    ("k", "self_attn.k_proj"),
    ("v", "self_attn.v_proj"),
    ("o", "self_attn.o_proj"),
    ("gate", "mlp.gate_proj"),
    ("up", "mlp.up_proj"),
    ("down", "mlp.down_proj"),
];

/// A checkpoint as a network.
pub(super) struct Reference<'a> {
    checkpoint: &'a Checkpoint,
    config: &'a Config,
    family: &'static Family,
    activation: fn(f32) -> f32,
    head: Matrix<'a>,
}

/// The residual stream after the last norm, `[tokens, hidden]`.
pub(super) struct Hidden(Rows);

impl<'a> Reference<'a> {
    /// # Errors
    /// Where the config asks for something that is not computed here.
    pub(super) fn new(
        checkpoint: &'a Checkpoint,
        config: &'a Config,
        family: &'static Family,
    ) -> Result<Self> {
        let activation = arithmetic::activation(config.spec.activation).ok_or_else(|| {
            let subject = format!("{:?}", config.spec.activation);
            ConvertError::unsupported(subject, "verification does not compute it")
        })?;
        Ok(Self {
            checkpoint,
            config,
            family,
            activation,
            head: table(checkpoint, config, ["lm_head", "model.embed_tokens"])?,
        })
    }

    /// Bytes of the source that evaluating some tokens reads, the logits taken in `pieces`.
    pub(super) fn bytes(&self, pieces: usize) -> u64 {
        let tables = ["model.embed_tokens.weight", "lm_head.weight"];
        let layers = self.checkpoint.tensors.values();
        let layers = layers.filter(|tensor| !tables.contains(&tensor.name.as_str()));
        layers.map(|tensor| tensor.bytes).sum::<u64>() + self.head.bytes() * pieces as u64
    }

    /// How the source multiplies by what the packed file calls `name`.
    pub(super) fn trained(&self, name: &str) -> Result<Trained> {
        let module = match name {
            "embed" => return Ok(Trained::Float(self.embeddings()?.dtype())),
            "head" => return Ok(Trained::Float(self.head.dtype())),
            name => {
                let module = name.rsplit_once('.').and_then(|(layer, name)| {
                    let module = LINEARS.iter().find(|linear| linear.0 == name)?.1;
                    Some(format!("model.{layer}.{module}"))
                });
                module.ok_or_else(|| {
                    ConvertError::malformed(format!("tensor `{name}`"), "no linear of that name")
                })?
            }
        };
        let float = || {
            Ok(Trained::Float(
                Matrix::floats(self.checkpoint, &module)?.dtype(),
            ))
        };
        match &self.config.quant {
            Some(Quant::BitNet(quant)) if quant.converts(&module) => Ok(Trained::Int8),
            Some(Quant::OneBit(quant)) => match quant.activations {
                ActivationMode::F32 => float(),
                ActivationMode::I8Token => Ok(Trained::Int8),
                _ => Ok(Trained::FewBits),
            },
            _ => float(),
        }
    }

    fn embeddings(&self) -> Result<Matrix<'a>> {
        table(
            self.checkpoint,
            self.config,
            ["model.embed_tokens", "lm_head"],
        )
    }

    /// Takes a sequence from its start through all layers.
    pub(super) fn hidden(&self, tokens: &[u32], work: &mut Work<'_>) -> Result<Hidden> {
        let mut x = self.embed(tokens)?;
        let rope = Rope::new(&self.config.spec, tokens.len())?;
        for layer in 0..self.config.spec.layers {
            let layer = Layer {
                network: self,
                rope: &rope,
                prefix: format!("model.layers.{layer}"),
                window: self.config.spec.window(layer),
            };
            x.add(&layer.attention(&x, work)?);
            x.add(&layer.mlp(&x, work)?);
        }
        let norm = vector(self.checkpoint, "model.norm.weight")?;
        Ok(Hidden(x.norm(&norm, self.config.spec.norm_eps)))
    }

    /// Logits of the tokens `range`, `[range.len(), vocab]`.
    pub(super) fn logits(
        &self,
        hidden: &Hidden,
        range: std::ops::Range<usize>,
        work: &mut Work<'_>,
    ) -> Result<Vec<f32>> {
        let width = hidden.0.width;
        let values = hidden.0.values[range.start * width..range.end * width].to_vec();
        Ok(linear::product(&self.head, &Rows { width, values }, "lm_head", work)?.values)
    }

    fn embed(&self, tokens: &[u32]) -> Result<Rows> {
        let embed = self.embeddings()?;
        let mut x = Rows {
            width: embed.cols,
            values: Vec::new(),
        };
        for token in tokens {
            let row = *token as usize;
            x.values.extend(embed.weights(row..row + 1)?);
        }
        Ok(x)
    }
}

/// The first of two tables that is there: embeddings and head stand in for each other.
fn table<'a>(
    checkpoint: &'a Checkpoint,
    config: &Config,
    [first, second]: [&str; 2],
) -> Result<Matrix<'a>> {
    let present = checkpoint.tensors.contains_key(&format!("{first}.weight"));
    linear::plain(
        checkpoint,
        config.quant.as_ref(),
        if present { first } else { second },
    )
}

/// One layer, whose tensors are read when they are used.
struct Layer<'n, 'a> {
    network: &'n Reference<'a>,
    rope: &'n Rope,
    prefix: String,
    window: Option<usize>,
}

impl Layer<'_, '_> {
    fn attention(&self, x: &Rows, work: &mut Work<'_>) -> Result<Rows> {
        let spec = &self.network.config.spec;
        let x = self.norm("input_layernorm", x.clone())?;
        let q = self.norm(
            "self_attn.q_norm",
            self.linear("self_attn.q_proj", &x, work)?,
        )?;
        let k = self.norm(
            "self_attn.k_norm",
            self.linear("self_attn.k_proj", &x, work)?,
        )?;
        let v = self.linear("self_attn.v_proj", &x, work)?;
        let [q, k] = [q, k].map(|heads| self.rope.rotate(heads));
        let heads = attention::attend(&q, &k, &v, spec.head_dim, self.window, work)?;
        let heads = match self.network.family.attn_sub_norm {
            Some(name) => self.norm(name, heads)?,
            None => heads,
        };
        self.linear("self_attn.o_proj", &heads, work)
    }

    fn mlp(&self, x: &Rows, work: &mut Work<'_>) -> Result<Rows> {
        let x = self.norm("post_attention_layernorm", x.clone())?;
        let gate = self.linear("mlp.gate_proj", &x, work)?;
        let up = self.linear("mlp.up_proj", &x, work)?;
        let product = gate.gated(self.network.activation, &up);
        let product = match self.network.family.ffn_sub_norm {
            Some(name) => self.norm(name, product)?,
            None => product,
        };
        self.linear("mlp.down_proj", &product, work)
    }

    /// The norm of that name; nothing where the checkpoint has none.
    fn norm(&self, name: &str, x: Rows) -> Result<Rows> {
        let name = format!("{}.{name}.weight", self.prefix);
        let weight = optional_vector(self.network.checkpoint, &name)?;
        Ok(match weight {
            Some(weight) => x.norm(&weight, self.network.config.spec.norm_eps),
            None => x,
        })
    }

    fn linear(&self, name: &str, x: &Rows, work: &mut Work<'_>) -> Result<Rows> {
        let module = format!("{}.{name}", self.prefix);
        let quant = self.network.config.quant.as_ref();
        Linear::new(self.network.checkpoint, quant, module, x.width)?.forward(x, work)
    }
}
