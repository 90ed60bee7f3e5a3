//! Decoder for 1-bit, ternary and dense language models: configured by data, one forward pass for many sequences

mod attention;
mod checks;
mod context;
mod error;
mod forward;
mod inputs;
mod kv_cache;
mod layer;
mod linear;
mod mlp;
mod model;
mod rope;
mod spec;
mod step;
mod weights;
mod workspace;

pub use error::{ErrorKind, ModelError, SpecError};
pub use kv_cache::KvCache;
pub use model::{Model, WeightBytes};
pub use onebit_kernels::KvType;
pub use spec::{
    Activation, MAX_HEAD_DIM, MAX_LAYERS, MAX_POSITIONS, MAX_VOCAB, MAX_WIDTH, ModelSpec,
    RopeScaling, RopeSpec, WindowSpec,
};
pub use step::{Output, Row, Step};
pub use workspace::Workspace;
