//! The gated feed-forward part of a layer.

use onebit_kernels::{Input, Tiles};

use crate::context::{Context, by_columns};
use crate::inputs::{Norm, Source};
use crate::layer::LayerCall;
use crate::linear::project_add;
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
    let grid = by_columns(tokens, spec.ffn, ctx.column_block(spec.ffn, read, tokens));
    let [a, b, _] = claims;
    let (gate, up) = (Tiles::new(gate, grid, a), Tiles::new(up, grid, b));
    ctx.run(gate.tile_columns(), read * tokens, &|part| {
        let columns = gate.columns_of(part);
        let (mut gate, mut up) = (gate.claim(0, part), up.claim(0, part));
        weights
            .gate
            .multiply(ctx, columns.clone(), inputs[0], &mut gate);
        weights.up.multiply(ctx, columns, inputs[1], &mut up);
        for t in 0..tokens {
            ctx.kernels.gate(activation, gate.row(t), up.row(t));
        }
    });
}
