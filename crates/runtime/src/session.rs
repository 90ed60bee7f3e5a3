//! One sequence of tokens in a model: its cache, its scratch memory, and the calls that extend it.

use std::ops::ControlFlow;

use onebit_kernels::Kernels;
use onebit_model::{KvCache, KvOptions, KvType, ModelError, ModelSpec, Row, Step, Workspace};

use crate::engine::Engine;
use crate::error::RuntimeError;
use crate::sampling::log_prob;

/// Context where nothing else is asked for, in tokens.
pub(crate) const DEFAULT_CONTEXT: usize = 2048;

/// How large a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Tokens that fit, prompt and answer together.
    pub context: usize,
    /// Most tokens of a prompt that run through the model at once.
    pub batch: usize,
    /// Rows of logits computed at once by [`Session::score`].
    pub logits_rows: usize,
    /// How keys and values are stored.
    pub kv: KvOptions,
}

impl SessionOptions {
    /// For models of this shape: the model's own context up to 2048 tokens, batches of 128, and `f16` keys and
    /// values.
    pub fn new(spec: &ModelSpec) -> Self {
        Self {
            context: spec.max_positions.min(DEFAULT_CONTEXT),
            batch: 128,
            logits_rows: 1,
            kv: KvOptions::from(KvType::F16),
        }
    }

    /// With the batch that suits these kernels.
    pub fn batch_of(self, kernels: &Kernels) -> Self {
        let batch = kernels.batch();
        Self { batch, ..self }
    }

    /// With room for `context` tokens; 0 stands for the model's own maximum.
    pub fn context(self, context: usize, spec: &ModelSpec) -> Self {
        let context = if context == 0 {
            spec.max_positions
        } else {
            context
        };
        Self { context, ..self }
    }

    /// With a batch and rows of logits that are no larger than the context and the batch.
    ///
    /// # Errors
    /// [`RuntimeError::Option`] for a batch of no tokens.
    pub(crate) fn checked(self) -> Result<Self, RuntimeError> {
        if self.batch == 0 {
            let (name, value) = ("batch", "0".to_owned());
            return Err(RuntimeError::Option {
                name,
                value,
                expected: "at least one token",
            });
        }
        let batch = self.batch.min(self.context);
        Ok(Self {
            batch,
            logits_rows: self.logits_rows.clamp(1, batch.max(1)),
            ..self
        })
    }
}

/// Where a session stands: the basis for choosing its next token.
#[derive(Clone, Copy, Debug)]
pub struct Position<'s> {
    /// One number per token of the vocabulary, for the token that comes next.
    pub logits: &'s [f32],
    /// All tokens so far.
    pub tokens: &'s [u32],
}

/// A sequence of tokens with its keys and values.
///
/// All memory is allocated at construction; [`prefill`](Self::prefill) and [`step`](Self::step)
/// allocate nothing. The logits are the same bits whatever the number of threads, the kernel set, the
/// size of a batch, and the way in which the tokens were cut into calls. The last has one exception:
/// with dynamic rope scaling, the tokens of one call share the angles of its end, as those of one
/// forward pass of `transformers` do.
pub struct Session {
    engine: Engine,
    options: SessionOptions,
    cache: KvCache,
    workspace: Workspace,
    tokens: Vec<u32>,
    rows: Vec<Row>,
    /// `0..logits_rows`.
    row_indices: Vec<usize>,
    reads: WeightReads,
}

/// How much of the weights steps of one token read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WeightReads {
    /// Steps of one token.
    pub steps: u64,
    /// Bytes of weights that all these steps did without, because what they are multiplied with is
    /// zero.
    pub skipped_bytes: u64,
}

impl Session {
    /// An empty session.
    ///
    /// # Errors
    /// [`RuntimeError::Option`] for a batch of no tokens; [`RuntimeError::Model`] for a context of
    /// none, or one larger than memory.
    pub fn new(engine: Engine, options: SessionOptions) -> Result<Self, RuntimeError> {
        let spec = engine.model().spec();
        let cache = KvCache::new(spec, options.kv, options.context)?;
        Self::with_cache(engine, options, cache, &[])
    }

