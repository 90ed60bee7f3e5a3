//! Products of linears, several in one parallel region.

use std::ops::Range;

use onebit_kernels::{Cuts, Grid, I8Rows, Input, TileMut, Tiles};

use crate::context::{
    Context, MANY_TOKENS, MAX_COLUMN_PARTS, PART_TOKENS, STRIP, TILE_STEP, by_blocks, strip_block,
    whole_bands,
};
use crate::forms::{Forms, InputForms};
use crate::inputs::{InputSlot, Norm, Source};
use crate::rooms::{self, Rooms};
use crate::weights::LinearRef;
use crate::workspace::Claimed;

/// Input slots: one that all linears of a group share, or, where each has a norm of its own, one per linear and one for what
/// those norms start from.
pub(crate) struct Slots {
    slots: Box<[InputSlot]>,
    input_norm_eps: Option<f32>,
}

/// Most linears that read the same input.
const MAX_GROUP: usize = 3;

impl Slots {
    /// Bytes that [`new`](Self::new) reserves.
    pub(crate) fn bytes(
        max_rows: usize,
        width: usize,
        forms: InputForms,
        input_norm_eps: Option<f32>,
    ) -> usize {
        let (count, forms) = Self::plan(forms, input_norm_eps);
        count * InputSlot::bytes(max_rows, width, forms)
    }

    /// `None` when memory does not suffice.
    pub(crate) fn new(
        max_rows: usize,
        width: usize,
        forms: InputForms,
        input_norm_eps: Option<f32>,
    ) -> Option<Self> {
        let (count, forms) = Self::plan(forms, input_norm_eps);
        let slot = |_| InputSlot::new(max_rows, width, forms);
        Some(Self {
            slots: (0..count).map(slot).collect::<Option<_>>()?,
            input_norm_eps,
        })
    }

    /// Number of slots, and what they hold.
    fn plan(forms: InputForms, input_norm_eps: Option<f32>) -> (usize, InputForms) {
        if input_norm_eps.is_some() {
            (MAX_GROUP + 1, forms.with_floats())
        } else {
            (1, forms)
        }
    }

