//! All memory a forward pass writes to, allocated once.

use std::ops::Range;

use onebit_kernels::{AlignedVec, Claims};

use crate::context::{
    MAX_COLUMN_PARTS, MAX_PRODUCT_BLOCKS, MAX_TOKEN_BLOCKS, PART_TOKENS, SPANS_AT_ONCE,
};
use crate::error::ModelError;
use crate::forms::InputForms;
use crate::linear::Slots;
use crate::model::Model;
use crate::rooms::ROOMS;
use crate::rows;
use crate::spec::ModelSpec;

/// Claims of the outputs that one region writes.
pub(crate) type Claimed = [Claims; 3];

/// Scratch memory for steps of up to `max_rows` rows, made once and used for step after step.
///
/// [`Model::forward`] allocates nothing. A workspace belongs to one running step at a time, not to a sequence: any number of
/// caches can be used with one.
pub struct Workspace {
    pub(crate) max_rows: usize,
    /// Most rows that are in a layer at once.
    pub(crate) rows_at_once: usize,
    pub(crate) max_logits: usize,
    /// Rows of the last complete step, in `x`.
    pub(crate) complete: usize,
    pub(crate) x: AlignedVec<f32>,
    pub(crate) cos: AlignedVec<f32>,
    pub(crate) sin: AlignedVec<f32>,
    pub(crate) logits: AlignedVec<f32>,
    pub(crate) scratch: Scratch,
}

/// Memory that the parts of a layer share; attention and MLP use the same arena one after the other.
pub(crate) struct Scratch {
    slots: Slots,
    arena: AlignedVec<f32>,
    claims: Claimed,
    row_claims: Claims,
    sizes: Sizes,
}

/// What attention keeps in the arena; `q` is also room for the product of `o`.
pub(crate) struct AttentionBuffers<'a> {
    pub(crate) q: &'a mut [f32],
    pub(crate) k: &'a mut [f32],
    pub(crate) v: &'a mut [f32],
    pub(crate) attended: &'a mut [f32],
    /// Partial results: two per token, or those of [`SPANS_AT_ONCE`] spans and of the spans before them.
    pub(crate) partials: &'a mut [f32],
    pub(crate) head: &'a mut [f32],
}

impl AttentionBuffers<'_> {
    /// The same for some of the rows.
    pub(crate) fn some_rows(
        &mut self,
        spec: &ModelSpec,
        rows: Range<usize>,
    ) -> AttentionBuffers<'_> {
        let of = |width: usize| rows.start * width..rows.end * width;
        AttentionBuffers {
            q: &mut self.q[of(spec.q_width())],
            k: &mut self.k[of(spec.kv_width())],
            v: &mut self.v[of(spec.kv_width())],
            attended: &mut self.attended[of(spec.q_width())],
            partials: self.partials,
            head: self.head,
        }
    }
}

/// What the MLP keeps in the arena; `up` is also room for the product of `down`. Of [`PART_TOKENS`] rows and more it is [`Rooms`](crate::rooms::Rooms) for
/// both; of fewer it is all that is left of the arena, which threads that share the inputs of `down` find room in.
pub(crate) struct MlpBuffers<'a> {
    pub(crate) gate: &'a mut [f32],
    pub(crate) up: &'a mut [f32],
}

/// Everything the size of a workspace follows from.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sizes {
    hidden: usize,
    q_width: usize,
    kv_width: usize,
    head_dim: usize,
    ffn: usize,
    vocab: usize,
    forms: InputForms,
    input_norm_eps: Option<f32>,
}

impl Workspace {
    /// Room for steps of up to `max_rows` rows (at least 1), `max_logits` of which want logits.
    ///
    /// # Errors
    /// [`ModelError::Memory`] when memory does not suffice.
    pub fn new(model: &Model, max_rows: usize, max_logits: usize) -> Result<Self, ModelError> {
        Self::for_long_steps(model, max_rows, max_rows, max_logits)
    }

