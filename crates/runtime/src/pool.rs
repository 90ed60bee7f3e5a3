//! A pool of persistent threads that runs the parts of one job at a time.
//!
//! One token needs some hundred parallel regions of a few microseconds to a few milliseconds each,
//! so handing out work must cost well under a microsecond when the threads are awake, and an idle
//! pool must not burn a core. The protocol:
//!
//! 1. [`Pool::run`] takes the caller lock (one job at a time), writes the job into the shared slot
//!    and *opens* it by storing a new epoch with the open bit into `state`.
//! 2. A worker that sees an open epoch it has not served yet *joins*: one compare-exchange adds 1
//!    to the count of joined workers, and succeeds only while the job is open. Workers that come
//!    late simply do not take part; nobody waits for a thread that the system has not scheduled.
//! 3. Every participant, the caller included, has a share of adjacent parts with an atomic counter.
//!    It claims the parts of its own share in order, so that it reads on in memory where it stopped,
//!    then those that are left in the shares of the others, then leaves (subtracts 1 from the count).
//! 4. The caller *closes* the job, so that nobody can join any more, and waits until the count is
//!    zero. Only then does `run` return: no thread holds the job's reference any more.
//!
//! Workers look for the next job for [`SPIN`] and then park; `run` wakes parked workers. The last
//! worker to leave wakes a caller that parked while waiting. Nothing is allocated per job.
//!
//! A panic in a part stops the claiming of further parts, is carried to the caller, and is resumed
//! there after step 4; the pool stays usable. A job that calls `run` again, on this or on another
//! pool, runs that inner job alone on its own thread.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use onebit_kernels::Executor;

use crate::os::{CpuList, Stay, run_on};

/// How long a thread looks for work before it parks.
const SPIN: Duration = Duration::from_micros(30);
/// Busy-wait hints between two looks at the clock.
const SPINS_PER_CLOCK: u32 = 64;

/// `state`: number of joined workers in the low bits, then the open bit, then the epoch.
const JOINED: u64 = OPEN - 1;
const OPEN: u64 = 1 << 16;
const EPOCH: u64 = OPEN << 1;

/// The largest number of threads of a pool.
pub const MAX_THREADS: usize = 1024;

thread_local! {
    /// Whether this thread is inside a part of some pool's job.
    static IN_JOB: Cell<bool> = const { Cell::new(false) };
}

/// Persistent threads that run the parts of one job at a time: the [`Executor`] of a model.
///
/// ```
/// use onebit_kernels::Executor;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// let pool = onebit_runtime::Pool::new(2)?;
/// let sum = AtomicUsize::new(0);
/// pool.run(10, &|part| { sum.fetch_add(part, Ordering::Relaxed); });
/// assert_eq!(sum.into_inner(), 45);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    caller: Mutex<()>,
    /// Where the thread that made it stays.
    stay: Option<Stay>,
}

impl Pool {
    /// Starts `threads - 1` workers; the thread that calls [`Executor::run`] is the remaining one.
    /// Zero counts as one.
    ///
    /// # Errors
    /// [`std::io::ErrorKind::InvalidInput`] above [`MAX_THREADS`]; otherwise what the system says
    /// when it refuses a thread (threads already started are ended again).
    pub fn new(threads: usize) -> std::io::Result<Self> {
        Self::start(threads, None)
    }

    /// A thread for each of `cpus`, which runs nowhere else: the thread that calls this on the first, a worker on each of the
    /// others. That thread should be the one that calls [`Executor::run`]; what it starts afterwards runs on its CPU too. Where it drops the pool, it runs again where it could before.
    ///
    /// # Errors
    /// As [`Pool::new`], and what the system says when it refuses a CPU.
    pub fn pinned(cpus: &CpuList) -> std::io::Result<Self> {
        let cpus = cpus.cpus();
        let mut pool = Self::start(cpus.len(), Some(cpus))?;
        // Last, so that no worker starts on the first CPU.
        pool.stay = Some(Stay::on(cpus[0]).map_err(|error| refused(cpus[0], &error))?);
        Ok(pool)
    }

