//! Models that are stored as floats and are ternary or binary by their values, such as the "unpacked" Bonsai checkpoints.

use crate::config::few_bits::Kind;
use crate::error::Result;
use crate::linear::{Groups, Weights};
use crate::options::WeightType;
use crate::plan::Plan;
use crate::signs::{self, Found};
use crate::source::shard::TensorInfo;

/// The linears of a layer.
const LINEARS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

impl<'a> Plan<'a> {
    /// Looks at the values of a dense model's linears, and remembers what they are if that is true of all: the model is taken as
    /// a whole, and stays dense from the first group on that has other values.
    pub(super) fn find_signs(&mut self) -> Result<()> {
        let packs = matches!(
            self.options.weights,
            WeightType::Auto | WeightType::T2 | WeightType::Dense | WeightType::B1
        );
        if !packs || self.config.quant.is_some() {
            return Ok(());
        }
        let mut found = std::collections::BTreeMap::new();
        for layer in 0..self.config.spec.layers {
            for linear in LINEARS {
                let name = format!("model.layers.{layer}.{linear}.weight");
                let Some(tensor) = self.checkpoint.tensors.get(&name) else {
                    return Ok(());
                };
                let Some(signs) = signs::find(self.checkpoint, tensor)? else {
                    return Ok(());
                };
                found.insert(tensor.name.as_str(), signs);
            }
        }
        let ternary = |found: &Found| {
            matches!(
                found,
                Found::Signs(Kind::Ternary) | Found::Wide(Kind::Ternary)
            )
        };
        let values = if found.values().any(ternary) {
            "-d, 0 and d"
        } else {
            "-d and d"
        };
        self.notes.push(format!(
            "the values of all linears are {values} in groups of 128 columns: they are packed exactly; \
             the model was trained with float activations"
        ));
        for (name, _) in found
            .iter()
            .filter(|(_, found)| matches!(found, Found::Wide(_)))
        {
            self.notes.push(format!(
                "tensor `{name}`: some d is no number of 16 bits (F16), so it stays dense"
            ));
        }
        self.found = found;
        Ok(())
    }

    /// Whether the model is ternary or binary by its values.
    pub(super) fn has_signs(&self) -> bool {
        !self.found.is_empty()
    }

    /// Dense weights as what their values are found to be.
    pub(super) fn by_value(&self, weights: Weights<'a>) -> Weights<'a> {
        match weights {
            Weights::Dense { weight, .. } => match self.found.get(weight.name.as_str()) {
                Some(Found::Signs(kind)) => grouped(weight, *kind),
                _ => weights,
            },
            weights => weights,
        }
    }

    /// The embeddings or the head of such a model, where they are ternary or binary too.
    pub(super) fn table_by_value(&mut self, weights: Weights<'a>) -> Result<Weights<'a>> {
        let Weights::Dense { weight, .. } = weights else {
            return Ok(weights);
        };
        match signs::find(self.checkpoint, weight)? {
            Some(Found::Signs(kind)) => Ok(grouped(weight, kind)),
            _ => {
                self.notes.push(format!(
                    "tensor `{}` has other values and stays dense",
                    weight.name
                ));
                Ok(weights)
            }
        }
    }
}

fn grouped(weight: &TensorInfo, kind: Kind) -> Weights<'_> {
    Weights::Grouped {
        weight,
        kind,
        groups: Groups::Signs,
    }
}
