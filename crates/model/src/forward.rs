//! The decoder: from rows of tokens to logits.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use onebit_kernels::{Claims, Executor, Kernels, Tiles};

use crate::context::{Context, by_tokens, row_work};
use crate::error::ModelError;
use crate::inputs::{Norm, Source};
use crate::layer::{LayerCall, layer};
use crate::linear::project;
use crate::model::Model;
use crate::residency::Residency;
use crate::rows::RowReader;
use crate::step::{Output, Step, check_logits};
use crate::workspace::Workspace;

impl Model {
    /// Runs one step: all rows through all layers, logits for the rows asked for.
    ///
    /// A row's results are the same bits for every kernel set and number of threads, whatever other rows are in the step, and
    /// however a sequence is cut into steps. Nothing is allocated.
    ///
    /// # Errors
    /// Requests that cannot be served, found before anything is changed: a token that is not in the vocabulary, a position
    /// that does not continue its cache or does not fit in it, more rows than the workspace has room for, a cache or workspace
    /// made for another model. [`ModelError::Format`] where embeddings are read from a mapped file and it cannot be read any
    /// more; the caches have not grown then.
    pub fn forward<'w>(
        &self,
        kernels: &Kernels,
        executor: &dyn Executor,
        workspace: &'w mut Workspace,
        mut step: Step<'_, '_>,
    ) -> Result<Output<'w>, ModelError> {
        let skipped = AtomicU64::new(0);
        let ctx = Context {
            kernels,
            executor,
            skipped: &skipped,
        };
        let mut always = |_| ControlFlow::Continue(());
        let _ = self.run(&ctx, workspace, &mut step, &mut always)?;
        Ok(self.finish(&ctx, workspace, step.logits_for, step.hidden))
    }

    /// The same, asking `proceed` with the number of each layer before its weights are read. `None` when it said no; then
    /// the caches of the step are empty.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_while<'w>(
        &self,
        kernels: &Kernels,
        executor: &dyn Executor,
        workspace: &'w mut Workspace,
        mut step: Step<'_, '_>,
        proceed: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<Output<'w>>, ModelError> {
        let skipped = AtomicU64::new(0);
        let ctx = Context {
            kernels,
            executor,
            skipped: &skipped,
        };
        if self.run(&ctx, workspace, &mut step, proceed)?.is_break() {
            return Ok(None);
        }
        Ok(Some(self.finish(
            &ctx,
            workspace,
            step.logits_for,
            step.hidden,
        )))
    }

    /// Logits of `rows` of the last step that was completed in this workspace: for steps with more rows than logits have room.
    ///
    /// # Errors
    /// [`ModelError::LogitsRow`] for a row that the step does not have, [`ModelError::StepSize`] for more rows than the workspace
    /// has room for, [`ModelError::OtherModel`] for a workspace made for another model.
    pub fn logits<'w>(
        &self,
        kernels: &Kernels,
        executor: &dyn Executor,
        workspace: &'w mut Workspace,
        rows: &[usize],
    ) -> Result<Output<'w>, ModelError> {
        self.check_workspace(workspace)?;
        check_logits(rows, workspace.complete, workspace)?;
        let skipped = AtomicU64::new(0);
        let ctx = Context {
            kernels,
            executor,
            skipped: &skipped,
        };
        Ok(self.finish(&ctx, workspace, rows, false))
    }

    fn check_workspace(&self, workspace: &Workspace) -> Result<(), ModelError> {
        if workspace.fits(&self.spec, self.input_forms()) {
            Ok(())
        } else {
            Err(ModelError::OtherModel { what: "workspace" })
        }
    }

    /// Takes the rows through all layers, and makes them count.
    fn run(
        &self,
        ctx: &Context<'_>,
        workspace: &mut Workspace,
        step: &mut Step<'_, '_>,
        proceed: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ModelError> {
        self.check_workspace(workspace)?;
        step.begin(&self.spec, workspace)?;
        workspace.complete = 0;
        if let Err(error) = self.embed(ctx, workspace, step) {
            step.retract();
            return Err(error);
        }
        let done = self.run_layers(ctx, workspace, step, proceed);
        match done {
            ControlFlow::Continue(()) => {
                workspace.complete = step.rows.len();
                step.commit();
            }
            ControlFlow::Break(()) => step.abandon(),
        }
        Ok(done)
    }

    /// Decodes the embedding of each row's token, and computes the angles of its position.
    ///
    /// Rows that are read from the file go through the arena, one buffer per part.
    fn embed(
        &self,
        ctx: &Context<'_>,
        workspace: &mut Workspace,
        step: &Step<'_, '_>,
    ) -> Result<(), ModelError> {
        let (rows, caches) = (step.rows, &*step.caches);
        let (hidden, half) = (self.spec.hidden, self.spec.head_dim / 2);
        let table = self.weights.embed.resolve(&self.file);
        let reader = self
            .reads_rows
            .then(|| RowReader::new(&self.weights.embed, &self.file));
        let buffer = reader.as_ref().map_or(1, RowReader::buffer_len);
        let ([a, b, c], arena, d) = workspace.scratch.embedding();
        let block = ctx.token_block(rows.len(), hidden);
        let block = block.max(rows.len().div_ceil(arena.len() / buffer));
        let grid = |width| by_tokens(rows.len(), width, block);
        let x = Tiles::new(&mut workspace.x, grid(hidden), a);
        let cos = Tiles::new(&mut workspace.cos, grid(half), b);
        let sin = Tiles::new(&mut workspace.sin, grid(half), c);
        let buffers = Tiles::new(arena, by_tokens(x.tile_rows(), buffer, 1), d);
        let failed = Mutex::new(None);
        ctx.run(x.tile_rows(), row_work(rows.len(), hidden), &|part| {
            let (mut x, mut cos, mut sin, mut buffer) = (
                x.claim(part, 0),
                cos.claim(part, 0),
                sin.claim(part, 0),
                buffers.claim(part, 0),
            );
            for i in 0..x.rows() {
                let row = rows[part * block + i];
                let token = row.token as usize;
                match &reader {
                    None => table.decode_row(token, x.row(i)),
                    Some(reader) => {
                        if let Err(error) = reader.read(token, buffer.row(0), x.row(i)) {
                            failed
                                .lock()
                                .unwrap_or_else(|e| e.into_inner())
                                .get_or_insert(error);
                        }
                    }
                }
                let length = caches[row.sequence].rope_length(row.position);
                let (cos, sin) = (cos.row(i), sin.row(i));
                self.rope.angles(row.position, length, cos, sin);
            }
        });
        match failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// All rows through one layer after the other, as many at a time as there is room for.
    fn run_layers(
        &self,
        ctx: &Context<'_>,
        workspace: &mut Workspace,
        step: &mut Step<'_, '_>,
        proceed: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let (rows, at_once) = (step.rows.len(), workspace.rows_at_once);
        let score_scale = (1.0 / f64::sqrt(self.spec.head_dim as f64)) as f32;
        for (index, weights) in self.weights.layers.iter().enumerate() {
            proceed(index)?;
            let (cos, sin) = (&workspace.cos, &workspace.sin);
            let call = LayerCall {
                spec: &self.spec,
                index,
                rows: step.rows,
                cos,
                sin,
                score_scale,
            };
            let weights = weights.resolve(&self.file);
            self.tell(|residency| residency.before(index));
            for start in (0..rows).step_by(at_once) {
                let part = start..rows.min(start + at_once);
                layer(
                    ctx,
                    &call.some_rows(part),
                    &weights,
                    step.caches,
                    &mut workspace.scratch,
                    &mut workspace.x[start * self.spec.hidden..],
                );
            }
            self.tell(|residency| residency.after(index));
        }
        ControlFlow::Continue(())
    }

    fn tell(&self, what: impl Fn(&dyn Residency)) {
        if let Some(residency) = &self.residency {
            what(&**residency);
        }
    }

    /// Final norm and head, for rows of the step just completed.
    fn finish<'w>(
        &self,
        ctx: &Context<'_>,
        workspace: &'w mut Workspace,
        logits_for: &[usize],
        hidden: bool,
    ) -> Output<'w> {
        let (width, vocab) = (self.spec.hidden, self.spec.vocab);
        let stage = self.spec.layers;
        let wanted = hidden || !logits_for.is_empty();
        if wanted {
            self.tell(|residency| residency.before(stage));
        }
        let norm = Norm {
            weight: self.weights.norm.resolve(&self.file),
            eps: self.spec.norm_eps,
        };
        let rows = if hidden { workspace.complete } else { 0 };
        let (slots, hidden, claims) = workspace.scratch.head(rows);
        let logits = &mut workspace.logits[..logits_for.len() * vocab];
        if !logits_for.is_empty() {
            let source = Source::picked(&workspace.x, width, logits_for);
            let head = self.weights.head.resolve(&self.file);
            let inputs = slots.prepare(ctx, source, Some(norm), [&head]);
            project(ctx, [&head], inputs, [&mut *logits], claims);
        }
        norm_rows(ctx, &workspace.x, norm, hidden, &mut claims[0]);
        if wanted {
            self.tell(|residency| residency.after(stage));
        }
        Output {
            logits,
            vocab,
            hidden,
            width,
            skipped_bytes: ctx.skipped.load(Ordering::Relaxed),
        }
    }
}

/// Norms the first rows of `x`, as many as `out` has room for.
fn norm_rows(ctx: &Context<'_>, x: &[f32], norm: Norm<'_>, out: &mut [f32], claims: &mut Claims) {
    let width = norm.weight.len();
    let rows = out.len() / width;
    let block = ctx.token_block(rows, width);
    let out = Tiles::new(out, by_tokens(rows, width, block), claims);
    ctx.run(out.tile_rows(), row_work(rows, width), &|part| {
        let mut tile = out.claim(part, 0);
        for i in 0..tile.rows() {
            let row = &x[(part * block + i) * width..][..width];
            ctx.kernels
                .rms_norm(row, norm.weight, norm.eps, tile.row(i));
        }
    });
}
