//! One call of the decoder: what goes in and what comes out.

use crate::error::ModelError;
use crate::kv_cache::KvCache;
use crate::spec::ModelSpec;
use crate::workspace::Workspace;

/// One token of one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Index of the sequence's cache in [`Step::caches`].
    pub sequence: usize,
    /// Position in the sequence, from 0.
    pub position: usize,
    /// Token id.
    pub token: u32,
}

/// What [`Model::forward`](crate::Model::forward) computes in one call: rows of one or several sequences.
///
/// The rows of each sequence continue its cache in order: the first has position [`KvCache::len`], the next one more, and so
/// on. Rows of different sequences may be mixed in any way. After a successful call the caches have grown by their rows; after
/// an error they have not.
pub struct Step<'a, 'c> {
    /// The tokens to run.
    pub rows: &'a [Row],
    /// One cache per sequence.
    pub caches: &'a mut [&'c mut KvCache],
    /// Indices into `rows` for which logits are wanted.
    pub logits_for: &'a [usize],
    /// Whether the final-normed hidden states of all rows are wanted.
    pub hidden: bool,
}

/// What a [`Step`] computed, until the workspace is used again.
#[derive(Clone, Copy)]
pub struct Output<'w> {
    pub(crate) logits: &'w [f32],
    pub(crate) vocab: usize,
    pub(crate) hidden: &'w [f32],
    pub(crate) width: usize,
    pub(crate) skipped_bytes: u64,
}

impl<'w> Output<'w> {
    /// Bytes of weights that the step did not read because what they are multiplied with is zero. Only steps of one row leave
    /// weights out.
    pub fn skipped_bytes(&self) -> u64 {
        self.skipped_bytes
    }

    /// Logits of `logits_for[i]`, one per entry of the vocabulary.
    ///
    /// # Panics
    /// When `i` is not below the number of logits rows asked for.
    pub fn logits(&self, i: usize) -> &'w [f32] {
        &self.logits[i * self.vocab..][..self.vocab]
    }

    /// All logits asked for, `[logits_for.len(), vocab]`.
    pub fn all_logits(&self) -> &'w [f32] {
        self.logits
    }

    /// Final-normed hidden state of row `i`.
    ///
    /// # Panics
    /// When `i` is not a row of the step, or hidden states were not asked for.
    pub fn hidden(&self, i: usize) -> &'w [f32] {
        &self.hidden[i * self.width..][..self.width]
    }
}

impl Step<'_, '_> {
    /// Checks the request and announces the rows to their caches. On an error nothing has changed.
    pub(crate) fn begin(
        &mut self,
        spec: &ModelSpec,
        workspace: &Workspace,
    ) -> Result<(), ModelError> {
        let rows = self.rows.len();
        within("rows", rows, workspace.max_rows)?;
        check_logits(self.logits_for, rows, workspace)?;
        if self.hidden {
            within("rows of hidden states", rows, workspace.rows_at_once)?;
        }
        if let Some(row) = self
            .rows
            .iter()
            .find(|row| row.token as usize >= spec.vocab)
        {
            return Err(ModelError::Token {
                id: row.token,
                vocab: spec.vocab,
            });
        }
        if self.caches.iter().any(|cache| !cache.fits(spec)) {
            return Err(ModelError::OtherModel { what: "cache" });
        }
        let is_used = |cache: &KvCache| cache.is_for_one_step() && !cache.is_empty();
        if self.caches.iter().any(|cache| is_used(cache)) {
            return Err(ModelError::OneStep);
        }
        self.retract();
        let announced = self.announce();
        if announced.is_err() {
            self.retract();
        }
        announced
    }

    /// Makes the rows count.
    pub(crate) fn commit(&mut self) {
        self.caches.iter_mut().for_each(|cache| cache.commit());
    }

    /// Forgets what was announced.
    pub(crate) fn retract(&mut self) {
        self.caches.iter_mut().for_each(|cache| cache.retract());
    }

    /// Empties the caches, whose rows may have been replaced by some of the step's.
    pub(crate) fn abandon(&mut self) {
        self.retract();
        for cache in self.caches.iter_mut() {
            cache.truncate(0);
        }
    }

    fn announce(&mut self) -> Result<(), ModelError> {
        let caches = self.caches.len();
        for (
            i,
            &Row {
                sequence, position, ..
            },
        ) in self.rows.iter().enumerate()
        {
            let Some(cache) = self.caches.get_mut(sequence) else {
                return Err(ModelError::Sequence {
                    row: i,
                    sequence,
                    caches,
                });
            };
            let (expected, capacity) = (cache.next(), cache.capacity());
            if position != expected {
                return Err(ModelError::Position {
                    sequence,
                    expected,
                    found: position,
                });
            }
            if position >= capacity {
                return Err(ModelError::ContextFull {
                    sequence,
                    position,
                    capacity,
                });
            }
            cache.announce();
        }
        Ok(())
    }
}

/// Refuses logits that a workspace has no room for, and those of rows that a step of `rows` rows does not have.
pub(crate) fn check_logits(
    wanted: &[usize],
    rows: usize,
    workspace: &Workspace,
) -> Result<(), ModelError> {
    if !wanted.is_empty() {
        let most = workspace.max_logits.min(workspace.rows_at_once);
        within("rows of logits", wanted.len(), most)?;
    }
    match wanted.iter().find(|&&row| row >= rows) {
        Some(&row) => Err(ModelError::LogitsRow { row, rows }),
        None => Ok(()),
    }
}

fn within(what: &'static str, found: usize, max: usize) -> Result<(), ModelError> {
    if (1..=max).contains(&found) {
        Ok(())
    } else {
        Err(ModelError::StepSize { what, found, max })
    }
}
