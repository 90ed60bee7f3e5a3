//! The packed side: the decoder that will run the file, on the best kernels of this machine.

use std::ops::Range;
use std::path::Path;

use onebit_format::ActivationMode;
use onebit_kernels::{Executor, Kernels};
use onebit_model::{Activations, KvCache, KvType, Model, ModelError, Row, Step, Workspace};
use rayon::prelude::*;

use crate::error::{ConvertError, Result};

/// A packed file running one sequence, keys and values in `f32`.
pub(super) struct Packed {
    pub(super) model: Model,
    kernels: &'static Kernels,
    cache: KvCache,
    workspace: Workspace,
}

/// The threads that conversion runs on.
struct Threads;

impl Executor for Threads {
    fn threads(&self) -> usize {
        rayon::current_num_threads()
    }

    fn run(&self, parts: usize, job: &(dyn Fn(usize) + Sync)) {
        (0..parts).into_par_iter().for_each(job);
    }
}

/// Chooses floats where the model was trained with floats, so that nothing but the file is compared. Models trained with
/// activations of one or two bits leave no choice.
fn as_trained(model: Model) -> Result<Model, ModelError> {
    let few = [ActivationMode::SignToken, ActivationMode::TernaryToken];
    let mut matrices = model.file().meta().matrices.values();
    if matrices.any(|matrix| few.contains(&matrix.activation)) {
        return Ok(model);
    }
    model.with_activations(Activations::F32)
}

impl Packed {
    /// Opens a file for a sequence of `tokens`, taken in steps of at most `step`.
    pub(super) fn open(path: &Path, tokens: usize, step: usize) -> Result<Self> {
        let open = || -> Result<Self, ModelError> {
            let model = as_trained(Model::open(path)?)?;
            let mut cache = KvCache::new(model.spec(), KvType::F32, tokens)?;
            cache.expect(tokens);
            Ok(Self {
                kernels: Kernels::best(),
                cache,
                workspace: Workspace::new(&model, step, step)?,
                model,
            })
        };
        open().map_err(ConvertError::Decode)
    }

    /// The name of the kernels.
    pub(super) fn kernels(&self) -> &'static str {
        self.kernels.name()
    }

    /// Logits of the tokens `range` of a sequence, `[range.len(), vocab]`; ranges follow each other.
    pub(super) fn logits(&mut self, tokens: &[u32], range: Range<usize>) -> Result<&[f32]> {
        let row = |position| Row {
            sequence: 0,
            position,
            token: tokens[position],
        };
        let rows: Vec<Row> = range.map(row).collect();
        let all: Vec<usize> = (0..rows.len()).collect();
        let step = Step {
            rows: &rows,
            caches: &mut [&mut self.cache],
            logits_for: &all,
            hidden: false,
        };
        self.model
            .forward(self.kernels, &Threads, &mut self.workspace, step)
            .map(|output| output.all_logits())
            .map_err(ConvertError::Decode)
    }
}