    pub(crate) fn with_cache(
        engine: Engine,
        options: SessionOptions,
        cache: KvCache,
        tokens: &[u32],
    ) -> Result<Self, RuntimeError> {
        let options = options.checked()?;
        let (batch, logits_rows) = (options.batch, options.logits_rows);
        let workspace = Workspace::new(engine.model(), batch, logits_rows)?;
        let mut all = Vec::with_capacity(options.context);
        all.extend_from_slice(tokens);
        Ok(Self {
            workspace,
            cache,
            tokens: all,
            rows: Vec::with_capacity(batch),
            row_indices: (0..logits_rows).collect(),
            options,
            engine,
            reads: WeightReads::default(),
        })
    }

    /// What the steps of one token have read since the session began.
    pub fn weight_reads(&self) -> WeightReads {
        self.reads
    }

    /// What the session shares with others.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// How large it is.
    pub fn options(&self) -> &SessionOptions {
        &self.options
    }

    /// Keys and values.
    pub(crate) fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// All tokens so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Number of tokens that still fit.
    pub fn remaining(&self) -> usize {
        self.options.context - self.tokens.len()
    }

    /// Appends tokens, in batches, and says where the session stands then.
    ///
    /// # Errors
    /// [`RuntimeError::EmptyPrompt`] without tokens; [`RuntimeError::ContextTooSmall`] where they
    /// do not fit, and [`RuntimeError::Model`] for ids out of range: then nothing is appended.
    pub fn prefill(&mut self, ids: &[u32]) -> Result<Position<'_>, RuntimeError> {
        match self.prefill_while(ids, |_| ControlFlow::Continue(()))? {
            Some(position) => Ok(position),
            None => Err(RuntimeError::EmptyPrompt),
        }
    }

    /// The same, asking `proceed` with the number of tokens appended before each batch. `None` when
    /// it said no; the batches before stay.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn prefill_while(
        &mut self,
        ids: &[u32],
        mut proceed: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<Position<'_>>, RuntimeError> {
        self.check(ids)?;
        self.cache.expect(self.tokens.len() + ids.len());
        let batch = self.options.batch;
        let last = (ids.len() - 1) / batch * batch;
        for start in (0..last).step_by(batch) {
            if proceed(start).is_break() {
                return Ok(None);
            }
            self.run(&ids[start..start + batch], Wanted::Nothing)?;
        }
        if proceed(last).is_break() {
            return Ok(None);
        }
        let logits = self.run(&ids[last..], Wanted::Last)?;
        Ok(Some(logits))
    }

    /// Appends one token and says where the session stands then.
    ///
    /// # Errors
    /// As [`Session::prefill`].
    pub fn step(&mut self, id: u32) -> Result<Position<'_>, RuntimeError> {
        self.check(&[id])?;
        self.cache.expect(self.tokens.len() + 1);
        self.run(&[id], Wanted::Last)
    }

    /// Appends tokens and returns the log-probability of each but the first, given those before it.
    /// `on_row` sees the logits after each token, with its index in `ids`; when it breaks, the rest
    /// is left out.
    ///
    /// # Errors
    /// As [`Session::prefill`]; [`RuntimeError::Logits`] where a token has no log-probability.
    pub fn score(
        &mut self,
        ids: &[u32],
        mut on_row: impl FnMut(usize, &[f32]) -> ControlFlow<()>,
    ) -> Result<Vec<f64>, RuntimeError> {
        self.check(ids)?;
        self.cache.expect(self.tokens.len() + ids.len());
        let vocab = self.engine.model().spec().vocab;
        let mut scores = Vec::with_capacity(ids.len() - 1);
        for (chunk, start) in ids
            .chunks(self.options.logits_rows)
            .zip((0..).step_by(self.options.logits_rows))
        {
            let logits = self.run(chunk, Wanted::All)?.logits.chunks_exact(vocab);
            if score_rows(ids, start, logits, &mut scores, &mut on_row)?.is_break() {
                break;
            }
        }
        Ok(scores)
    }

    /// Forgets the tokens from position `len` on, and returns how many are left: `len`, all where there
    /// are fewer, or none where the cache keeps only the last ones and cannot go back so far.
    pub fn truncate(&mut self, len: usize) -> usize {
        let kept = self.cache.truncate(len);
        self.tokens.truncate(kept);
        kept
    }

    /// Forgets what does not agree with `ids`, and keeps at least one of them to be appended; returns
    /// how many of them the session has already. With dynamic rope scaling nothing is kept once the
    /// angles of keys have changed, so that a conversation means what it means when it is read anew.
    pub fn keep_prefix(&mut self, ids: &[u32]) -> usize {
        let longest = self.tokens.len().max(ids.len());
        if !self.engine.model().spec().rope.is_fixed_up_to(longest) {
            self.truncate(0);
        }
        let common = self
            .tokens
            .iter()
            .zip(ids)
            .take_while(|(a, b)| a == b)
            .count();
        self.truncate(common.min(ids.len().saturating_sub(1)))
    }

    /// An independent session that continues from the same tokens.
    ///
    /// # Errors
    /// [`RuntimeError::Model`] where memory is short.
    pub fn fork(&self) -> Result<Self, RuntimeError> {
        Self::with_cache(
            self.engine.clone(),
            self.options,
            self.cache.fork(),
            &self.tokens,
        )
    }

    /// Refuses tokens that cannot be appended.
    fn check(&self, ids: &[u32]) -> Result<(), RuntimeError> {
        let vocab = self.engine.model().spec().vocab;
        check_ids(ids, self.tokens.len(), self.options.context, vocab)
    }

    /// Runs at most a batch of checked tokens. The logits are those of the rows wanted.
    fn run(&mut self, ids: &[u32], wanted: Wanted) -> Result<Position<'_>, RuntimeError> {
        let start = self.tokens.len();
        self.rows.clear();
        self.rows
            .extend((start..).zip(ids).map(|(position, &token)| Row {
                sequence: 0,
                position,
                token,
            }));
        let last = [ids.len() - 1];
        let logits_for = match wanted {
            Wanted::Nothing => &[][..],
            Wanted::Last => &last[..],
            Wanted::All => &self.row_indices[..ids.len()],
        };
        let caches = &mut [&mut self.cache];
        let step = Step {
            rows: &self.rows,
            caches,
            logits_for,
            hidden: false,
        };
        let (kernels, pool) = (self.engine.kernels(), &**self.engine.pool());
        let output = self
            .engine
            .model()
            .forward(kernels, pool, &mut self.workspace, step)?;
        self.tokens.extend_from_slice(ids);
        if ids.len() == 1 {
            self.reads.steps += 1;
            self.reads.skipped_bytes += output.skipped_bytes();
        }
        Ok(Position {
            logits: output.all_logits(),
            tokens: &self.tokens,
        })
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("options", &self.options)
            .field("tokens", &self.tokens.len())
            .finish_non_exhaustive()
    }
}

