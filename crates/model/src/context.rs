//! What every part of a forward pass is given: kernels, threads, and how work is cut.

use onebit_kernels::{Cuts, Executor, Grid, Kernels};

/// Most parts that the output columns of one matrix are cut into.
pub(crate) const MAX_COLUMN_PARTS: usize = 1024;
/// Most blocks that the tokens of one step are cut into.
pub(crate) const MAX_TOKEN_BLOCKS: usize = 64;
/// Parts per thread: enough for a late thread to be made up for.
const PARTS_PER_THREAD: usize = 4;
/// Columns are cut at multiples of this.
const COLUMN_STEP: usize = 16;
/// Multiplications below which cutting a product costs more than it saves.
const MIN_PART_WORK: usize = 1 << 15;

/// Kernels and threads of one forward pass.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) kernels: &'a Kernels,
    pub(crate) executor: &'a dyn Executor,
}

impl Context<'_> {
    /// Runs `parts` parts; a single one on this thread.
    pub(crate) fn run(&self, parts: usize, job: &(dyn Fn(usize) + Sync)) {
        match parts {
            0 => {}
            1 => job(0),
            _ => self.executor.run(parts, job),
        }
    }

    /// Tokens per part of a step over tokens.
    pub(crate) fn token_block(&self, tokens: usize) -> usize {
        let parts = (PARTS_PER_THREAD * self.executor.threads()).min(MAX_TOKEN_BLOCKS);
        tokens.div_ceil(parts).max(1)
    }

    /// Output columns per part of a region that computes `outputs` columns from `inputs` numbers for `tokens` tokens.
    pub(crate) fn column_block(&self, outputs: usize, inputs: usize, tokens: usize) -> usize {
        let work = outputs.saturating_mul(inputs).saturating_mul(tokens);
        let threads = self.executor.threads();
        let parts = if threads == 1 {
            1
        } else {
            (PARTS_PER_THREAD * threads)
                .min(work / MIN_PART_WORK)
                .max(1)
        };
        outputs
            .div_ceil(parts.min(MAX_COLUMN_PARTS))
            .next_multiple_of(COLUMN_STEP)
    }
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

/// A matrix of `tokens` x `width` cut into blocks of columns.
pub(crate) fn by_columns(tokens: usize, width: usize, block: usize) -> Grid<'static> {
    Grid {
        rows: tokens,
        width,
        stride: width,
        tile_rows: tokens,
        columns: Cuts::Every(block),
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
    fn blocks_cover_everything_within_the_limits() {
        for threads in [1, 2, 3, 64, 1000] {
            let executor = Threads(threads);
            let ctx = Context {
                kernels: Kernels::best(),
                executor: &executor,
            };
            for tokens in [1usize, 2, 63, 64, 65, 4097] {
                assert!(tokens.div_ceil(ctx.token_block(tokens)) <= MAX_TOKEN_BLOCKS);
                for outputs in [1usize, 15, 16, 17, 2560, 128_256] {
                    let block = ctx.column_block(outputs, 2560, tokens);
                    assert!(block.is_multiple_of(COLUMN_STEP));
                    assert!(outputs.div_ceil(block) <= MAX_COLUMN_PARTS);
                }
            }
        }
    }
}
