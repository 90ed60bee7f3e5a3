//! Exact integer kernels for 1-bit and ternary weights, chosen at run time and bit-identical on
//! every CPU.
//!
//! # A matrix product, from floats to floats
//!
//! A ternary matrix holds -1, 0 and 1, two bits each, and one scale; [`onebit_format`] packs it.
//! The activations of a token are quantized to int8 with a scale of their own. The product is then
//! a sum of integers, which is exact, times both scales:
//!
//! ```
//! use onebit_format::{Layout, MatrixRef, Scales, pack};
//! use onebit_kernels::{AlignedVec, I8Rows, Input, Kernels, TileMut, oracle, padded_stride};
//!
//! // Two rows of three ternary weights; a row is padded to whole 64-byte atoms.
//! let row_bytes = Layout::T2.row_bytes(3).unwrap();
//! let mut bytes = AlignedVec::<u8>::zeroed(2 * row_bytes);
//! pack::ternary_row(&[1, 0, -1], &mut bytes[..row_bytes]);
//! pack::ternary_row(&[1, 1, 1], &mut bytes[row_bytes..]);
//! let w = MatrixRef::new(Layout::T2, 2, 3, &bytes, Scales::Tensor(0.5)).unwrap();
//!
//! // The best kernels this CPU can run, and one token, quantized.
//! let kernels = Kernels::best();
//! let mut codes = vec![0; padded_stride(3)];
//! let quant = kernels.quantize_i8(&[2.0, -1.0, 0.5], &mut codes);
//! assert_eq!(codes[..3], [127, -64, 32]);
//!
//! // All rows for all tokens; a large product is cut into tiles for several threads.
//! let (scales, sums) = ([quant.scale], [quant.sum]);
//! let x = Input::I8(I8Rows::new(&codes, codes.len(), &scales, &sums));
//! let mut out = [0.0; 2];
//! kernels.matmul(&w, 0..2, x, &mut TileMut::whole(&mut out, 1, 2));
//!
//! // Close to 0.5 * (2 - 0.5) and 0.5 * (2 - 1 + 0.5), and exactly what the naive reference says.
//! assert!((out[0] - 0.75).abs() < 0.02 && (out[1] - 0.75).abs() < 0.02);
//! assert_eq!(out[..], oracle::matmul(&w, 0..2, x)[..]);
//! ```
//!
//! # What is here
//!
//! - [`Kernels`]: one table of functions per instruction set. [`Kernels::best`] asks the CPU;
//!   nothing is decided when the crate is compiled, so one binary serves every machine.
//! - [`Input`]: what weights are multiplied with: int8 per token or per 128 columns, ternary codes,
//!   signs as bits (by XNOR and popcount), floats.
//! - [`oracle`]: the naive reference that all of them are tested against.
//! - [`Tiles`] and [`Executor`]: how a caller's threads share one output. The kernels start no
//!   threads, open no files, and allocate nothing.
//!
//! # What is promised
//!
//! Every set gives the same bits, for any split of rows and tokens over calls and threads. Integer
//! sums are exact; float operations are single IEEE operations in an order that does not depend on
//! the width of the registers: 16 virtual lanes, sums of products by fused multiply-add, one
//! reduction tree, an exponential of the crate's own. Only the sign and payload of NaN are open.
//!
//! Any bytes make a valid matrix: an invalid ternary code counts as +2 on every set.

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
mod thread;
mod tiles;
mod transposed;

pub use activation::Activation;
pub use aligned::AlignedVec;
pub use input::{BitRows, F32Rows, I8GroupRows, I8Rows, Input, RowQuant, padded_stride};
pub use kernels::{KernelError, Kernels};
pub use kv::{
    Attend, KV_BLOCK, KV_GROUP, KV_SPAN, KvSide, KvType, KvView, KvViewMut, MAX_PACKED_HEAD_DIM,
};
pub use par::{Executor, Serial};
pub use tiles::{Claims, Cuts, Grid, TileMut, Tiles};
