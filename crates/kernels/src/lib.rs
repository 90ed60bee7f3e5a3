//! Exact integer kernels for 1-bit and ternary weights, chosen at run time and bit-identical on every CPU

mod activation;
mod aligned;
#[allow(
    clippy::needless_range_loop,
    reason = "one index runs through several arrays of registers"
)]
mod body;
mod input;
mod kernels;
mod kv;
pub mod oracle;
mod par;
#[allow(
    clippy::needless_range_loop,
    reason = "one index runs through several arrays of registers"
)]
mod sets;
mod tiles;

pub use activation::Activation;
pub use aligned::AlignedVec;
pub use input::{F32Rows, I8Rows, Input, RowQuant, padded_stride};
pub use kernels::{KernelError, Kernels};
pub use kv::{Attend, KV_BLOCK, KvType, KvView};
pub use par::{Executor, Serial};
pub use tiles::{Claims, Cuts, Grid, TileMut, Tiles};
