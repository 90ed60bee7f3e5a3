//! Exact integer kernels for 1-bit and ternary weights, chosen at run time and bit-identical on every CPU

mod activation;
mod aligned;
mod input;
mod kernels;
mod kv;
mod par;
mod tiles;

pub use activation::Activation;
pub use aligned::AlignedVec;
pub use input::{F32Rows, I8Rows, Input, RowQuant, padded_stride};
pub use kernels::{KernelError, Kernels};
pub use kv::{Attend, KV_BLOCK, KvType, KvView};
pub use par::{Executor, Serial};
pub use tiles::{Claims, Cuts, Grid, TileMut, Tiles};
