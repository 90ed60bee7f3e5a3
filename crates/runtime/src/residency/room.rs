//! How many bytes of weights there is room for.

use onebit_model::{KvCache, Model, Workspace};

use super::limit::memory_available;
use crate::os::process_memory;
use crate::session::SessionOptions;

/// What is left for everything that nobody counts: the program's own pages, page tables, buffers of the system.
const MARGIN: u64 = 16 << 20;

/// Bytes of weights that may be resident beside this process's memory so far and one session of `model`, with a margin;
/// `None` where the system does not say how much memory there is.
pub fn room_for_weights(model: &Model, options: &SessionOptions) -> Option<u64> {
    let available = memory_available()?;
    let batch = options.batch.min(options.context);
    let rows = options.logits_rows.clamp(1, batch.max(1));
    let spec = model.spec();
    let session = [
        KvCache::bytes(spec, options.keys, options.values, options.context),
        Workspace::bytes(spec, model.input_forms(), batch, rows),
    ];
    let session: u64 = session
        .into_iter()
        .flatten()
        .map(|bytes| bytes as u64)
        .sum();
    let own = process_memory().map_or(0, |memory| memory.anon);
    let taken = own + session + MARGIN + available / 16;
    Some(available.saturating_sub(taken))
}
