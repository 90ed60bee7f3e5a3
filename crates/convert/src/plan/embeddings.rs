//! Embeddings and output head: two tables, or one that is both.

use onebit_format::Layout;

use safetensors::Dtype;

use crate::config::quant::Quant;
use crate::error::{ConvertError, Result};
use crate::few_bits;
use crate::linear::{self, Weights};
use crate::options::FloatType;
use crate::plan::{Item, Matrix, Plan};
use crate::signs;
use crate::source::shard::TensorInfo;

impl<'a> Plan<'a> {
    /// Plans the embeddings and returns the head, if it is a matrix of its own.
    pub(super) fn embeddings(&mut self) -> Result<Option<Matrix<'a>>> {
        let [embed, head] = ["model.embed_tokens.weight", "lm_head.weight"];
        let tensors = &self.checkpoint.tensors;
        let (embed, head) = match (tensors.get(embed), tensors.get(head)) {
            (None, Some(head)) if self.config.spec.tied_head => (head, None),
            (Some(embed), Some(head)) if self.config.spec.tied_head => {
                (embed, self.untied(embed, head)?)
            }
            (_, head) => (self.checkpoint.tensor(embed)?, head),
        };
        if head.is_none() && !self.config.spec.tied_head {
            self.notes.push("there is no lm_head: the head is the embeddings, whatever tie_word_embeddings says".into());
        }
        self.tied_head = head.is_none();
        let [embed_type, head_type] = self.embed_types(embed, head.is_none());
        let matrix = self.table("embed", embed, embed_type)?;
        self.items.push(Item::Matrix(matrix));
        let head = head.or(Some(embed)).filter(|_| !self.tied_head);
        head.map(|head| self.table("head", head, head_type))
            .transpose()
    }

    /// The head of a checkpoint that calls it tied and has it nevertheless: `transformers` ties
    /// the two only if they are equal.
    fn untied(
        &mut self,
        embed: &'a TensorInfo,
        head: &'a TensorInfo,
    ) -> Result<Option<&'a TensorInfo>> {
        let words = [embed, head].map(|table| table.dtype == Dtype::U32 && self.is_mlx());
        if words == [false, false] && self.checkpoint.equal(embed, head)? {
            self.use_tensor(head);
            return Ok(None);
        }
        self.notes.push(
            "lm_head differs from the embeddings although tie_word_embeddings is true: both are kept".into(),
        );
        Ok(Some(head))
    }

    /// Types of embeddings and head. One tensor takes one type; two different ones untie it.
    /// `None` leaves it to the values.
    fn embed_types(&mut self, embed: &TensorInfo, tied: bool) -> [Option<FloatType>; 2] {
        let (wanted_embed, wanted_head) = (self.options.embed, self.options.head);
        if !tied {
            return [wanted_embed, wanted_head];
        }
        let head = wanted_head.or(wanted_embed);
        let embed_type = wanted_embed.or(head);
        if embed_type != head {
            self.tied_head = false;
            let own = linear::float_layout(embed).unwrap_or(Layout::F32);
            let [rows, cols] = [self.config.spec.vocab, self.config.spec.hidden];
            self.notes.push(format!(
                "two types for tied embeddings and head untie them, which takes {} bytes more than --head alone",
                table_layout(embed_type.unwrap_or_default(), own).byte_len(rows, cols).unwrap_or_default()
            ));
        }
        [embed_type, head]
    }

    fn is_mlx(&self) -> bool {
        matches!(self.config.quant, Some(Quant::Mlx(_)))
    }

    fn table(
        &mut self,
        name: &str,
        tensor: &'a TensorInfo,
        choice: Option<FloatType>,
    ) -> Result<Matrix<'a>> {
        let [rows, cols] = [self.config.spec.vocab, self.config.spec.hidden];
        let module = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name);
        let mut weights = match self.config.quant {
            Some(Quant::Mlx(quant)) => few_bits::mlx(self.checkpoint, quant, module, [rows, cols])?,
            _ => linear::dense(tensor, [rows, cols])?,
        };
        if choice.is_none() && self.has_signs() {
            weights = self.table_by_value(weights)?;
        }
        let layout = match (&weights, weights.kind()) {
            (Weights::Dense { layout, .. }, _) => table_layout(choice.unwrap_or_default(), *layout),
            (_, Some(kind)) if matches!(choice, None | Some(FloatType::Keep)) => {
                signs::layout(kind, &weights, self.trained())
            }
            _ => {
                return Err(ConvertError::Request(format!(
                    "tensor `{}` has one or two bits per weight already: keep its type",
                    tensor.name
                )));
            }
        };
        self.use_weights(&weights);
        Ok(Matrix {
            name: name.into(),
            weights,
            rows,
            cols,
            layout,
            trained: self.trained(),
            transposed: false,
        })
    }
}

fn table_layout(choice: FloatType, own: Layout) -> Layout {
    match choice {
        FloatType::Keep => own,
        FloatType::F16 => Layout::F16,
        FloatType::Q8 => Layout::I8,
        FloatType::Q4 => Layout::I4,
    }
}
