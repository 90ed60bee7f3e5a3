//! What a session will take, before anything is allocated.

use onebit_model::{KvCache, Model, ModelError, Workspace};

use crate::error::RuntimeError;
use crate::sampling::Candidate;
use crate::session::SessionOptions;
use crate::tokenizer_bytes::TokenizerBytes;

/// The program's own code and data.
const PROGRAM: u64 = 4 << 20;

/// Where the bytes of an item come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryKind {
    /// Mapped from a file: resident once touched, and given back when memory is short.
    File,
    /// The process's own.
    Anonymous,
}

/// One line of a plan.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MemoryItem {
    /// What it is.
    pub name: &'static str,
    /// Its size when all of it is in use.
    pub bytes: u64,
    /// Where it comes from.
    pub kind: MemoryKind,
}

/// The memory of one session with everything in use: all weights touched, the context full.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MemoryPlan {
    /// The lines.
    pub items: Vec<MemoryItem>,
}

impl MemoryPlan {
    /// Plans a session of a model.
    ///
    /// # Errors
    /// [`RuntimeError::Model`] where the sizes are more than this machine can address.
    pub fn new(model: &Model, options: &SessionOptions) -> Result<Self, RuntimeError> {
        let (spec, file) = (model.spec(), model.file());
        let size = |what, bytes: Option<usize>| match bytes {
            Some(bytes) => Ok(bytes as u64),
            None => Err(RuntimeError::from(ModelError::Memory { what })),
        };
        let kv = KvCache::bytes(spec, options.keys, options.values, options.context);
        let batch = options.batch.min(options.context);
        let logits_rows = options.logits_rows.clamp(1, batch.max(1));
        let scratch = Workspace::bytes(spec, model.input_forms(), batch, logits_rows);
        let tokens = options.context.checked_mul(size_of::<u32>());
        let sampler = spec.vocab * (size_of::<f32>() + size_of::<Candidate>());

        let weights = model.weight_bytes();
        let [layers, embed, head] = [weights.layers, weights.embed, weights.head].map(|b| b as u64);
        let rest = file.file_len().saturating_sub(layers + embed + head);
        let stored = if file.is_file_backed() {
            MemoryKind::File
        } else {
            MemoryKind::Anonymous
        };
        let tokenizer = TokenizerBytes::of(file);
        let own = MemoryKind::Anonymous;
        let items = [
            ("layers", layers, stored),
            ("embeddings", embed, stored),
            ("head", head, stored),
            (
                "header and texts",
                rest.saturating_sub(tokenizer.untouched),
                stored,
            ),
            ("kv cache", size("KV cache", kv)?, own),
            (
                "scratch",
                size("workspace", scratch)? + size("tokens", tokens)? + sampler as u64,
                own,
            ),
            ("tokenizer", tokenizer.anonymous, own),
            ("program", PROGRAM, MemoryKind::File),
        ];
        let item = |(name, bytes, kind)| MemoryItem { name, bytes, kind };
        let items = items
            .into_iter()
            .map(item)
            .filter(|item| item.bytes > 0)
            .collect();
        Ok(Self { items })
    }

    /// All items together.
    pub fn total(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }

    /// The items of one kind together.
    pub fn of_kind(&self, kind: MemoryKind) -> u64 {
        self.items
            .iter()
            .filter(|item| item.kind == kind)
            .map(|item| item.bytes)
            .sum()
    }
}