    /// Prepares what the `linears` read: `source`, normed by `norm`, then by each linear's own norm.
    pub(crate) fn prepare<const N: usize>(
        &mut self,
        ctx: &Context<'_>,
        source: Source<'_>,
        norm: Option<Norm<'_>>,
        linears: [&LinearRef<'_>; N],
    ) -> [Input<'_>; N] {
        const { assert!(N <= MAX_GROUP) };
        let Some(eps) = self.input_norm_eps else {
            let slot = &mut self.slots[0];
            let forms = Forms::of(linears.map(|linear| linear.form));
            slot.fill(ctx, source, norm, forms);
            let slot = &self.slots[0];
            // One input for all of a form, so that what a kernel makes of it is made once.
            let first = slot.input(linears[0].form);
            return linears.map(|linear| match linear.form == linears[0].form {
                true => first,
                false => slot.input(linear.form),
            });
        };
        let (base, slots) = self.slots.split_first_mut().expect("never empty");
        let source = match norm {
            Some(_) => {
                base.fill(ctx, source, norm, Forms::FLOATS);
                base.source(source.width)
            }
            None => source,
        };
        for (slot, linear) in slots.iter_mut().zip(linears) {
            let norm = linear.input_norm.map(|weight| Norm { weight, eps });
            slot.fill(ctx, source, norm, Forms::of([linear.form]));
        }
        let mut slots = self.slots[1..].iter();
        linears.map(|linear| {
            let slot = slots.next().expect("N <= MAX_GROUP");
            slot.input(linear.form)
        })
    }
}

/// `outs[i] = linears[i](inputs[i])`, `[tokens, rows of the matrix]`, in one region.
pub(crate) fn project<const N: usize>(
    ctx: &Context<'_>,
    linears: [&LinearRef<'_>; N],
    inputs: [Input<'_>; N],
    outs: [&mut [f32]; N],
    claims: &mut Claimed,
) {
    let tokens = inputs[0].tokens();
    let outputs = linears.iter().map(|linear| linear.outputs()).sum();
    let weights = weight_bytes(&linears);
    let blocks = blocks(ctx, &linears, outputs, &inputs[0], usize::MAX);
    let step = even_step(&linears, tokens);
    let mut widths = linears.iter().map(|linear| linear.outputs());
    let mut claims = claims.iter_mut();
    let tiles = outs.map(|out| {
        let grid = by_blocks(tokens, widths.next().expect("N widths"), blocks, step);
        Tiles::new(out, grid, claims.next().expect("a Claims per output"))
    });
    let columns: usize = tiles.iter().map(Tiles::tile_columns).sum();
    ctx.run(tiles[0].tile_rows() * columns, weights * tokens, &|part| {
        let (row, mut column) = (part / columns, part % columns);
        let mut which = 0;
        while column >= tiles[which].tile_columns() {
            column -= tiles[which].tile_columns();
            which += 1;
        }
        let (tiles, linear) = (&tiles[which], linears[which]);
        let input = inputs[which].some(tiles.rows_of(row));
        let mut tile = tiles.claim(row, column);
        linear.multiply(ctx, tiles.columns_of(column), input, &mut tile);
    });
}

/// `x += linear(input)`; `out` is room for the product.
pub(crate) fn project_add(
    ctx: &Context<'_>,
    linear: &LinearRef<'_>,
    input: Input<'_>,
    out: &mut [f32],
    x: &mut [f32],
    claims: &mut Claimed,
) {
    let (tokens, width) = (input.tokens(), linear.outputs());
    if let (Input::I8(input), true, 1) = (input, linear.transposed, tokens) {
        return project_shares(ctx, linear, input, out, x, claims);
    }
    let weights = linear.matrix.bytes().len();
    let blocks = blocks(ctx, &[linear], width, &input, out.len());
    let grid = by_blocks(tokens, width, blocks, even_step(&[linear], tokens));
    let [a, b, _] = claims;
    let x = Tiles::new(x, grid, b);
    if tokens >= PART_TOKENS {
        let rooms = Rooms::new(out, blocks[0] * blocks[1], ctx.executor.threads());
        ctx.run(x.len(), weights * tokens, &|part| {
            let (row, column) = (part / x.tile_columns(), part % x.tile_columns());
            let (columns, input) = (x.columns_of(column), input.some(x.rows_of(row)));
            let mut sum = x.claim(row, column);
            let mut room = rooms.take(part * rooms.count() / x.len());
            let mut product = TileMut::whole(&mut room, sum.rows(), sum.width());
            linear.multiply(ctx, columns, input, &mut product);
            for t in 0..sum.rows() {
                ctx.kernels.add(sum.row(t), product.row(t));
            }
        });
        return;
    }
    let out = Tiles::new(out, grid, a);
    ctx.run(out.tile_columns(), weights * tokens, &|part| {
        let (mut product, mut sum) = (out.claim(0, part), x.claim(0, part));
        linear.multiply(ctx, out.columns_of(part), input, &mut product);
        for t in 0..tokens {
            ctx.kernels.add(sum.row(t), product.row(t));
        }
    });
}

/// Most shares of the inputs of a product: one thread adds up what they add.
const MAX_SHARES: usize = 8;

/// The same of a transposed linear for one token: each thread takes a share of the inputs, as far as there is room in `out` for what
/// each adds. Beyond that they share outputs too.
fn project_shares(
    ctx: &Context<'_>,
    linear: &LinearRef<'_>,
    input: I8Rows<'_>,
    out: &mut [f32],
    x: &mut [f32],
    claims: &mut Claimed,
) {
    ctx.skip(linear.unread(input));
    let (width, threads) = (linear.outputs(), ctx.executor.threads().max(1));
    let shares = (out.len() / width).min(threads).min(MAX_SHARES);
    let grid = Grid {
        rows: shares,
        width,
        stride: width,
        tile_rows: 1,
        columns: Cuts::Every(strip_block(width, threads.div_ceil(shares))),
    };
    let sums = Tiles::new(&mut *out, grid, &mut claims[0]);
    ctx.run(sums.len(), linear.matrix.bytes().len(), &|part| {
        let (share, column) = (part / sums.tile_columns(), part % sums.tile_columns());
        let (columns, mut sums) = (sums.columns_of(column), sums.claim(share, column));
        (ctx.kernels).matmul_transposed_share(
            &linear.matrix,
            columns,
            input,
            [share, shares],
            &mut sums,
        );
    });
    let (product, others) = out[..shares * width].split_at_mut(width);
    (ctx.kernels).join_shares(&linear.matrix, input, product, others);
    if let Some(bias) = linear.bias {
        ctx.kernels.add(product, bias);
    }
    ctx.kernels.add(&mut x[..width], product);
}

/// Tokens and columns of the parts of what some linears, which put out `outputs` numbers together, make of an input. Parts of many
/// tokens have [`Rooms`] in `room` numbers.
pub(crate) fn blocks(
    ctx: &Context<'_>,
    linears: &[&LinearRef<'_>],
    outputs: usize,
    input: &Input<'_>,
    room: usize,
) -> [usize; 2] {
    let tokens = input.tokens();
    let transposed = linears.iter().any(|linear| linear.transposed);
    let (tokens_at_once, columns) = match transposed {
        true => (tokens, strip_block(outputs, ctx.executor.threads())),
        false => (
            ctx.product_block(tokens, input.row_bytes()),
            ctx.column_block(outputs, weight_bytes(linears), tokens, band_rows(linears)),
        ),
    };
    let blocks = [tokens_at_once, columns.min(outputs)];
    let step = if transposed { STRIP } else { TILE_STEP };
    let step = outputs.div_ceil(MAX_COLUMN_PARTS).next_multiple_of(step);
    match tokens < PART_TOKENS {
        true => blocks,
        false => rooms::fit(blocks, room, ctx.executor.threads(), step),
    }
}

/// Where the output columns of some linears are cut evenly for few tokens, at multiples of this. Those of many tokens are cut where kernels
/// begin to unpack, those of transposed matrices at their strips.
pub(crate) fn even_step(linears: &[&LinearRef<'_>], tokens: usize) -> Option<usize> {
    let by_rows = linears.iter().all(|linear| !linear.transposed);
    (by_rows && tokens < MANY_TOKENS).then(|| whole_bands(band_rows(linears)))
}

/// Bytes of the matrices of some linears.
fn weight_bytes(linears: &[&LinearRef<'_>]) -> usize {
    let bytes = linears.iter().map(|linear| linear.matrix.bytes().len());
    bytes.sum()
}

/// The most rows that share their bytes in the matrices of some linears.
pub(crate) fn band_rows(linears: &[&LinearRef<'_>]) -> usize {
    let rows = linears
        .iter()
        .map(|linear| linear.matrix.layout().atom_rows());
    rows.max().unwrap_or(1)
}

impl LinearRef<'_> {
    /// Numbers it puts out per token.
    pub(crate) fn outputs(&self) -> usize {
        match self.transposed {
            true => self.matrix.cols(),
            false => self.matrix.rows(),
        }
    }

    /// Bytes of weights of a transposed linear that a step of one token does not read, because their inputs are zero.
    fn unread(&self, x: I8Rows<'_>) -> usize {
        let codes = &x.row(0)[..self.matrix.rows()];
        codes.iter().filter(|code| **code == 0).count() * self.matrix.row_bytes()
    }

    /// Outputs `list` of the linear for one token, bias included; the weights of the others are not read. The output at
    /// `first + i` is put at `i` of `out`, and zero where the list does not have it.
    pub(crate) fn multiply_listed(
        &self,
        ctx: &Context<'_>,
        first: usize,
        list: &[u32],
        input: Input<'_>,
        out: &mut [f32],
    ) {
        let mut tile = TileMut::strided(out, 1, list.len(), out.len());
        ctx.kernels
            .matmul_listed(&self.matrix, list, input, &mut tile);
        let mut end = out.len();
        for (at, row) in list.iter().enumerate().rev() {
            let to = *row as usize - first;
            let value = out[at];
            out[to + 1..end].fill(0.0);
            out[to] = self.bias.map_or(value, |bias| value + bias[*row as usize]);
            end = to;
        }
        out[..end].fill(0.0);
    }

    /// Output columns `rows` of the linear, bias included.
    pub(crate) fn multiply(
        &self,
        ctx: &Context<'_>,
        rows: Range<usize>,
        input: Input<'_>,
        out: &mut TileMut<'_, f32>,
    ) {
        match input {
            Input::I8(x) if self.transposed => {
                ctx.kernels
                    .matmul_transposed(&self.matrix, rows.clone(), x, out);
            }
            _ => ctx.kernels.matmul(&self.matrix, rows.clone(), input, out),
        }
        if let Some(bias) = self.bias {
            for t in 0..out.rows() {
                ctx.kernels.add(out.row(t), &bias[rows.clone()]);
            }
        }
    }
}