/// Refuses tokens that cannot follow `len` others.
pub(crate) fn check_ids(
    ids: &[u32],
    len: usize,
    context: usize,
    vocab: usize,
) -> Result<(), RuntimeError> {
    if ids.is_empty() {
        return Err(RuntimeError::EmptyPrompt);
    }
    let tokens = len + ids.len();
    if tokens > context {
        return Err(RuntimeError::ContextTooSmall { tokens, context });
    }
    match ids.iter().find(|&&id| id as usize >= vocab) {
        Some(&id) => Err(ModelError::Token { id, vocab }.into()),
        None => Ok(()),
    }
}

/// Takes the log-probabilities of what follows each of `ids` from `start` on, for which there are `logits`, and shows these.
pub(crate) fn score_rows<'l>(
    ids: &[u32],
    start: usize,
    logits: impl Iterator<Item = &'l [f32]>,
    scores: &mut Vec<f64>,
    on_row: &mut impl FnMut(usize, &[f32]) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, RuntimeError> {
    for (index, logits) in (start..).zip(logits) {
        if let Some(&next) = ids.get(index + 1) {
            let score = log_prob(logits, next).filter(|score| !score.is_nan());
            let error = RuntimeError::Logits {
                token: next as usize,
                value: logits.get(next as usize).copied().unwrap_or(f32::NAN),
            };
            scores.push(score.ok_or(error)?);
        }
        if on_row(index, logits).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Which rows of a call need logits.
#[derive(Clone, Copy)]
enum Wanted {
    Nothing,
    Last,
    All,
}