    /// The same, with room for only `rows_at_once` rows in a layer: longer steps take these many rows through a layer at a
    /// time, and all rows through one layer before the next. Such a step reads the weights once for all its rows, and a row more
    /// takes only `hidden + head_dim` numbers.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn for_long_steps(
        model: &Model,
        max_rows: usize,
        rows_at_once: usize,
        max_logits: usize,
    ) -> Result<Self, ModelError> {
        let max_rows = max_rows.max(1);
        let at_once = rows_at_once.clamp(1, max_rows);
        let (spec, forms) = (model.spec(), model.input_forms());
        Self::long_steps_bytes(spec, forms, [max_rows, at_once], max_logits)
            .and_then(|_| Self::allocate(spec, forms, [max_rows, at_once], max_logits))
            .ok_or(ModelError::Memory { what: "workspace" })
    }

    fn allocate(
        spec: &ModelSpec,
        forms: InputForms,
        [max_rows, rows_at_once]: [usize; 2],
        max_logits: usize,
    ) -> Option<Self> {
        let sizes = Sizes::of(spec, forms);
        let claims = (MAX_COLUMN_PARTS * MAX_PRODUCT_BLOCKS).max(MAX_TOKEN_BLOCKS * spec.kv_heads);
        Some(Self {
            max_rows,
            rows_at_once,
            max_logits,
            complete: 0,
            x: AlignedVec::try_zeroed(max_rows * sizes.hidden)?,
            cos: AlignedVec::try_zeroed(max_rows * sizes.head_dim / 2)?,
            sin: AlignedVec::try_zeroed(max_rows * sizes.head_dim / 2)?,
            logits: AlignedVec::try_zeroed(max_logits * sizes.vocab)?,
            scratch: Scratch {
                slots: Slots::new(rows_at_once, sizes.widest(), forms, spec.input_norm_eps)?,
                arena: AlignedVec::try_zeroed(sizes.arena(rows_at_once))?,
                claims: std::array::from_fn(|_| Claims::new(claims)),
                row_claims: Claims::new(MAX_TOKEN_BLOCKS),
                sizes,
            },
        })
    }

    /// Bytes that [`new`](Self::new) would reserve for a model of shape `spec` whose linears take inputs in these `forms`; `None`
    /// on overflow.
    pub fn bytes(
        spec: &ModelSpec,
        forms: InputForms,
        max_rows: usize,
        max_logits: usize,
    ) -> Option<usize> {
        Self::long_steps_bytes(spec, forms, [max_rows, max_rows], max_logits)
    }

    /// Bytes that [`for_long_steps`](Self::for_long_steps) would reserve for these numbers of rows in a step and in a layer.
    pub fn long_steps_bytes(
        spec: &ModelSpec,
        forms: InputForms,
        [max_rows, rows_at_once]: [usize; 2],
        max_logits: usize,
    ) -> Option<usize> {
        spec.validate().ok()?;
        let sizes = Sizes::of(spec, forms);
        let slots = Slots::bytes(1, sizes.widest(), forms, spec.input_norm_eps);
        let row = 4 * (sizes.hidden + sizes.head_dim);
        let largest = row
            .checked_mul(max_rows)?
            .checked_add((slots + 4 * sizes.arena(1)).checked_mul(rows_at_once)?)?
            .checked_add(max_logits.checked_mul(4 * sizes.vocab)?)?;
        isize::try_from(largest).ok()?;
        let slots = Slots::bytes(rows_at_once, sizes.widest(), forms, spec.input_norm_eps);
        let floats = sizes.arena(rows_at_once)
            + max_rows * (sizes.hidden + sizes.head_dim)
            + max_logits * sizes.vocab;
        Some(slots + 4 * floats)
    }

    /// Most rows in one step.
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// Most rows of logits in one step.
    pub fn max_logits(&self) -> usize {
        self.max_logits
    }

    /// Whether the workspace was made for a model of this shape.
    pub(crate) fn fits(&self, spec: &ModelSpec, forms: InputForms) -> bool {
        self.scratch.sizes == Sizes::of(spec, forms)
    }
}