    fn start(threads: usize, cpus: Option<&[usize]>) -> std::io::Result<Self> {
        if threads > MAX_THREADS {
            let message =
                format!("{threads} threads asked for, at most {MAX_THREADS} are possible");
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                message,
            ));
        }
        let mut pool = Pool {
            shared: Arc::new(Shared::new(threads.max(1))),
            workers: Vec::new(),
            caller: Mutex::new(()),
            stay: None,
        };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let cpu = cpus.map(|cpus| cpus[index]);
            let (tell, told) = std::sync::mpsc::sync_channel(1);
            let worker = std::thread::Builder::new()
                .name(format!("onebit-{index}"))
                .spawn(move || {
                    let pinned = cpu.map_or(Ok(()), pin);
                    let is_ready = pinned.is_ok();
                    // Nobody listens to threads that are not pinned.
                    let _ = tell.send(pinned);
                    if is_ready {
                        shared.work(index);
                    }
                })?;
            pool.workers.push(worker);
            if cpu.is_some() {
                // A worker says something before it works.
                told.recv().unwrap_or(Ok(()))?;
            }
        }
        Ok(pool)
    }
}

impl Executor for Pool {
    fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    fn run(&self, parts: usize, job: &(dyn Fn(usize) + Sync)) {
        if parts <= 1 || self.workers.is_empty() || IN_JOB.get() {
            (0..parts).for_each(job);
            return;
        }
        let panic = {
            let _one_job_at_a_time = lock(&self.caller);
            self.shared.run(parts, job)
        };
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.shutdown.store(true, Ordering::SeqCst);
        self.shared.wake_workers(usize::MAX);
        for worker in self.workers.drain(..) {
            // A worker catches the panics of jobs and has none of its own.
            let _ = worker.join();
        }
    }
}

/// The slot that the caller fills before it opens a job.
#[derive(Copy, Clone)]
struct Job {
    parts: usize,
    run: *const (dyn Fn(usize) + Sync),
}

/// Keeps the counter that every participant hammers away from the other fields.
#[derive(Default)]
#[repr(align(128))]
struct OwnLine<T>(T);

struct Shared {
    state: OwnLine<AtomicU64>,
    /// The next part of each thread's share; the caller's is the first.
    next_parts: Box<[OwnLine<AtomicUsize>]>,
    job: UnsafeCell<Option<Job>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    shutdown: AtomicBool,
    /// Parked workers; changed only under `parking`.
    parked: AtomicUsize,
    parking: Mutex<()>,
    opened: Condvar,
    /// Whether the caller is parked until the last worker has left.
    caller_waits: AtomicBool,
    leaving: Mutex<()>,
    left: Condvar,
}

// SAFETY: all fields but `job` are `Sync` themselves. `job` is written only by the thread that
// holds `Pool::caller` while no worker is joined and the job is closed, and read only by joined
// workers; opening (Release) and joining (Acquire) order the write before the reads, leaving
// (Release) and the caller's wait (Acquire) order the reads before the next write. The pointer in
// it refers to a `Sync` closure.
unsafe impl Sync for Shared {}

