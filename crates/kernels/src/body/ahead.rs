//! Asking for weights before they are needed.
//!
//! Products of few tokens take their four rows from four quarters of the range, so that each of the
//! four reads memory in the order of addresses: hardware prefetchers follow that, and across the
//! ends of pages, where some stop, [`Streams`] asks itself. Four adjacent rows would be four short
//! streams that end with their rows.
//!
//! Rows from a list come from anywhere. [`Listed`] asks for them in the order of addresses, into the
//! second-level cache, which takes more requests at a time than the first.

use std::ops::Range;

use crate::sets::Set;

/// Streams that are read, or asked for, side by side. The first lines of a page take longest: the prefetcher of the CPU, which
/// fetches the others, has yet to see them. Of one stream these waits would come one after the other; of four they overlap.
pub(crate) const STREAMS: usize = 4;

/// Bands of rows cut into [`STREAMS`] streams that run through memory side by side.
pub(crate) struct Split {
    first: usize,
    /// Bands of every stream, and how many streams, the first, have one more.
    pub(crate) rounds: usize,
    pub(crate) left: usize,
}

impl Split {
    #[inline(always)]
    pub(crate) fn of(bands: Range<usize>) -> Self {
        Self {
            first: bands.start,
            rounds: bands.len() / STREAMS,
            left: bands.len() % STREAMS,
        }
    }

    /// The first band of stream `i`, or what follows the last stream.
    #[inline(always)]
    pub(crate) fn start(&self, i: usize) -> usize {
        self.first + i * self.rounds + i.min(self.left)
    }

    /// All bands.
    #[inline(always)]
    pub(crate) fn bands(&self) -> usize {
        STREAMS * self.rounds + self.left
    }
}

/// How far ahead of a row in use its stream is asked for, in bytes.
pub(crate) const LEAD: usize = 2048;

/// What is needed after the lines of a block of `R` rows.
pub(crate) trait Ahead {
    /// Asks for a line. To be called once for each line of a block, with its row in the block and
    /// its offset in the row.
    fn request<S: Set>(&mut self, s: S, row: usize, offset: usize);
}

/// Rows whose successors lie behind them.
pub(crate) struct Streams<const R: usize>([*const u8; R]);

impl<const R: usize> Streams<R> {
    #[inline(always)]
    pub(crate) fn new<T>(rows: [&[T]; R]) -> Self {
        let mut starts = [std::ptr::null(); R];
        for r in 0..R {
            starts[r] = rows[r].as_ptr().cast::<u8>().wrapping_add(LEAD);
        }
        Self(starts)
    }
}

impl<const R: usize> Ahead for Streams<R> {
    #[inline(always)]
    fn request<S: Set>(&mut self, s: S, row: usize, offset: usize) {
        s.prefetch(self.0[row].wrapping_add(offset));
    }
}

/// Rows that are needed later, in the order of their addresses.
pub(crate) struct Listed<const R: usize> {
    rows: [*const u8; R],
    row_bytes: usize,
    /// The line that is next: its row, and its offset in the row.
    row: usize,
    at: usize,
}

impl<const R: usize> Listed<R> {
    #[inline(always)]
    pub(crate) fn new(rows: [*const u8; R], row_bytes: usize) -> Self {
        Self {
            rows,
            row_bytes,
            row: 0,
            at: 0,
        }
    }
}

impl<const R: usize> Ahead for Listed<R> {
    #[inline(always)]
    fn request<S: Set>(&mut self, s: S, _row: usize, _offset: usize) {
        s.prefetch_early(self.rows[self.row % R].wrapping_add(self.at));
        self.at += 64;
        if self.at == self.row_bytes {
            self.at = 0;
            self.row += 1;
        }
    }
}

/// Asks for a whole row at once.
#[inline(always)]
pub(crate) fn request_row<S: Set>(s: S, row: &[u8]) {
    for line in row.chunks(64) {
        s.prefetch_early(line.as_ptr());
    }
}
