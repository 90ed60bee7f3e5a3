//! Attention, and what it reads.

use super::Kernels;
use crate::kv::{Attend, KvType, KvViewMut};
use crate::tiles::TileMut;

impl Kernels {
    /// Stores the key or value of one position in a cache: f16 rounds half to even and saturates at
    /// +-65504, q8 is [`quantize_i8`](Kernels::quantize_i8), with one over its scale. With fewer bits the
    /// scale `s` is rounded to bfloat16 and the code of `x` is the nearest odd number to `x / s`, the
    /// larger of two; see [`KvType`].
    ///
    /// # Panics
    /// When `x` is not as long as the view's rows.
    pub fn store_kv(&self, view: &mut KvViewMut<'_>, position: usize, x: &[f32]) {
        assert_eq!(x.len(), view.head_dim(), "elements of a cache row");
        let kind = view.kind;
        let (row, scale) = view.row(position);
        match kind {
            KvType::F32 => row.copy_from_slice(bytemuck::cast_slice(x)),
            // SAFETY: the registry offers this set only on a CPU that has its features.
            KvType::F16 => unsafe { (self.store_f16)(x, row) },
            KvType::Q8 => {
                // SAFETY: the registry offers this set only on a CPU that has its features.
                let multiplier = unsafe { (self.store_q8)(x, row) };
                scale.copy_from_slice(&multiplier.to_ne_bytes());
            }
            KvType::Q4 | KvType::Q2 | KvType::B1 => {
                // SAFETY: the registry offers this set only on a CPU that has its features.
                let multiplier = unsafe { (self.store_packed)(x, kind.bits(), row) };
                scale.copy_from_slice(&multiplier.to_ne_bytes());
            }
        }
    }

    /// Turns a query, key or value by an orthogonal matrix, so that its magnitudes are about even: blocks
    /// of the largest powers of two that the length is a sum of, each multiplied by a Hadamard matrix
    /// (Sylvester, 1867) over the root of its size. Turning twice is turning back.
    ///
    /// Products of turned queries and keys are those of the queries and keys.
    pub fn rotate(&self, head: &mut [f32]) {
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { (self.rotate)(head) }
    }

    /// Attention of some consecutive query positions: for each query head the average of the values
    /// it sees, weighted by the softmax of `scale * (query . key)`. Row `t` of `out` takes the
    /// `heads * head_dim` results of position `t`; row `t` of `scratch` is used up to
    /// `2 * a.partial_len()`.
    ///
    /// A position's result is the same alone and together with others.
    ///
    /// # Panics
    /// When sizes do not fit each other, or there are more positions than slots.
    pub fn attend(
        &self,
        a: &Attend<'_>,
        out: &mut TileMut<'_, f32>,
        scratch: &mut TileMut<'_, f32>,
    ) {
        a.check(out, a.heads * a.head_dim);
        a.check(scratch, 2 * a.partial_len());
        let len = a.partial_len();
        let last = a.spans(a.tokens - 1);
        let spans = a.span(0, 0)..=a.span(a.tokens - 1, last - 1);
        for span in spans {
            // SAFETY: the registry offers this set only on a CPU that has its features.
            unsafe { (self.attend_span)(a, span, len, scratch) }
            for t in 0..a.tokens {
                if a.sees(t, span) && a.span(t, 0) != span {
                    let (into, from) = scratch.row(t).split_at_mut(len);
                    self.merge_spans(a.head_dim, into, &from[..len]);
                }
            }
        }
        for t in 0..a.tokens {
            let out = &mut out.row(t)[..a.heads * a.head_dim];
            self.finish_spans(a.head_dim, &scratch.row(t)[..len], out);
        }
    }

    /// The share of one span of [`KV_SPAN`](crate::KV_SPAN) positions in [`attend`](Kernels::attend),
    /// for queries that see some of it: row `t` of `partials` takes `a.partial_len()` floats. Those of
    /// all of a query's [`spans`](Attend::spans), [merged](Kernels::merge_spans) in order and
    /// [finished](Kernels::finish_spans), are the result of `attend`, whichever threads computed them.
    ///
    /// # Panics
    /// As [`attend`](Kernels::attend) does.
    pub fn attend_span(&self, a: &Attend<'_>, span: usize, partials: &mut TileMut<'_, f32>) {
        a.check(partials, a.partial_len());
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { (self.attend_span)(a, span, 0, partials) }
    }

    /// Merges the partial result `from` of a span into `into`, that of all spans before it.
    ///
    /// # Panics
    /// When they are not equally long, or not whole heads of `head_dim + 2`.
    pub fn merge_spans(&self, head_dim: usize, into: &mut [f32], from: &[f32]) {
        assert_eq!(into.len(), from.len(), "partial results");
        check_partial(head_dim, into);
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { (self.merge)(head_dim, into, from) }
    }

    /// Writes what the merged partial results of all spans amount to, `head_dim` numbers per head.
    ///
    /// # Panics
    /// When `partial` is not whole heads of `head_dim + 2`, or `out` has not as many heads.
    pub fn finish_spans(&self, head_dim: usize, partial: &[f32], out: &mut [f32]) {
        check_partial(head_dim, partial);
        let heads = partial.len() / (head_dim + 2);
        assert_eq!(out.len(), heads * head_dim, "attention output");
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { (self.finish)(head_dim, partial, out) }
    }
}

#[track_caller]
fn check_partial(head_dim: usize, partial: &[f32]) {
    assert!(
        head_dim > 0 && partial.len().is_multiple_of(head_dim + 2),
        "{} floats are no partial results of heads of {head_dim}",
        partial.len()
    );
}
