//! Running steps, and executors.

use std::sync::atomic::{AtomicUsize, Ordering};

use onebit_kernels::{Executor, Kernels};
use onebit_model::{KvCache, KvOptions, KvType, Model, ModelError, Row, Step, Workspace};

/// Real threads, started anew for every region.
pub(crate) struct Threads(pub(crate) usize);

impl Executor for Threads {
    fn threads(&self) -> usize {
        self.0
    }

    fn run(&self, parts: usize, job: &(dyn Fn(usize) + Sync)) {
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(part) =
                Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&part| part < parts)
            {
                job(part);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.0 {
                scope.spawn(work);
            }
            work();
        });
    }
}

/// Cuts the work for many threads and runs it on one, last part first.
pub(crate) struct Backwards(pub(crate) usize);

impl Executor for Backwards {
    fn threads(&self) -> usize {
        self.0
    }

    fn run(&self, parts: usize, job: &(dyn Fn(usize) + Sync)) {
        (0..parts).rev().for_each(job);
    }
}

/// A model with kernels, threads, and a workspace.
pub(crate) struct Runner<'a> {
    pub(crate) model: &'a Model,
    pub(crate) kernels: &'static Kernels,
    pub(crate) executor: &'a dyn Executor,
    pub(crate) workspace: Workspace,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(
        model: &'a Model,
        kernels: &'static Kernels,
        executor: &'a dyn Executor,
    ) -> Self {
        Self {
            model,
            kernels,
            executor,
            workspace: Workspace::new(model, 64, 64).unwrap(),
        }
    }

    pub(crate) fn cache(&self, kind: impl Into<KvOptions>) -> KvCache {
        KvCache::new(self.model.spec(), kind, 128).unwrap()
    }

    /// Rows of several sequences; the logits of all of them.
    pub(crate) fn step(
        &mut self,
        rows: &[Row],
        caches: &mut [&mut KvCache],
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let logits_for: Vec<usize> = (0..rows.len()).collect();
        let step = Step {
            rows,
            caches,
            logits_for: &logits_for,
            hidden: false,
        };
        let output = self
            .model
            .forward(self.kernels, self.executor, &mut self.workspace, step)?;
        Ok(logits_for
            .iter()
            .map(|&i| output.logits(i).to_vec())
            .collect())
    }

    /// Continues one sequence by `tokens`, in steps of `chunk`; the logits of all of them.
    pub(crate) fn extend(
        &mut self,
        cache: &mut KvCache,
        tokens: &[u32],
        chunk: usize,
    ) -> Vec<Vec<f32>> {
        let mut logits = Vec::new();
        for tokens in tokens.chunks(chunk) {
            let rows = rows(0, cache.len(), tokens);
            logits.extend(self.step(&rows, &mut [&mut *cache]).unwrap());
        }
        logits
    }

    /// The logits of all of `tokens` from an empty f32 cache, in one step.
    pub(crate) fn logits(&mut self, tokens: &[u32]) -> Vec<Vec<f32>> {
        let mut cache = self.cache(KvType::F32);
        self.extend(&mut cache, tokens, tokens.len())
    }
}

/// Rows of `sequence` from position `first` on.
pub(crate) fn rows(sequence: usize, first: usize, tokens: &[u32]) -> Vec<Row> {
    let row = |(i, &token)| Row {
        sequence,
        position: first + i,
        token,
    };
    tokens.iter().enumerate().map(row).collect()
}

/// Random token ids.
pub(crate) fn tokens(model: &Model, n: usize, seed: u64) -> Vec<u32> {
    let mut rng = super::Rng(seed);
    (0..n)
        .map(|_| rng.below(model.spec().vocab) as u32)
        .collect()
}

/// The bits of logits, for comparison.
pub(crate) fn bits(logits: &[Vec<f32>]) -> Vec<Vec<u32>> {
    logits
        .iter()
        .map(|row| row.iter().map(|x| x.to_bits()).collect())
        .collect()
}