// SAFETY: the raw pointer in `job` is used only as described for `Sync`; every other field is
// `Send`.
unsafe impl Send for Shared {}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("state", &self.state.0)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn new(threads: usize) -> Self {
        Self {
            state: OwnLine::default(),
            next_parts: (0..threads).map(|_| OwnLine::default()).collect(),
            job: UnsafeCell::new(None),
            panic: Mutex::default(),
            shutdown: AtomicBool::default(),
            parked: AtomicUsize::default(),
            parking: Mutex::default(),
            opened: Condvar::default(),
            caller_waits: AtomicBool::default(),
            leaving: Mutex::default(),
            left: Condvar::default(),
        }
    }

    /// The first part of the share of thread `index`; the share before it ends there.
    fn share(&self, index: usize, parts: usize) -> usize {
        // Whole parts first: `parts * index` could overflow.
        let threads = self.next_parts.len();
        parts / threads * index + parts % threads * index / threads
    }

    /// Runs one job with whoever joins; returns the payload of a part that panicked.
    /// The caller holds `Pool::caller`.
    fn run(&self, parts: usize, job: &(dyn Fn(usize) + Sync)) -> Option<Box<dyn Any + Send>> {
        // SAFETY: only the lifetime changes. The pointer is reachable through `self.job` alone, for
        // joined workers, and this function returns only after it has closed the job and seen
        // every joined worker leave; `participate` catches panics, so it does return.
        let run: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(job) };
        // SAFETY: the last job is closed and nobody is joined (the end of the previous call, which
        // `Pool::caller` orders before this one), so no other thread reads the slot.
        unsafe { *self.job.get() = Some(Job { parts, run }) };
        for (index, next) in self.next_parts.iter().enumerate() {
            next.0.store(self.share(index, parts), Ordering::Relaxed);
        }
        let epoch = (self.state.0.load(Ordering::Relaxed) & !(OPEN | JOINED)).wrapping_add(EPOCH);
        self.state.0.store(epoch | OPEN, Ordering::SeqCst);
        self.wake_workers(parts - 1);

        self.participate(0, parts, job);
        self.state.0.fetch_and(!OPEN, Ordering::SeqCst);
        self.wait_until_left();
        lock(&self.panic).take()
    }

    /// Claims parts until none are left, those of thread `index` first, catching panics.
    fn participate(&self, index: usize, parts: usize, job: &(dyn Fn(usize) + Sync)) {
        let threads = self.next_parts.len();
        IN_JOB.set(true);
        let result = catch_unwind(AssertUnwindSafe(|| {
            for share in (index..threads).chain(0..index) {
                let end = self.share(share + 1, parts);
                loop {
                    let part = self.next_parts[share].0.fetch_add(1, Ordering::Relaxed);
                    if part >= end {
                        break;
                    }
                    job(part);
                }
            }
        }));
        IN_JOB.set(false);
        if let Err(payload) = result {
            for next in &self.next_parts {
                next.0.store(parts, Ordering::Relaxed);
            }
            match &mut *lock(&self.panic) {
                slot @ None => *slot = Some(payload),
                // Dropping a payload may panic again, and a worker has to survive.
                Some(_) => std::mem::forget(payload),
            }
        }
    }

    /// Blocks until the closed job has no joined worker.
    fn wait_until_left(&self) {
        let all_left = || self.state.0.load(Ordering::SeqCst) & JOINED == 0;
        if spin(all_left) {
            return;
        }
        self.caller_waits.store(true, Ordering::SeqCst);
        let mut guard = lock(&self.leaving);
        while !all_left() {
            guard = self
                .left
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner);
        }
        drop(guard);
        self.caller_waits.store(false, Ordering::SeqCst);
    }

    /// Wakes at most `count` parked workers.
    fn wake_workers(&self, count: usize) {
        let parked = self.parked.load(Ordering::SeqCst);
        if parked == 0 {
            return;
        }
        // A worker between its last look at `state` and its wait holds this lock.
        drop(lock(&self.parking));
        if count >= parked {
            self.opened.notify_all();
        } else {
            (0..count).for_each(|_| self.opened.notify_one());
        }
    }

    /// The life of worker `index`.
    fn work(&self, index: usize) {
        let mut served = 0;
        while let Some(epoch) = self.next_epoch(served) {
            served = epoch;
            if self.join(epoch) {
                // SAFETY: this worker is joined, so nobody writes the slot.
                if let Some(job) = unsafe { *self.job.get() } {
                    // SAFETY: the closure outlives the job, which ends after `leave`.
                    self.participate(index, job.parts, unsafe { &*job.run });
                }
                self.leave();
            }
        }
    }

    /// Waits for an open epoch other than `served`; `None` at shutdown.
    fn next_epoch(&self, served: u64) -> Option<u64> {
        let mut found = None;
        let mut look = || {
            let state = self.state.0.load(Ordering::SeqCst);
            let epoch = state & !(OPEN | JOINED);
            found = (state & OPEN != 0 && epoch != served).then_some(epoch);
            found.is_some() || self.shutdown.load(Ordering::SeqCst)
        };
        if !spin(&mut look) {
            let mut guard = lock(&self.parking);
            self.parked.fetch_add(1, Ordering::SeqCst);
            while !look() {
                guard = self
                    .opened
                    .wait(guard)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            self.parked.fetch_sub(1, Ordering::SeqCst);
        }
        found
    }

    /// Joins the job of `epoch` if it is still open.
    fn join(&self, epoch: u64) -> bool {
        let mut state = self.state.0.load(Ordering::Relaxed);
        while state & OPEN != 0 && state & !(OPEN | JOINED) == epoch {
            match self.state.0.compare_exchange_weak(
                state,
                state + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    /// Leaves the job; wakes the caller if it waits for this worker, the last one.
    fn leave(&self) {
        let before = self.state.0.fetch_sub(1, Ordering::SeqCst);
        if before & JOINED == 1 && self.caller_waits.load(Ordering::SeqCst) {
            drop(lock(&self.leaving));
            self.left.notify_all();
        }
    }
}

/// Keeps the calling thread on one CPU.
fn pin(cpu: usize) -> std::io::Result<()> {
    run_on(&[cpu]).map_err(|error| refused(cpu, &error))
}

fn refused(cpu: usize, error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("CPU {cpu}: {error}"))
}

/// Busy-waits for `done`, at most about [`SPIN`]; whether it came true.
fn spin(mut done: impl FnMut() -> bool) -> bool {
    if done() {
        return true;
    }
    let start = Instant::now();
    loop {
        for _ in 0..SPINS_PER_CLOCK {
            if done() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() >= SPIN {
            return false;
        }
    }
}

/// Locks a mutex whose data stays valid across panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
