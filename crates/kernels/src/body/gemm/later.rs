//! What is asked for while tiles are multiplied.

use std::ops::Range;

use crate::sets::Set;

/// Lines that are needed later, as far apart from each other, asked for a few at a time.
#[derive(Clone, Copy)]
pub(crate) struct Later {
    line: *const u8,
    /// Lines to go, and bytes from one to the next.
    count: usize,
    stride: usize,
}

impl Later {
    /// None.
    pub(crate) const NONE: Self = Self::new(std::ptr::null(), 0, 0);

    /// `count` lines that are `stride` bytes apart. There need be no such lines: nothing is read.
    #[inline(always)]
    pub(crate) const fn new(line: *const u8, count: usize, stride: usize) -> Self {
        Self {
            line,
            count,
            stride,
        }
    }

    /// Of `bytes` bytes that lie together, in the order of their addresses as hardware prefetchers like it, the part that `some` is
    /// of `all`.
    pub(crate) fn part(first: *const u8, bytes: usize, some: Range<usize>, all: usize) -> Self {
        let at = |i: usize| bytes / 64 * i / all;
        let (start, end) = (at(some.start), at(some.end));
        Self::new(first.wrapping_add(64 * start), end - start, 64)
    }

    /// How many there are.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Asks for the next `count` lines.
    #[inline(always)]
    pub(crate) fn request<S: Set>(&mut self, s: S, count: usize) {
        for _ in 0..count.min(self.count) {
            s.prefetch_early(self.line);
            self.line = self.line.wrapping_add(self.stride);
            self.count -= 1;
        }
    }
}
