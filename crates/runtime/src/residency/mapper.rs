//! Weights of a mapped file entered into the page table before they are read.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use onebit_format::{Advice, PackedFile};
use onebit_model::{Model, Residency};

/// Enters the weights of each stage into the page table of this process before the first step that reads them.
///
/// Without it each thread stops for every few pages that it is the first to touch, and what kernels ask for ahead does not come
/// from pages that are not entered yet. A step reads all weights of a stage, or for some models most, so no more memory is taken
/// than without it.
///
/// Where the system can, they come in huge pages: 2 MiB by one entry of the table, which processors look up faster.
///
/// It is given to a model with [`Model::with_residency`].
#[derive(Debug)]
pub struct Mapper {
    file: Arc<PackedFile>,
    stages: Vec<Vec<Range<usize>>>,
    entered: Box<[AtomicBool]>,
}

impl Mapper {
    /// For the weights of `model`.
    pub fn new(model: &Model) -> Self {
        let stages = model.stages();
        let file = Arc::clone(model.file());
        file.advise(0..file.bytes().len(), Advice::Huge);
        Self {
            file,
            entered: stages.iter().map(|_| AtomicBool::new(false)).collect(),
            stages,
        }
    }
}

impl Residency for Mapper {
    fn before(&self, stage: usize) {
        if self.entered[stage].swap(true, Ordering::Relaxed) {
            return;
        }
        for range in &self.stages[stage] {
            // Where the system cannot, pages come as they are touched.
            self.file.advise(range.clone(), Advice::Populate);
        }
    }

    fn after(&self, _stage: usize) {}
}
