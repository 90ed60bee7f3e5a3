//! Settings that fit a budget.

use onebit_model::{KvType, MAX_POSITIONS, ModelError};

use super::{Budget, MemoryParts, MemoryPlan, format_size};
use crate::error::RuntimeError;
use crate::session::{DEFAULT_CONTEXT, SessionOptions};

/// Contexts are chosen in steps of a block of positions.
const STEP: usize = onebit_kernels::KV_BLOCK;
/// The smallest batch that is chosen without being asked for.
const SMALLEST_BATCH: usize = 16;

/// What [`fit`] may choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// The types of keys and values.
    pub kv: bool,
    /// The context, up to the one given.
    pub context: bool,
    /// The batch, up to the one given.
    pub batch: bool,
}

/// Settings that do not fit, and what would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoesNotFit {
    /// What was asked for.
    pub asked: SessionOptions,
    /// The memory that it takes.
    pub needed: u64,
    /// The budget.
    pub budget: Budget,
    /// Bytes of one layer of weights.
    pub layer: u64,
    /// The nearest settings that fit, the best first.
    pub nearest: Vec<SessionOptions>,
    /// What the smallest settings of all take.
    pub least: u64,
}

impl std::fmt::Display for DoesNotFit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let limit = format_size(self.budget.resident);
        let needed = format_size(self.needed);
        let SessionOptions { context, kv, .. } = self.asked;
        write!(
            f,
            "a context of {context} with kv {} takes {needed}, and there are {limit}",
            kv.keys.name()
        )?;
        if self.budget.resident < self.layer {
            let layer = format_size(self.layer);
            return write!(f, ", less than one layer of the weights ({layer})");
        }
        Ok(())
    }
}

/// Chooses what is open so that a session fits the budget: the best type of keys and values first, then the largest context.
///
/// Types are tried from `f16` to the smallest of [`KvType::ALL`], and for each the batch is halved, down to 16, before the next
/// type is taken. A type must have room for 2048 positions (or for as many as `options` allow), unless none has.
///
/// # Errors
/// [`RuntimeError::DoesNotFit`] with the nearest settings that fit; [`RuntimeError::Model`] for a context that no cache has.
pub fn fit(
    parts: &MemoryParts,
    options: &SessionOptions,
    open: Open,
    budget: &Budget,
) -> Result<SessionOptions, RuntimeError> {
    if options.context > MAX_POSITIONS {
        let (capacity, max) = (options.context, MAX_POSITIONS);
        return Err(ModelError::Capacity { capacity, max }.into());
    }
    let floor = if open.context {
        options.context.min(DEFAULT_CONTEXT)
    } else {
        options.context
    };
    let kinds = if open.kv {
        best_first(parts, options)
    } else {
        vec![(options.kv.keys, options.kv.values)]
    };
    let candidates = || {
        let batches = batches(options.batch, open.batch);
        kinds.iter().flat_map(move |&(keys, values)| {
            let with = move |batch| SessionOptions {
                kv: options.kv.with_types(keys, values),
                batch,
                ..*options
            };
            batches.clone().map(with)
        })
    };
    let holds = |options: &SessionOptions| budget.holds_session(parts, options);
    for candidate in candidates() {
        let at_floor = SessionOptions {
            context: floor,
            ..candidate
        };
        if holds(&at_floor) {
            let largest = largest_context(parts, &candidate, options.context, budget);
            let context = largest.filter(|_| open.context).unwrap_or(floor);
            return Ok(SessionOptions {
                context,
                ..candidate
            });
        }
    }
    let smallest = candidates().last().filter(|_| open.context);
    let fitting = smallest.and_then(|candidate| {
        let context = largest_context(parts, &candidate, floor, budget)?;
        Some(SessionOptions {
            context,
            ..candidate
        })
    });
    match fitting {
        Some(options) => Ok(options),
        None => Err(refusal(parts, options, floor, budget)?.into()),
    }
}

