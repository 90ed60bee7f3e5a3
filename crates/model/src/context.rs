//! What every part of a forward pass is given: kernels, threads, and how work is cut.

use std::sync::atomic::{AtomicU64, Ordering};

use onebit_kernels::{Cuts, Executor, Grid, Kernels};

/// Most parts that the output columns of one matrix are cut into.
pub(crate) const MAX_COLUMN_PARTS: usize = 1024;
/// Most blocks that the tokens of one product are cut into.
pub(crate) const MAX_PRODUCT_BLOCKS: usize = 16;
/// Most blocks that the tokens of one step are cut into.
pub(crate) const MAX_TOKEN_BLOCKS: usize = 64;
/// Most spans of positions that one token's attention is computed of at the same time.
pub(crate) const SPANS_AT_ONCE: usize = 32;
/// Most tokens of a part of attention: what a block of keys and values is read for.
const QUERY_BLOCK: usize = 16;
/// Parts per thread: enough for a late thread to be made up for.
const PARTS_PER_THREAD: usize = 4;
/// Outputs of a matrix stored transposed are cut at multiples of this: the columns of an atom.
pub(crate) const STRIP: usize = 256;
/// Columns are cut at multiples of this.
const COLUMN_STEP: usize = 16;
/// The same for many tokens: kernels unpack the weights of so many columns side by side.
pub(crate) const TILE_STEP: usize = 64;
/// How many tokens are many.
pub(crate) const MANY_TOKENS: usize = 4;
/// Most columns of a part for so many tokens that products are bound by arithmetic: what a part computes is still in a cache
/// when it is activated or added.
const PART_COLUMNS: usize = 256;
pub(crate) const PART_TOKENS: usize = 32;
/// Bytes of activations that stay in a second-level cache while the columns of a product pass, and tokens of a part whose activations
/// take no more, and at least.
const PART_BYTES: usize = 1 << 20;
const MANY_PART_TOKENS: usize = 256;
const FEW_PART_TOKENS: usize = 128;
/// Tokens are cut at multiples of this.
const TOKEN_STEP: usize = 32;
/// Bytes to work through, per part, below which cutting costs more than it saves.
const MIN_PART_WORK: usize = 1 << 15;

/// Kernels and threads of one forward pass.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) kernels: &'a Kernels,
    pub(crate) executor: &'a dyn Executor,
    /// Bytes of weights that were not read because what they are multiplied with is zero.
    pub(crate) skipped: &'a AtomicU64,
}

impl Context<'_> {
    /// Runs `parts` parts that read `work` bytes together; on this thread where that is not worth sharing.
    pub(crate) fn run(&self, parts: usize, work: usize, job: &(dyn Fn(usize) + Sync)) {
        if parts <= 1 || work < 2 * MIN_PART_WORK {
            (0..parts).for_each(job);
        } else {
            self.executor.run(parts, job);
        }
    }

    /// Notes that a step did without `bytes` bytes of weights.
    pub(crate) fn skip(&self, bytes: usize) {
        self.skipped.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Into how many parts to cut something that reads `work` bytes.
    fn parts(&self, work: usize) -> usize {
        match self.executor.threads() {
            1 => 1,
            threads => (PARTS_PER_THREAD * threads)
                .min(work / MIN_PART_WORK)
                .max(1),
        }
    }

    /// Tokens per part of a step over `tokens` rows of `width` numbers.
    pub(crate) fn token_block(&self, tokens: usize, width: usize) -> usize {
        let parts = self.parts(row_work(tokens, width)).min(MAX_TOKEN_BLOCKS);
        tokens.div_ceil(parts).max(1)
    }

    /// Tokens per part of attention, where each token is `heads` parts.
    pub(crate) fn query_block(&self, tokens: usize, heads: usize) -> usize {
        let parts = PARTS_PER_THREAD * self.executor.threads().max(1);
        let wanted = (tokens * heads).div_ceil(2 * parts).min(QUERY_BLOCK);
        wanted.max(tokens.div_ceil(MAX_TOKEN_BLOCKS)).max(1)
    }

    /// Tokens per part of a product for `tokens` tokens, whose activations take `row_bytes` bytes each. All columns of some tokens
    /// come before the next tokens.
    pub(crate) fn product_block(&self, tokens: usize, row_bytes: usize) -> usize {
        let most = match MANY_PART_TOKENS * row_bytes <= PART_BYTES {
            true => MANY_PART_TOKENS,
            false => FEW_PART_TOKENS,
        };
        let blocks = tokens.div_ceil(most).clamp(1, MAX_PRODUCT_BLOCKS);
        tokens
            .div_ceil(blocks)
            .next_multiple_of(TOKEN_STEP)
            .min(tokens)
    }

    /// Output columns per part of a product with `outputs` columns, for `tokens` tokens and `weights` bytes of weights, `band` rows
    /// of which share their bytes.
    pub(crate) fn column_block(
        &self,
        outputs: usize,
        weights: usize,
        tokens: usize,
        band: usize,
    ) -> usize {
        let parts = self
            .parts(weights.saturating_mul(tokens))
            .min(MAX_COLUMN_PARTS);
        let step = if tokens < MANY_TOKENS {
            whole_bands(band)
        } else {
            // What a band costs twice where it is cut is little.
            TILE_STEP
        };
        let block = outputs.div_ceil(parts);
        let block = match tokens < PART_TOKENS {
            true => block,
            false => block.min(outputs.div_ceil(MAX_COLUMN_PARTS).max(PART_COLUMNS)),
        };
        block.next_multiple_of(step)
    }
}

