//! Who runs the parts of a parallel step.
//!
//! The kernels start no threads. Whoever calls them splits the work into parts and hands these to an
//! [`Executor`]; the runtime's pool is one, [`Serial`] is another.

/// Runs a number of independent parts, on one thread or on several.
pub trait Executor: Sync {
    /// How many threads [`run`](Executor::run) may use, at least 1. A hint for how finely to split.
    fn threads(&self) -> usize;

    /// Calls `job(i)` exactly once for every `i` in `0..parts`, in any order and on any thread, and
    /// returns when all calls have returned.
    fn run(&self, parts: usize, job: &(dyn Fn(usize) + Sync));
}

/// Runs the parts one after the other on the calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl Executor for Serial {
    fn threads(&self) -> usize {
        1
    }

    fn run(&self, parts: usize, job: &(dyn Fn(usize) + Sync)) {
        for part in 0..parts {
            job(part);
        }
    }
}
