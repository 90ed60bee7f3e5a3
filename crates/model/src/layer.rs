//! One layer: the step from layer inputs to layer outputs.

use std::ops::Range;

use crate::attention::attention;
use crate::context::Context;
use crate::kv_cache::KvCache;
use crate::mlp::mlp;
use crate::spec::ModelSpec;
use crate::step::Row;
use crate::weights::LayerRef;
use crate::workspace::Scratch;

/// What a layer is told about the step it is part of.
#[derive(Clone, Copy)]
pub(crate) struct LayerCall<'a> {
    pub(crate) spec: &'a ModelSpec,
    pub(crate) index: usize,
    pub(crate) rows: &'a [Row],
    /// Cosines and sines of the rows' positions, `[rows, head_dim / 2]`.
    pub(crate) cos: &'a [f32],
    pub(crate) sin: &'a [f32],
    /// `1 / sqrt(head_dim)`.
    pub(crate) score_scale: f32,
}

impl<'a> LayerCall<'a> {
    /// The same for some of the rows.
    pub(crate) fn some_rows(&self, rows: Range<usize>) -> Self {
        let half = self.spec.head_dim / 2;
        Self {
            rows: &self.rows[rows.clone()],
            cos: &self.cos[rows.start * half..],
            sin: &self.sin[rows.start * half..],
            ..*self
        }
    }

    /// Cosines and sines of row `t`.
    pub(crate) fn angles(&self, t: usize) -> (&'a [f32], &'a [f32]) {
        let half = self.spec.head_dim / 2;
        (&self.cos[t * half..][..half], &self.sin[t * half..][..half])
    }
}

/// Takes the residual stream `x` (`[rows, hidden]`) through one layer, and the rows' keys and values into the caches.
///
/// All that passes from one layer to the next is `x`, so this is where a layer could be computed elsewhere.
pub(crate) fn layer(
    ctx: &Context<'_>,
    call: &LayerCall<'_>,
    weights: &LayerRef<'_>,
    caches: &mut [&mut KvCache],
    scratch: &mut Scratch,
    x: &mut [f32],
) {
    attention(ctx, call, weights, caches, scratch, x);
    mlp(ctx, call, weights, scratch, x);
}