/// Outputs per part of a matrix stored transposed: whole strips, as evenly as they go over `threads` threads. Each part reads its
/// share of every row, so more parts than threads would read shorter pieces for nothing.
pub(crate) fn strip_block(outputs: usize, threads: usize) -> usize {
    outputs.div_ceil(STRIP).div_ceil(threads.max(1)) * STRIP
}

/// The fewest columns that are whole steps and whole bands.
pub(crate) fn whole_bands(band: usize) -> usize {
    let bands = (1..=COLUMN_STEP).find(|n| (n * band).is_multiple_of(COLUMN_STEP));
    bands.unwrap_or(COLUMN_STEP) * band
}

/// Bytes of `tokens` rows of `width` numbers.
pub(crate) fn row_work(tokens: usize, width: usize) -> usize {
    tokens
        .saturating_mul(width)
        .saturating_mul(size_of::<f32>())
}

/// A matrix of `tokens` x `width` cut into blocks of tokens.
pub(crate) fn by_tokens(tokens: usize, width: usize, block: usize) -> Grid<'static> {
    Grid {
        rows: tokens,
        width,
        stride: width,
        tile_rows: block,
        columns: Cuts::Every(width),
    }
}

/// A matrix of `tokens` x `width` cut into blocks of `rows` tokens and up to `columns` columns, which are even where they may be cut at
/// multiples of `step`: the threads have as many of them each.
pub(crate) fn by_blocks(
    tokens: usize,
    width: usize,
    [rows, columns]: [usize; 2],
    step: Option<usize>,
) -> Grid<'static> {
    Grid {
        rows: tokens,
        width,
        stride: width,
        tile_rows: rows,
        columns: match step {
            None => Cuts::Every(columns),
            Some(step) => Cuts::Even {
                most: columns.next_multiple_of(step),
                step,
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use onebit_kernels::Serial;

    use super::*;

    struct Threads(usize);

    impl Executor for Threads {
        fn threads(&self) -> usize {
            self.0
        }

        fn run(&self, parts: usize, job: &(dyn Fn(usize) + Sync)) {
            Serial.run(parts, job);
        }
    }

    #[test]
    fn steps_are_whole_bands_and_no_more() {
        assert_eq!([1, 5, 16, 64].map(whole_bands), [16, 80, 16, 64]);
    }

    #[test]
    fn blocks_cover_everything_within_the_limits() {
        for threads in [1, 2, 3, 64, 1000] {
            let executor = Threads(threads);
            let ctx = Context {
                kernels: Kernels::best(),
                executor: &executor,
                skipped: &AtomicU64::new(0),
            };
            for tokens in [1usize, 2, 31, 32, 63, 64, 65, 4097] {
                assert!(tokens.div_ceil(ctx.token_block(tokens, 2560)) <= MAX_TOKEN_BLOCKS);
                assert!(tokens.div_ceil(ctx.query_block(tokens, 5)) <= MAX_TOKEN_BLOCKS);
                for row_bytes in [640, 2560, 6912, 1 << 20] {
                    let block = ctx.product_block(tokens, row_bytes);
                    assert!(block <= tokens);
                    assert!(tokens.div_ceil(block) <= MAX_PRODUCT_BLOCKS);
                }
                for outputs in [1usize, 15, 16, 17, 2560, 128_256] {
                    let block = ctx.column_block(outputs, outputs * 640, tokens, 1);
                    assert!(block.is_multiple_of(COLUMN_STEP));
                    let banded = ctx.column_block(outputs, outputs * 640, tokens, 5);
                    assert!(tokens >= MANY_TOKENS || banded.is_multiple_of(5 * COLUMN_STEP));
                    assert!(banded.is_multiple_of(COLUMN_STEP));
                    let banded = ctx.column_block(outputs, outputs * 640, tokens, 64);
                    assert!(banded.is_multiple_of(64));
                    assert!(outputs.div_ceil(block) <= MAX_COLUMN_PARTS);
                }
            }
        }
    }
}
