//! Scoring a text without keeping keys and values.

use std::ops::ControlFlow;

use onebit_model::{KvCache, Row, Step, Workspace};

use crate::engine::Engine;
use crate::error::RuntimeError;
use crate::session::{SessionOptions, check_ids, score_rows};

/// Room for scoring one text after another in a pass each: every layer sees the whole text, a batch at a time, before the next
/// layer is read.
///
/// It takes keys and values of one layer instead of all, and the states of all tokens between two layers:
/// `4 * (hidden + head_dim)` bytes a token. Nothing can be appended to a text that was scored. The results are those of
/// [`Session::score`](crate::Session::score), bit by bit.
pub struct OnePass {
    engine: Engine,
    options: SessionOptions,
    cache: KvCache,
    workspace: Workspace,
}

impl OnePass {
    /// Room for texts of up to `options.context` tokens.
    ///
    /// # Errors
    /// As [`Session::new`](crate::Session::new).
    pub fn new(engine: Engine, options: SessionOptions) -> Result<Self, RuntimeError> {
        let options = options.checked()?;
        let model = engine.model();
        let (context, batch) = (options.context, options.batch);
        Ok(Self {
            cache: KvCache::for_one_step(model.spec(), options.kv, context)?,
            workspace: Workspace::for_long_steps(model, context, batch, options.logits_rows)?,
            engine,
            options,
        })
    }

    /// The log-probability of each of `ids` but the first, given those before it. `on_row` sees the logits after each token,
    /// with its index in `ids`; when it breaks, the rest is left out. Before any logits are known, `proceed` is asked
    /// before each layer; `None` when it said no.
    ///
    /// # Errors
    /// As [`Session::score`](crate::Session::score).
    pub fn score(
        &mut self,
        ids: &[u32],
        mut proceed: impl FnMut() -> ControlFlow<()>,
        mut on_row: impl FnMut(usize, &[f32]) -> ControlFlow<()>,
    ) -> Result<Option<Vec<f64>>, RuntimeError> {
        let (model, vocab) = (self.engine.model(), self.engine.model().spec().vocab);
        check_ids(ids, 0, self.options.context, vocab)?;
        self.cache.truncate(0);
        self.cache.expect(ids.len());
        let row = |(position, &token)| Row {
            sequence: 0,
            position,
            token,
        };
        let rows: Vec<Row> = ids.iter().enumerate().map(row).collect();
        let step = Step {
            rows: &rows,
            caches: &mut [&mut self.cache],
            logits_for: &[],
            hidden: false,
        };
        let (kernels, pool) = (self.engine.kernels(), &**self.engine.pool());
        let workspace = &mut self.workspace;
        let done = model.forward_while(kernels, pool, workspace, step, &mut |_| proceed())?;
        if done.is_none() {
            return Ok(None);
        }
        let all: Vec<usize> = (0..ids.len()).collect();
        let mut scores = Vec::with_capacity(ids.len() - 1);
        for wanted in all.chunks(self.options.logits_rows) {
            let output = model.logits(kernels, pool, workspace, wanted)?;
            let logits = output.all_logits().chunks_exact(vocab);
            if score_rows(ids, wanted[0], logits, &mut scores, &mut on_row)?.is_break() {
                break;
            }
        }
        Ok(Some(scores))
    }
}

impl std::fmt::Debug for OnePass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnePass")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
