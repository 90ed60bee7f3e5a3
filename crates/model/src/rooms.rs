//! What a thread keeps for itself during a step.

use std::sync::{Mutex, MutexGuard};

/// Rooms for numbers that are needed once, one for each thread: what it computes there is still in its cache when it is used, and
/// when it computes the next.
pub(crate) struct Rooms<'a> {
    rooms: [Mutex<&'a mut [f32]>; MAX_ROOMS],
    count: usize,
}

/// Threads beyond these share.
const MAX_ROOMS: usize = 64;

impl<'a> Rooms<'a> {
    /// For up to `threads` threads, `len` numbers each, of which there must be room for one.
    pub(crate) fn new(room: &'a mut [f32], len: usize, threads: usize) -> Self {
        let count = (room.len() / len).min(threads).clamp(1, MAX_ROOMS);
        let mut rooms = room.chunks_mut(len);
        let rooms = std::array::from_fn(|_| Mutex::new(rooms.next().unwrap_or_default()));
        Self { rooms, count }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// One that is free, the `near`-th if that is.
    pub(crate) fn take(&self, near: usize) -> MutexGuard<'_, &'a mut [f32]> {
        let rooms = &self.rooms[..self.count];
        let (before, after) = rooms.split_at(near % self.count);
        let free = after
            .iter()
            .chain(before)
            .find_map(|room| room.try_lock().ok());
        // A part that panics leaves nothing behind that the next one reads.
        free.unwrap_or_else(|| {
            rooms[near % self.count]
                .lock()
                .unwrap_or_else(|e| e.into_inner())
        })
    }
}
