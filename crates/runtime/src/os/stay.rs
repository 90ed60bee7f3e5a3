//! A thread that stays on one CPU for a while.

use std::cell::Cell;
use std::io;
use std::thread::{self, ThreadId};

use super::affinity::{CpuList, run_on, thread_cpus};
use super::cores::default_threads;

thread_local! {
    /// The number of threads that this thread would start by default if it did not stay on one CPU.
    static THREADS: Cell<Option<usize>> = const { Cell::new(None) };
}

/// What [`default_threads`] was before this thread began to stay on one CPU; `None` where it does not.
pub(super) fn threads_before() -> Option<usize> {
    THREADS.get()
}

/// Keeps the thread that makes it on one CPU. Where that thread drops it, the thread runs where it could before.
#[derive(Debug)]
pub(crate) struct Stay {
    thread: ThreadId,
    /// Where it could run before; `None` where the system does not say.
    cpus: Option<CpuList>,
    threads: Option<usize>,
}

impl Stay {
    /// On this CPU.
    ///
    /// # Errors
    /// Those of [`run_on`].
    pub(crate) fn on(cpu: usize) -> io::Result<Self> {
        let (cpus, threads) = (thread_cpus(), default_threads());
        run_on(&[cpu])?;
        Ok(Self {
            thread: thread::current().id(),
            cpus,
            threads: THREADS.replace(Some(threads)),
        })
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if thread::current().id() != self.thread {
            return;
        }
        THREADS.set(self.threads);
        if let Some(cpus) = &self.cpus {
            // Fails only where the system has taken all of them away meanwhile: then it decides.
            let _ = run_on(cpus.cpus());
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_returns_to_where_it_was() {
        let test = || {
            let (cpus, threads) = (thread_cpus().unwrap(), default_threads());
            let (first, last) = (cpus.first(1), *cpus.cpus().last().unwrap());
            let outer = Stay::on(first.cpus()[0]).unwrap();
            assert_eq!(thread_cpus(), Some(first.clone()));
            let inner = Stay::on(last).unwrap();
            assert_eq!(default_threads(), threads);
            drop(inner);
            assert_eq!(
                (thread_cpus(), default_threads()),
                (Some(first.clone()), threads)
            );
            // Another thread's drop leaves this one where it is.
            thread::spawn(move || drop(outer)).join().unwrap();
            assert_eq!(thread_cpus(), Some(first));
            assert!(run_on(cpus.cpus()).is_ok());
            assert!(Stay::on(8190).is_err());
            assert_eq!(thread_cpus(), Some(cpus));
        };
        thread::spawn(test).join().unwrap();
    }
}
