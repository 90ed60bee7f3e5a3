//! Tensors that the family has no use for.

use crate::config::Config;
use crate::error::{ConvertError, Result};
use crate::family::Family;
use crate::plan::Plan;

/// Parts of names of tensors that only other kinds of networks have, and what those are.
#[rustfmt::skip]
static FOREIGN: &[(&[&str], &str)] = &[
    (&[".experts.", ".block_sparse_moe.", ".mlp.gate.weight", ".shared_expert"], "mixtures of experts are not computed"),
    (&["vision_tower", "vision_model", "visual.", "mm_projector", "multi_modal_projector", "image_newline", "audio_tower"],
        "models with other modalities than text are not computed"),
    (&[".mamba.", ".mixer.", ".A_log", ".linear_attn.", ".conv1d.", ".ssm."],
        "layers other than attention and MLP (state spaces, convolutions, linear attention) are not computed"),
    (&["hadamard", "spinquant", "quarot"], "rotated weights are not computed"),
    (&["encoder.layer.", "encoder.block.", ".crossattention.", ".encoder_attn."], "encoders are not computed"),
    (&[".lora_A.", ".lora_B."], "adapters are not merged; save the merged model"),
    (&[".qweight", ".qzeros", ".absmax", ".weight_packed"], "weights quantized by other methods are not read"),
];

impl Plan<'_> {
    /// Tensors of other kinds of networks are named as such, before others are missed.
    pub(super) fn refuse_foreign_tensors(&self) -> Result<()> {
        for name in self.checkpoint.tensors.keys() {
            let found = |part: &&str| {
                name.contains(*part) || name.starts_with(part.trim_start_matches('.'))
            };
            let kind = FOREIGN.iter().find(|(parts, _)| parts.iter().any(found));
            if let Some((_, reason)) = kind {
                return Err(ConvertError::unsupported(
                    format!("tensor `{name}`"),
                    reason,
                ));
            }
        }
        Ok(())
    }

    /// Every tensor must have been used: one that is not changes the network, or the config lies.
    pub(super) fn refuse_leftovers(&mut self) -> Result<()> {
        for name in self.checkpoint.tensors.keys() {
            if self.used.contains(name.as_str()) {
                continue;
            }
            if name.ends_with(".rotary_emb.inv_freq") {
                self.notes.push(format!(
                    "tensor `{name}` is not used: the frequencies follow from the config"
                ));
                continue;
            }
            return Err(leftover(name, self.config, self.family));
        }
        Ok(())
    }
}

fn leftover(name: &str, config: &Config, family: &Family) -> ConvertError {
    let tensor = format!("tensor `{name}`");
    let layer = name
        .strip_prefix("model.layers.")
        .and_then(|rest| rest.split_once('.'));
    if let Some(layer) = layer.and_then(|(number, _)| number.parse::<usize>().ok()) {
        let layers = config.spec.layers;
        if layer >= layers {
            return ConvertError::malformed(tensor, format!("num_hidden_layers is {layers}"));
        }
        let linear = [
            "q_proj.",
            "k_proj.",
            "v_proj.",
            "o_proj.",
            "gate_proj.",
            "up_proj.",
            "down_proj.",
        ];
        let linear = linear.iter().find_map(|linear| name.split_once(linear));
        match linear.map(|(_, kind)| kind) {
            Some("bias") => {
                return ConvertError::malformed(tensor, "config.json gives this linear no bias");
            }
            Some("weight_scale") => {
                return ConvertError::malformed(tensor, "a scale of a weight that is not packed");
            }
            Some("rms_norm.weight") => {
                let reason = if config.spec.input_norm_eps.is_some() {
                    "quantization_config leaves this linear dense, without a norm of its own"
                } else {
                    "quantization_config.use_rms_norm is not true"
                };
                return ConvertError::malformed(tensor, reason);
            }
            _ => {}
        }
    }
    ConvertError::unsupported(
        tensor,
        format!("{} models have no such tensor", family.architecture),
    )
}
