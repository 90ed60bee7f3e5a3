//! Decoder for 1-bit, ternary and dense language models: configured by data, one forward pass for many sequences.
//!
//! A [`Model`] is a packed file opened as a network, described by its [`ModelSpec`]. It is only ever read. What a running
//! sequence needs is a [`KvCache`]; what a running thread of control needs is a [`Workspace`]; and one call,
//! [`Model::forward`], takes rows of (sequence, position, token) through all layers:
//!
//! ```no_run
//! use onebit_kernels::{Kernels, Serial};
//! use onebit_model::{KvCache, KvType, Model, Row, Step, Workspace};
//!
//! # fn main() -> Result<(), onebit_model::ModelError> {
//! let model = Model::open("model.onebit")?;
//! let mut cache = KvCache::new(model.spec(), KvType::F16, 2048)?;
//! let mut workspace = Workspace::new(&model, 64, 1)?; // up to 64 rows a step, logits for 1 of them
//!
//! let mut tokens = vec![1u32, 15, 7];
//! for _ in 0..10 {
//!     let new = &tokens[cache.len()..]; // the prompt first, then one token at a time
//!     let row = |(i, &token)| Row { sequence: 0, position: cache.len() + i, token };
//!     let rows: Vec<Row> = new.iter().enumerate().map(row).collect();
//!     let step = Step { rows: &rows, caches: &mut [&mut cache], logits_for: &[rows.len() - 1], hidden: false };
//!     let output = model.forward(Kernels::best(), &Serial, &mut workspace, step)?;
//!     let best = (0..).zip(output.logits(0)).max_by(|a, b| a.1.total_cmp(b.1));
//!     tokens.push(best.expect("a vocabulary is never empty").0);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - **Several sequences at once.** A step may mix rows of any number of sequences, each with its own cache; decoding
//!   together reads the weights once. [`KvCache::fork`] continues a sequence in two ways, [`KvCache::truncate`] goes back.
//! - **Threads** are the caller's: pass an [`Executor`](onebit_kernels::Executor) with several instead of `Serial`.
//! - **Exact.** The logits of a row are the same bits for every kernel set and thread count, however the sequence is cut into
//!   steps and whatever else is in them. Dynamic rope scaling is the one case in which they also depend on how long the prompt
//!   is that a token is part of; [`KvCache::expect`] says it.
//! - **Memory.** [`Model::forward`] allocates nothing. [`KvCache::bytes`] and [`Workspace::bytes`] say beforehand what is
//!   reserved. To score a text, [`KvCache::for_one_step`] and [`Workspace::for_long_steps`] take it as one step with the keys and values
//!   of one layer.
//! - **Families are data.** There is one decoder. What distinguishes checkpoints — norms, activation, windows, biases, tied
//!   heads, layouts of the weights — is in the [`ModelSpec`] and in the file's tensors, which are checked against each other
//!   when a model is opened.

mod attention;
mod checks;
mod context;
mod error;
mod forms;
mod forward;
mod inputs;
mod kv_cache;
mod layer;
mod linear;
mod mlp;
mod model;
mod places;
mod residency;
mod rooms;
mod rope;
mod rope_spec;
mod rows;
mod spec;
mod step;
mod weights;
mod workspace;

pub use error::{ErrorKind, ModelError, SpecError};
pub use forms::{Activations, InputForms, binary_layout, ternary_layout};
pub use kv_cache::{KvCache, KvMark, KvOptions};
pub use model::{Model, WeightBytes};
pub use onebit_kernels::KvType;
pub use residency::Residency;
pub use rope_spec::{RopeScaling, RopeSpec};
pub use spec::{
    Activation, MAX_HEAD_DIM, MAX_LAYERS, MAX_POSITIONS, MAX_VOCAB, MAX_WIDTH, ModelSpec,
    WindowSpec,
};
pub use step::{Output, Row, Step};
pub use workspace::Workspace;