/// The largest context that fits, for every type of keys and values.
pub fn largest_contexts(
    parts: &MemoryParts,
    options: &SessionOptions,
    budget: &Budget,
) -> Vec<(KvType, Option<usize>)> {
    let largest = |&kind: &KvType| {
        let options = SessionOptions {
            kv: options.kv.with_types(kind, kind),
            ..*options
        };
        let most = MAX_POSITIONS;
        (kind, largest_context(parts, &options, most, budget))
    };
    KvType::ALL.iter().map(largest).collect()
}

impl Budget {
    /// Whether a session stays within it.
    fn holds_session(&self, parts: &MemoryParts, options: &SessionOptions) -> bool {
        parts.plan(options).is_ok_and(|plan| self.holds(&plan))
    }
}

/// The largest context up to `most` that fits: `most` itself, or a whole number of blocks.
fn largest_context(
    parts: &MemoryParts,
    options: &SessionOptions,
    most: usize,
    budget: &Budget,
) -> Option<usize> {
    let holds = |context| {
        let options = SessionOptions {
            context,
            ..*options
        };
        budget.holds_session(parts, &options)
    };
    if holds(most) {
        return Some(most);
    }
    // In blocks: the first number that does not fit.
    let (mut fits, mut fails) = (0, most.div_ceil(STEP));
    while fits + 1 < fails {
        let middle = fits.midpoint(fails);
        match holds(middle * STEP) {
            true => fits = middle,
            false => fails = middle,
        }
    }
    (fits > 0).then_some(fits * STEP)
}

/// `f16` and all types that take less, from the largest to the smallest.
fn best_first(parts: &MemoryParts, options: &SessionOptions) -> Vec<(KvType, KvType)> {
    let bytes = |kind: &KvType| {
        let options = SessionOptions {
            kv: options.kv.with_types(*kind, *kind),
            // Long enough for what all contexts have to count for little.
            context: DEFAULT_CONTEXT,
            ..*options
        };
        parts
            .plan(&options)
            .map_or(0, |plan| plan.bytes("kv cache"))
    };
    let most = bytes(&KvType::F16);
    let mut kinds: Vec<KvType> = KvType::ALL.to_vec();
    kinds.retain(|kind| *kind == KvType::F16 || (1..most).contains(&bytes(kind)));
    kinds.sort_by_key(|kind| std::cmp::Reverse(bytes(kind)));
    kinds.into_iter().map(|kind| (kind, kind)).collect()
}

/// The batch, and, where it is open, its halves.
fn batches(largest: usize, is_open: bool) -> impl Iterator<Item = usize> + Clone {
    let halves = std::iter::successors(Some(largest), move |&batch| {
        (is_open && batch > SMALLEST_BATCH).then_some((batch / 2).max(SMALLEST_BATCH))
    });
    halves.into_iter()
}

/// Explains that nothing fits.
fn refusal(
    parts: &MemoryParts,
    options: &SessionOptions,
    context: usize,
    budget: &Budget,
) -> Result<DoesNotFit, RuntimeError> {
    let asked = SessionOptions {
        context,
        ..*options
    };
    let batch = options.batch.min(SMALLEST_BATCH);
    let total = |options: &SessionOptions| {
        parts
            .plan(options)
            .as_ref()
            .map_or(u64::MAX, MemoryPlan::total)
    };
    let kinds = best_first(parts, options);
    let mut nearest: Vec<SessionOptions> = Vec::new();
    let given = (options.kv.keys, options.kv.values);
    for (keys, values) in std::iter::once(given).chain(kinds.iter().copied()) {
        let smaller = SessionOptions {
            kv: options.kv.with_types(keys, values),
            batch,
            ..*options
        };
        let found = largest_context(parts, &smaller, context, budget);
        // Only what has room for more than the one before is worth a mention.
        let best = nearest.last().map_or(0, |last| last.context);
        nearest.extend(
            found
                .filter(|found| *found > best)
                .map(|context| SessionOptions { context, ..smaller }),
        );
    }
    let (keys, values) = kinds.last().copied().unwrap_or(given);
    let least = SessionOptions {
        kv: options.kv.with_types(keys, values),
        batch: 1,
        context: STEP.min(context),
        ..*options
    };
    Ok(DoesNotFit {
        asked,
        needed: parts.plan(&asked)?.total(),
        budget: *budget,
        layer: parts.layer_bytes(),
        nearest,
        least: total(&least),
    })
}
