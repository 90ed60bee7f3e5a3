//! Weights of a mapped file passing through less memory than they take.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use onebit_format::{Advice, PackedFile};
use onebit_model::{Model, Residency};

use super::plan::{Choice, choices, choose};
use super::room::Room;
use crate::error::RuntimeError;

/// Bytes read between two looks at what is wanted. Long pieces let the system's own reading ahead work at full width.
const PIECE: usize = 4 << 20;

/// Reads the weights of the stages of a step ahead and gives them back behind, on a thread of its own, as far as a model does
/// not fit in the room there is. What fits stays, as long as there is room for it: that is found out anew for every step.
///
/// It is given to a model with [`Model::with_residency`], and works for the models that share one `Streamer` as for one: with
/// several sessions running steps at the same time results are the same, but weights are read more often.
#[derive(Debug)]
pub struct Streamer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    file: Arc<PackedFile>,
    stages: Vec<Vec<Range<usize>>>,
    choices: Vec<Choice>,
    room: Room,
    /// Index of the choice in force.
    choice: AtomicUsize,
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

/// What the thread is asked for.
#[derive(Debug)]
struct Wanted {
    /// The stage to read, once.
    read: Option<usize>,
    /// The last stage that was asked for and has not been given back since.
    asked: Option<usize>,
    /// Stages to give back.
    give_back: Vec<bool>,
    stop: bool,
}

impl Streamer {
    /// Keeps the weights of `model` within `room`.
    ///
    /// # Errors
    /// [`RuntimeError::Threads`] where the system has no thread left.
    pub fn new(model: &Model, room: Room) -> Result<Self, RuntimeError> {
        let stages = model.stages();
        let size = |ranges: &Vec<Range<usize>>| ranges.iter().map(|r| r.len() as u64).sum();
        let sizes: Vec<u64> = stages.iter().map(size).collect();
        let wanted = Wanted {
            read: None,
            asked: None,
            give_back: vec![false; stages.len()],
            stop: false,
        };
        let choices = choices(&sizes);
        let shared = Arc::new(Shared {
            file: Arc::clone(model.file()),
            stages,
            choice: AtomicUsize::new(choose(&choices, room.bytes())),
            choices,
            room,
            wanted: Mutex::new(wanted),
            changed: Condvar::new(),
        });
        let thread = if shared.file.is_mapped() {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name("weights".to_owned());
            // A thread allocates as it starts, which no step should meet.
            let started = Arc::new(Barrier::new(2));
            let start = Arc::clone(&started);
            let thread = thread.spawn(move || {
                start.wait();
                shared.serve();
            });
            let thread = thread.map_err(RuntimeError::Threads)?;
            started.wait();
            Some(thread)
        } else {
            None
        };
        Ok(Self { shared, thread })
    }

    /// Bytes of weights that are read again for every step as things are now; the others stay in memory.
    pub fn streamed_bytes(&self) -> u64 {
        self.shared.choice().bytes
    }
}

impl Residency for Streamer {
    fn before(&self, stage: usize) {
        if self.thread.is_none() {
            return;
        }
        if stage == 0 {
            self.shared.choose();
        }
        let Some(next) = self.shared.choice().next[stage] else {
            return;
        };
        let mut wanted = self.shared.wanted();
        wanted.give_back[stage] = false;
        if wanted.asked != Some(next) {
            (wanted.asked, wanted.read) = (Some(next), Some(next));
            drop(wanted);
            self.shared.changed.notify_one();
        }
    }

    fn after(&self, stage: usize) {
        if self.thread.is_some() && self.shared.choice().streamed[stage] {
            let mut wanted = self.shared.wanted();
            wanted.give_back[stage] = true;
            if wanted.asked == Some(stage) {
                wanted.asked = None;
            }
            if wanted.read == Some(stage) {
                wanted.read = None;
            }
            drop(wanted);
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Streamer {
    fn drop(&mut self) {
        self.shared.wanted().stop = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What there is to do.
enum Task {
    Read(usize),
    GiveBack(usize),
}

impl Shared {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn choice(&self) -> &Choice {
        &self.choices[self.choice.load(Ordering::Relaxed)]
    }

    /// Chooses again what stays.
    fn choose(&self) {
        let choice = choose(&self.choices, self.room.bytes());
        self.choice.store(choice, Ordering::Relaxed);
    }

    /// Works until it is told to stop.
    fn serve(&self) {
        while let Some(task) = self.task() {
            match task {
                Task::GiveBack(stage) => self.advise(stage, Advice::Evict),
                Task::Read(stage) => self.read(stage),
            }
        }
    }

    /// Waits for something to do; giving back comes first, because it makes room. `None` at the end.
    fn task(&self) -> Option<Task> {
        let mut wanted = self.wanted();
        loop {
            if wanted.stop {
                return None;
            }
            if let Some(stage) = wanted.give_back.iter().position(|&it| it) {
                wanted.give_back[stage] = false;
                return Some(Task::GiveBack(stage));
            }
            if let Some(stage) = wanted.read.take() {
                return Some(Task::Read(stage));
            }
            wanted = self.changed.wait(wanted).unwrap_or_else(|e| e.into_inner());
        }
    }

    fn advise(&self, stage: usize, advice: Advice) {
        for range in &self.stages[stage] {
            self.file.advise(range.clone(), advice);
        }
    }

    /// Reads a stage, unless steps overtake.
    fn read(&self, stage: usize) {
        for range in &self.stages[stage] {
            for start in range.clone().step_by(PIECE) {
                let wanted = self.wanted();
                if wanted.stop || wanted.asked != Some(stage) {
                    return;
                }
                drop(wanted);
                let piece = start..range.end.min(start + PIECE);
                self.file.advise(piece, Advice::Populate);
            }
        }
    }
}