impl Sizes {
    fn of(spec: &ModelSpec, forms: InputForms) -> Self {
        Self {
            hidden: spec.hidden,
            q_width: spec.q_width(),
            kv_width: spec.kv_width(),
            head_dim: spec.head_dim,
            ffn: spec.ffn,
            vocab: spec.vocab,
            forms,
            input_norm_eps: spec.input_norm_eps,
        }
    }

    /// The widest input of a linear.
    fn widest(&self) -> usize {
        self.hidden.max(self.q_width).max(self.ffn)
    }

    /// Numbers in the arena, which rows of the embedding that are read from the file pass through too.
    fn arena(&self, rows: usize) -> usize {
        let attention: usize = self.attention(rows).into_iter().map(aligned).sum();
        let mlp: usize = self.mlp(rows).into_iter().map(aligned).sum();
        attention.max(mlp).max(rows::most(self.hidden))
    }

    fn attention(&self, rows: usize) -> [usize; 6] {
        let partial = self.q_width / self.head_dim * (self.head_dim + 2);
        let head = rows.min(MAX_TOKEN_BLOCKS) * self.head_dim;
        let q = rows * self.q_width.max(self.hidden);
        [
            q,
            rows * self.kv_width,
            rows * self.kv_width,
            rows * self.q_width,
            (2 * rows).max(SPANS_AT_ONCE + 1) * partial,
            head,
        ]
    }

    fn mlp(&self, rows: usize) -> [usize; 2] {
        let widest = self.ffn.max(self.hidden);
        let up = match rows < PART_TOKENS {
            true => rows * widest,
            // Of many rows only what threads are at work at is there, and no less than of fewer.
            false => (rows * self.hidden)
                .max(ROOMS)
                .max((PART_TOKENS - 1) * widest)
                .min(rows * widest),
        };
        [rows * self.ffn, up]
    }
}

impl Scratch {
    /// Slots, arena and claims for the attention of `rows` rows.
    pub(crate) fn attention(
        &mut self,
        rows: usize,
    ) -> (&mut Slots, AttentionBuffers<'_>, &mut Claimed) {
        let [q, k, v, attended, partials, head] =
            split(&mut self.arena, self.sizes.attention(rows));
        (
            &mut self.slots,
            AttentionBuffers {
                q,
                k,
                v,
                attended,
                partials,
                head,
            },
            &mut self.claims,
        )
    }

    /// Slots, arena and claims for the MLP of `rows` rows.
    pub(crate) fn mlp(&mut self, rows: usize) -> (&mut Slots, MlpBuffers<'_>, &mut Claimed) {
        let [gate, mut up] = self.sizes.mlp(rows);
        if rows < PART_TOKENS {
            up = self.arena.len() - aligned(gate);
        }
        let [gate, up] = split(&mut self.arena, [gate, up]);
        (&mut self.slots, MlpBuffers { gate, up }, &mut self.claims)
    }

    /// Claims for the embedding, and the arena, which the layers do not need yet, with its claims.
    pub(crate) fn embedding(&mut self) -> (&mut Claimed, &mut [f32], &mut Claims) {
        (&mut self.claims, &mut self.arena, &mut self.row_claims)
    }

    /// Slots, room for the final-normed states of `rows` rows, and claims, once the layers are done.
    pub(crate) fn head(&mut self, rows: usize) -> (&mut Slots, &mut [f32], &mut Claimed) {
        (
            &mut self.slots,
            &mut self.arena[..rows * self.sizes.hidden],
            &mut self.claims,
        )
    }
}

/// Numbers rounded up to whole cache lines.
fn aligned(len: usize) -> usize {
    len.next_multiple_of(16)
}

/// Cuts `arena` into parts of these lengths that each start on a cache line.
fn split<const N: usize>(arena: &mut [f32], lens: [usize; N]) -> [&mut [f32]; N] {
    let mut rest = arena;
    lens.map(|len| {
        let (part, tail) = std::mem::take(&mut rest).split_at_mut(aligned(len));
        rest = tail;
        &mut part[..len]
    })
}
