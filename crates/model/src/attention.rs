//! Causal self-attention with grouped queries.

mod groups;
mod softmax;

use onebit_kernels::Tiles;

use crate::context::{Context, by_tokens, row_work};
use crate::inputs::{Norm, Source};
use crate::kv_cache::KvCache;
use crate::layer::LayerCall;
use crate::linear::{project, project_add};
use crate::weights::LayerRef;
use crate::workspace::{AttentionBuffers, Claimed, Scratch};

/// `x += o(attention(norm(x)))` for the rows of one step; the caches take the keys and values of the rows.
pub(crate) fn attention(
    ctx: &Context<'_>,
    call: &LayerCall<'_>,
    weights: &LayerRef<'_>,
    caches: &mut [&mut KvCache],
    scratch: &mut Scratch,
    x: &mut [f32],
) {
    let (spec, tokens) = (call.spec, call.rows.len());
    let norm = |weight| Norm {
        weight,
        eps: spec.norm_eps,
    };
    let (slots, mut buffers, claims) = scratch.attention(tokens);

    let linears = [&weights.q, &weights.k, &weights.v];
    let source = Source::dense(x, spec.hidden, tokens);
    let inputs = slots.prepare(ctx, source, Some(norm(weights.attn_norm)), linears);
    project(
        ctx,
        linears,
        inputs,
        [&mut *buffers.q, &mut *buffers.k, &mut *buffers.v],
        claims,
    );

    rotate(ctx, call, weights, caches, &mut buffers, claims);
    let mut start = 0;
    while start < tokens {
        let part = start..groups::end(call, caches, start);
        let (call, mut buffers) = (
            call.some_rows(part.clone()),
            buffers.some_rows(spec, part.clone()),
        );
        store(ctx, &call, caches, &mut buffers);
        softmax::attend(ctx, &call, caches, &mut buffers, claims);
        start = part.end;
    }

    let source = Source::dense(buffers.attended, spec.q_width(), tokens);
    let [input] = slots.prepare(ctx, source, weights.attn_sub_norm.map(norm), [&weights.o]);
    project_add(ctx, &weights.o, input, buffers.q, x, claims);
}

/// Norms each query and key head where the model does, and turns it by the angles of its position; then by
/// the [matrix](onebit_kernels::Kernels::rotate) of a cache whose keys have few bits.
fn rotate(
    ctx: &Context<'_>,
    call: &LayerCall<'_>,
    weights: &LayerRef<'_>,
    caches: &[&mut KvCache],
    buffers: &mut AttentionBuffers<'_>,
    claims: &mut Claimed,
) {
    let (spec, tokens) = (call.spec, call.rows.len());
    let width = spec.q_width() + spec.kv_width();
    let block = ctx.token_block(tokens, width);
    let [a, b, c] = claims;
    let q = Tiles::new(buffers.q, by_tokens(tokens, spec.q_width(), block), a);
    let k = Tiles::new(buffers.k, by_tokens(tokens, spec.kv_width(), block), b);
    let spare = Tiles::new(
        buffers.head,
        by_tokens(tokens.div_ceil(block), spec.head_dim, 1),
        c,
    );
    ctx.run(q.tile_rows(), row_work(tokens, width), &|part| {
        let (mut q, mut k, mut spare) = (q.claim(part, 0), k.claim(part, 0), spare.claim(part, 0));
        let spare = spare.row(0);
        for i in 0..q.rows() {
            let t = part * block + i;
            let (cos, sin) = call.angles(t);
            let packed = caches[call.rows[t].sequence].options().keys.is_packed();
            for (row, weight) in [(q.row(i), weights.q_norm), (k.row(i), weights.k_norm)] {
                for head in row.chunks_exact_mut(spec.head_dim) {
                    if let Some(weight) = weight {
                        spare.copy_from_slice(head);
                        ctx.kernels.rms_norm(spare, weight, spec.norm_eps, head);
                    }
                    ctx.kernels.rope(head, cos, sin);
                    if packed {
                        ctx.kernels.rotate(head);
                    }
                }
            }
        }
    });
}

/// Puts the keys and values of all rows into their caches; values of few bits are turned before.
fn store(
    ctx: &Context<'_>,
    call: &LayerCall<'_>,
    caches: &mut [&mut KvCache],
    buffers: &mut AttentionBuffers<'_>,
) {
    let width = call.spec.kv_width();
    let rows = buffers
        .k
        .chunks_exact(width)
        .zip(buffers.v.chunks_exact_mut(width));
    for (row, (k, v)) in call.rows.iter().zip(rows) {
        let cache = &mut caches[row.sequence];
        if cache.options().values.is_packed() {
            let heads = v.chunks_exact_mut(call.spec.head_dim);
            heads.for_each(|head| ctx.kernels.rotate(head));
        }
        cache.store(ctx.kernels, call.index, row.position, k, v);
    }
}
