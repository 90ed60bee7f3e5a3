//! Decoder for 1-bit, ternary and dense language models: configured by data, one forward pass for many sequences

mod error;
mod spec;

pub use error::SpecError;
pub use spec::{
    Activation, MAX_HEAD_DIM, MAX_LAYERS, MAX_POSITIONS, MAX_VOCAB, MAX_WIDTH, ModelSpec,
    RopeScaling, RopeSpec, WindowSpec,
};
