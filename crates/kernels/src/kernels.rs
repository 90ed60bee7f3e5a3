//! The table of kernels of one instruction set, and the checked methods that call through it.

use std::ops::Range;

use onebit_format::{Layout, MatrixRef, Scales};
use thiserror::Error;

use crate::activation::Activation;
use crate::input::{I8Rows, Input, RowQuant};
use crate::kv::{Attend, KvType};
use crate::tiles::TileMut;

/// A kernel set was asked for by a name that cannot be served.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KernelError {
    /// No set has this name.
    #[error("unknown kernel set {name:?}; known sets: {}", Kernels::all_names().join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// The set exists, but not on this machine.
    #[error("kernel set {name} is not available: {reason}")]
    Unavailable {
        /// The name asked for.
        name: String,
        /// What is missing.
        reason: String,
    },
}

/// The kernels of one instruction set.
pub struct Kernels {
    pub(crate) name: &'static str,
}

#[allow(unused_variables, clippy::todo, clippy::unused_self)]
impl Kernels {
    /// The sets this machine can run, `scalar` first and the best last.
    pub fn available() -> &'static [&'static Kernels] {
        static SCALAR: Kernels = Kernels { name: "scalar" };
        static SETS: [&Kernels; 1] = [&SCALAR];
        &SETS
    }

    /// The best set this machine can run.
    pub fn best() -> &'static Kernels {
        Self::available()
            .last()
            .expect("scalar is always available")
    }

    /// The set called `name`.
    ///
    /// # Errors
    /// When there is no such set, or this machine cannot run it.
    pub fn by_name(name: &str) -> Result<&'static Kernels, KernelError> {
        if let Some(set) = Self::available().iter().find(|set| set.name == name) {
            return Ok(set);
        }
        Err(match Self::why_unavailable(name) {
            Some(reason) => KernelError::Unavailable {
                name: name.to_owned(),
                reason,
            },
            None => KernelError::Unknown {
                name: name.to_owned(),
            },
        })
    }

    /// The names of all sets this build knows, available or not.
    pub fn all_names() -> &'static [&'static str] {
        &["scalar", "avx2", "avx512"]
    }

    /// What this machine lacks to run the set called `name`; `None` when it lacks nothing, or there
    /// is no such set.
    pub fn why_unavailable(name: &str) -> Option<String> {
        (name != "scalar" && Self::all_names().contains(&name)).then(|| "not built".to_owned())
    }

    /// The name of this set.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Quantizes one row of activations to int8: `scale = 127 / max(absmax, 1e-5)` and
    /// `q = clamp(round_half_even(x * scale), -128, 127)`. The tail of `q` past `x` is zeroed.
    ///
    /// A row that holds an infinity or NaN gives all-zero codes and a NaN scale, so that every
    /// product of it is NaN.
    ///
    /// # Panics
    /// When `q` is shorter than `x`.
    pub fn quantize_i8(&self, x: &[f32], q: &mut [i8]) -> RowQuant {
        todo!()
    }

    /// The matrix product `out[t][i] = sum over k of w[rows.start + i][k] * x[t][k]`.
    ///
    /// # Panics
    /// When shapes do not fit, or the kind of input does not suit the layout.
    pub fn matmul(
        &self,
        w: &MatrixRef<'_>,
        rows: Range<usize>,
        x: Input<'_>,
        out: &mut TileMut<'_, f32>,
    ) {
        todo!()
    }

    /// `out = x / sqrt(mean(x^2) + eps) * weight`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        todo!()
    }

    /// `x += y`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        todo!()
    }

    /// `gate = activation(gate) * up`.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn gate(&self, activation: Activation, gate: &mut [f32], up: &[f32]) {
        todo!()
    }

    /// Rotates one head in place, the pairs being element `i` of its first and of its second half:
    /// `(a, b)` becomes `(a * cos - b * sin, b * cos + a * sin)`.
    ///
    /// # Panics
    /// When `cos` and `sin` are not half as long as `head`.
    pub fn rope(&self, head: &mut [f32], cos: &[f32], sin: &[f32]) {
        todo!()
    }

    /// Stores one key or value row in a cache; f16 saturates at +-65504.
    ///
    /// # Panics
    /// When `out` is not `kind.row_bytes(x.len())` long.
    pub fn store_kv(&self, kind: KvType, x: &[f32], out: &mut [u8]) {
        todo!()
    }

    /// Attention of one query position: for each query head the average of the values at
    /// `first..=last`, weighted by the softmax of `scale * (query . key)`.
    ///
    /// # Panics
    /// When sizes do not fit each other, or there are more positions than slots.
    pub fn attend(&self, a: &Attend<'_>, out: &mut [f32]) {
        a.check(out);
        todo!()
    }
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernels")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[allow(unused_imports)]
use {I8Rows as _, Layout as _, Scales as _};
