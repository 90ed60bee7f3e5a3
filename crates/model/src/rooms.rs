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

/// Numbers in the rooms of all threads, where these are all there is memory for.
pub(crate) const ROOMS: usize = 1 << 19;

/// Parts of `tokens` x `columns`, or, where a room of `len` numbers has not that much for each thread, of fewer columns: multiples of
/// `step`. Of fewer tokens too where it has not even that for one.
pub(crate) fn fit(
    [tokens, columns]: [usize; 2],
    len: usize,
    threads: usize,
    step: usize,
) -> [usize; 2] {
    let share = len / threads.clamp(1, MAX_ROOMS);
    let columns = columns.min((share / tokens / step * step).max(step));
    [tokens.min(len / columns), columns]
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fit_in_the_rooms_of_all_threads_or_in_one() {
        let len = 1 << 19;
        assert_eq!(fit([256, 256], len, 2, 64), [256, 256]);
        assert_eq!(fit([256, 256], len, 16, 64), [256, 128]);
        assert_eq!(fit([256, 256], len, 1000, 64), [256, 64]);
        assert_eq!(fit([512, 1280], len, 2, 256), [512, 512]);
        assert_eq!(fit([4096, 256], len, 2, 256), [2048, 256]);
        assert_eq!(fit([512, 10], len, 2, 64), [512, 10]);
        assert_eq!(fit([512, 1280], usize::MAX, 2, 256), [512, 1280]);
    }
}
