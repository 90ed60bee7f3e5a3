//! Softmax over keys, average of values: how it is cut into parts.

use onebit_kernels::{Attend, Cuts, Grid, Tiles};

use crate::context::{Context, SPANS_AT_ONCE, row_work};
use crate::kv_cache::KvCache;
use crate::layer::LayerCall;
use crate::step::Row;
use crate::workspace::{AttentionBuffers, Claimed};

/// Attention of every row: a single row by (kv head, span of positions), several by (kv head, block of
/// rows).
pub(super) fn attend(
    ctx: &Context<'_>,
    call: &LayerCall<'_>,
    caches: &[&mut KvCache],
    buffers: &mut AttentionBuffers<'_>,
    claims: &mut Claimed,
) {
    match call.rows {
        [row] => by_spans(ctx, call, caches[row.sequence], buffers, claims),
        _ => by_rows(ctx, call, caches, buffers, claims),
    }
}

/// What the query heads of `kv_head` of consecutive `rows` of one sequence attend to.
fn queries<'a>(
    call: &LayerCall<'_>,
    cache: &'a KvCache,
    rows: &[Row],
    q: &'a [f32],
    kv_head: usize,
) -> Attend<'a> {
    let spec = call.spec;
    let layer = cache.layer(call.index);
    let shape = &layer.shape;
    Attend {
        q: &q[kv_head * spec.group() * spec.head_dim..],
        q_stride: spec.q_width(),
        tokens: rows.len(),
        heads: spec.group(),
        head_dim: spec.head_dim,
        keys: layer.keys.head(kv_head),
        values: layer.values.head(kv_head),
        position: rows[0].position,
        window: shape.window.unwrap_or(usize::MAX),
        sinks: shape.sinks,
        scale: call.score_scale,
    }
}

/// Bytes of keys and values that a row reads, about.
fn work(call: &LayerCall<'_>, cache: &KvCache, row: &Row) -> usize {
    let shape = &cache.layer(call.index).shape;
    let window = shape.window.unwrap_or(usize::MAX);
    let seen = (row.position + 1).min(window) + shape.sinks;
    row_work(seen, 2 * call.spec.q_width())
}

/// One row: some spans at a time, each (kv head, span) a part; then the spans are merged in order.
fn by_spans(
    ctx: &Context<'_>,
    call: &LayerCall<'_>,
    cache: &KvCache,
    buffers: &mut AttentionBuffers<'_>,
    claims: &mut Claimed,
) {
    let (spec, q) = (call.spec, &*buffers.q);
    let of_head = |kv_head| queries(call, cache, call.rows, q, kv_head);
    let len = of_head(0).partial_len();
    let width = spec.kv_heads * len;
    let (query, spans) = (of_head(0), of_head(0).spans(0));
    for start in (0..spans).step_by(SPANS_AT_ONCE) {
        let count = (spans - start).min(SPANS_AT_ONCE);
        let merged = if start == 0 { 0 } else { width };
        let grid = Grid {
            rows: count,
            width,
            stride: width,
            tile_rows: 1,
            columns: Cuts::Every(len),
        };
        let partials = Tiles::new(&mut buffers.partials[merged..], grid, &mut claims[0]);
        ctx.run(partials.len(), work(call, cache, &call.rows[0]), &|part| {
            let (kv_head, span) = (part / count, part % count);
            let mut tile = partials.claim(span, kv_head);
            ctx.kernels
                .attend_span(&of_head(kv_head), query.span(0, start + span), &mut tile);
        });
        let (into, rest) = buffers.partials.split_at_mut(width);
        let more = rest
            .chunks_exact(width)
            .take(count - usize::from(merged == 0));
        for from in more {
            for (into, from) in into.chunks_exact_mut(len).zip(from.chunks_exact(len)) {
                ctx.kernels.merge_spans(spec.head_dim, into, from);
            }
        }
    }
    let out = buffers
        .attended
        .chunks_exact_mut(spec.group() * spec.head_dim);
    for (partial, out) in buffers.partials.chunks_exact(len).zip(out) {
        ctx.kernels.finish_spans(spec.head_dim, partial, out);
        turn_back(ctx, cache, out);
    }
}

/// Takes averages of turned values back to those of the values.
fn turn_back(ctx: &Context<'_>, cache: &KvCache, row: &mut [f32]) {
    if cache.options().values.is_packed() {
        let heads = row.chunks_exact_mut(cache.head_dim());
        heads.for_each(|head| ctx.kernels.rotate(head));
    }
}

/// Several rows: each (kv head, block of rows) a part, long rows first within a head.
fn by_rows(
    ctx: &Context<'_>,
    call: &LayerCall<'_>,
    caches: &[&mut KvCache],
    buffers: &mut AttentionBuffers<'_>,
    claims: &mut Claimed,
) {
    let (spec, tokens) = (call.spec, call.rows.len());
    let (q_width, width) = (spec.q_width(), spec.group() * spec.head_dim);
    let len = 2 * spec.group() * (spec.head_dim + 2);
    let tile_rows = ctx.query_block(tokens, spec.kv_heads);
    let grid = |width, part| Grid {
        rows: tokens,
        width,
        stride: width,
        tile_rows,
        columns: Cuts::Every(part),
    };
    let [a, b, _] = claims;
    let out = Tiles::new(buffers.attended, grid(q_width, width), a);
    let partials = Tiles::new(buffers.partials, grid(spec.kv_heads * len, len), b);
    let q = &*buffers.q;
    let work = |row: &Row| work(call, caches[row.sequence], row);
    let total = call.rows.iter().map(work).sum();
    ctx.run(out.len(), total, &|part| {
        let kv_head = part / out.tile_rows();
        let block = out.tile_rows() - 1 - part % out.tile_rows();
        let (mut tile, mut partials) = (out.claim(block, kv_head), partials.claim(block, kv_head));
        let range = out.rows_of(block);
        let follows = |a: &Row, b: &Row| a.sequence == b.sequence && a.position + 1 == b.position;
        let mut done = 0;
        for rows in call.rows[range.clone()].chunk_by(follows) {
            let of_rows = done..done + rows.len();
            let q = &q[(range.start + done) * q_width..];
            let cache = &*caches[rows[0].sequence];
            let mut out = tile.some_rows(of_rows.clone());
            ctx.kernels.attend(
                &queries(call, cache, rows, q, kv_head),
                &mut out,
                &mut partials.some_rows(of_rows),
            );
            (0..rows.len()).for_each(|t| turn_back(ctx, cache, out.row(t)));
            done += rows.len();
        }
    });
}
