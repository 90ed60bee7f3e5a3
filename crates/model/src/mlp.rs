//! The gated feed-forward part of a layer.

use std::ops::Range;

use onebit_kernels::{Input, TileMut, Tiles};

use crate::context::{Context, PART_TOKENS, by_blocks};
use crate::inputs::{Norm, Source};
use crate::layer::LayerCall;
use crate::linear::{band_rows, blocks, even_step, project_add};
use crate::rooms::Rooms;
use crate::spec::Activation;
use crate::weights::LayerRef;
use crate::workspace::{Claimed, Scratch};

/// `x += down(act(gate(norm(x))) * up(norm(x)))` for the rows of one step.
pub(crate) fn mlp(
    ctx: &Context<'_>,
    call: &LayerCall<'_>,
    weights: &LayerRef<'_>,
    scratch: &mut Scratch,
    x: &mut [f32],
) {
    let (spec, tokens) = (call.spec, call.rows.len());
    let norm = |weight| Norm {
        weight,
        eps: spec.norm_eps,
    };
    let (slots, buffers, claims) = scratch.mlp(tokens);

    let source = Source::dense(x, spec.hidden, tokens);
    let linears = [&weights.gate, &weights.up];
    let inputs = slots.prepare(ctx, source, Some(norm(weights.ffn_norm)), linears);
    gated(
        ctx,
        call,
        weights,
        inputs,
        [&mut *buffers.gate, &mut *buffers.up],
        claims,
    );

    let source = Source::dense(buffers.gate, spec.ffn, tokens);
    let [input] = slots.prepare(ctx, source, weights.ffn_sub_norm.map(norm), [&weights.down]);
    project_add(ctx, &weights.down, input, buffers.up, x, claims);
}

/// `gate = act(gate(input)) * up(input)`; each part computes the same columns of both.
fn gated(
    ctx: &Context<'_>,
    call: &LayerCall<'_>,
    weights: &LayerRef<'_>,
    inputs: [Input<'_>; 2],
    [gate, up]: [&mut [f32]; 2],
    claims: &mut Claimed,
) {
    let (spec, tokens) = (call.spec, call.rows.len());
    let activation = spec.activation.kernel();
    let read = weights.gate.matrix.bytes().len() + weights.up.matrix.bytes().len();
    let linears = [&weights.gate, &weights.up];
    let blocks = blocks(ctx, &linears, spec.ffn, &inputs[0], up.len());
    let grid = by_blocks(tokens, spec.ffn, blocks, even_step(&linears, tokens));
    let [a, b, _] = claims;
    let gate = Tiles::new(gate, grid, a);
    if tokens >= PART_TOKENS {
        let rooms = Rooms::new(up, blocks[0] * blocks[1], ctx.executor.threads());
        ctx.run(gate.len(), read * tokens, &|part| {
            let (row, column) = (part / gate.tile_columns(), part % gate.tile_columns());
            let (columns, rows) = (gate.columns_of(column), gate.rows_of(row));
            let inputs = inputs.map(|input| input.some(rows.clone()));
            let mut gate_tile = gate.claim(row, column);
            (weights.gate).multiply(ctx, columns.clone(), inputs[0], &mut gate_tile);
            let mut room = rooms.take(part * rooms.count() / gate.len());
            let mut up = TileMut::whole(&mut room, rows.len(), columns.len());
            weights.up.multiply(ctx, columns, inputs[1], &mut up);
            for t in 0..rows.len() {
                (ctx.kernels).gate(activation, gate_tile.row(t), up.row(t));
            }
        });
        return;
    }
    let up = Tiles::new(up, grid, b);
    ctx.run(gate.tile_columns(), read * tokens, &|part| {
        let columns = gate.columns_of(part);
        let (mut gate, mut up) = (gate.claim(0, part), up.claim(0, part));
        // A row that shares its bytes with others cannot be left out alone.
        let by_rows =
            !weights.gate.transposed && !weights.up.transposed && band_rows(&[&weights.up]) == 1;
        if tokens == 1 && spec.activation == Activation::Relu2 && by_rows {
            let (gate, up) = (gate.row(0), up.row(0));
            return sparse(ctx, weights, columns, inputs, gate, up);
        }
        weights
            .gate
            .multiply(ctx, columns.clone(), inputs[0], &mut gate);
        weights.up.multiply(ctx, columns, inputs[1], &mut up);
        for t in 0..tokens {
            ctx.kernels.gate(activation, gate.row(t), up.row(t));
        }
    });
}

/// Columns whose gates are computed before the rows of `up` that they need: short enough for a list on the stack, long enough
/// that streams of weights seldom end.
const LIST: usize = 512;

/// The same for one token and squared ReLU: where `gate` is not above 0 the product is 0, so that row of `up` is not read.
fn sparse(
    ctx: &Context<'_>,
    weights: &LayerRef<'_>,
    columns: Range<usize>,
    inputs: [Input<'_>; 2],
    gate: &mut [f32],
    up: &mut [f32],
) {
    let mut list = [0u32; LIST];
    let mut unread = 0;
    let chunks = gate.chunks_mut(LIST).zip(up.chunks_mut(LIST));
    for (i, (gate, up)) in chunks.enumerate() {
        let first = columns.start + i * LIST;
        let mut tile = TileMut::whole(gate, 1, gate.len());
        let range = first..first + up.len();
        weights.gate.multiply(ctx, range, inputs[0], &mut tile);
        let mut len = 0;
        for (i, value) in gate.iter().enumerate() {
            list[len] = (first + i) as u32;
            // The product of a NaN is NaN.
            len += usize::from(*value > 0.0 || value.is_nan());
        }
        weights
            .up
            .multiply_listed(ctx, first, &list[..len], inputs[1], up);
        ctx.kernels
            .gate(onebit_kernels::Activation::Relu2, gate, up);
        unread += (up.len() - len) * weights.up.matrix.row_bytes();
    }
    ctx.skip(unread);
}
