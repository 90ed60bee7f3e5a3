//! What `bench kernels` times.

use onebit_kernels::Kernels;
use onebit_runtime::Pool;

/// A kernel with its data.
pub(super) trait Job {
    /// What the table calls it.
    fn name(&self) -> String;
    /// Rows and columns of a matrix; positions and elements of a head of a cache.
    fn shape(&self) -> [usize; 2];
    fn tokens(&self) -> usize;
    /// Bytes of weights, or of keys and values, that one run reads, scales included.
    fn bytes(&self) -> f64;
    /// Multiplications of one run, those with zeros that are left out not counted.
    fn products(&self) -> f64;
    /// Runs it on all threads.
    fn run(&mut self, kernels: &Kernels, pool: &Pool);
    /// Reads the same bytes in the same parts and does nothing else, where the job is whole matrices for few tokens: what its threads
    /// could do at best. Returns whether it did.
    fn read(&self, _kernels: &Kernels, _pool: &Pool) -> bool {
        false
    }
}
