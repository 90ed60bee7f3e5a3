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

/// Lines that are needed later, as many of each of some rows, asked for a few at a time.
#[derive(Clone, Copy)]
pub(crate) struct Later {
    row: *const u8,
    /// Rows to go, with the one that is next, and bytes from one to the next.
    rows: usize,
    stride: usize,
    /// Lines of a row, and the one that is next.
    lines: usize,
    line: usize,
}

impl Later {
    /// None.
    pub(crate) const NONE: Self = Self::new(std::ptr::null(), 0, 0, 1);

    /// `lines` lines of each of `rows` rows that are `stride` bytes apart. There need be no such rows: nothing is read.
    #[inline(always)]
    pub(crate) const fn new(row: *const u8, rows: usize, stride: usize, lines: usize) -> Self {
        Self {
            row,
            rows,
            stride,
            lines,
            line: 0,
        }
    }

    /// Of `bytes` bytes that lie together, in the order of their addresses as hardware prefetchers like it, the part that `some` is
    /// of `all`.
    pub(crate) fn part(first: *const u8, bytes: usize, some: Range<usize>, all: usize) -> Self {
        let at = |i: usize| bytes / 64 * i / all;
        let lines = at(some.start)..at(some.end);
        match lines.len() {
            0 => Self::NONE,
            count => Self::new(first.wrapping_add(64 * lines.start), 1, 0, count),
        }
    }

    /// How many there are.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.rows * self.lines - self.line
    }

    /// Asks for the next `count` lines.
    #[inline(always)]
    pub(crate) fn request<S: Set>(&mut self, s: S, count: usize) {
        for _ in 0..count.min(self.len()) {
            s.prefetch_early(self.row.wrapping_add(64 * self.line));
            self.line += 1;
            if self.line == self.lines {
                self.line = 0;
                self.row = self.row.wrapping_add(self.stride);
                self.rows -= 1;
            }
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
