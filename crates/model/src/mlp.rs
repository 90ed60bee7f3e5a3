//! The gated feed-forward part of a layer.

use onebit_kernels::Tiles;

use crate::context::{Context, by_columns};
use crate::inputs::{Norm, Source};
use crate::layer::LayerCall;
use crate::linear::project_add;
use crate::weights::LayerRef;
use crate::workspace::Scratch;

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
    let activation = spec.activation.kernel();
    let (slots, buffers, claims) = scratch.mlp(tokens);

    let source = Source::dense(x, spec.hidden, tokens);
    let linears = [&weights.gate, &weights.up];
    let inputs = slots.prepare(ctx, source, Some(norm(weights.ffn_norm)), linears);
    let grid = by_columns(
        tokens,
        spec.ffn,
        ctx.column_block(spec.ffn, 2 * spec.hidden, tokens),
    );
    {
        let [a, b, _] = &mut *claims;
        let (gate, up) = (
            Tiles::new(buffers.gate, grid, a),
            Tiles::new(buffers.up, grid, b),
        );
        ctx.run(gate.tile_columns(), &|part| {
            let rows = gate.columns_of(part);
            let (mut gate, mut up) = (gate.claim(0, part), up.claim(0, part));
            weights
                .gate
                .multiply(ctx, rows.clone(), inputs[0], &mut gate);
            weights.up.multiply(ctx, rows, inputs[1], &mut up);
            for t in 0..tokens {
                ctx.kernels.gate(activation, gate.row(t), up.row(t));
            }
        });
    }

    let source = Source::dense(buffers.gate, spec.ffn, tokens);
    let [input] = slots.prepare(ctx, source, weights.ffn_sub_norm.map(norm), [&weights.down]);
    project_add(ctx, &weights.down, input, buffers.up, x, claims);
}
