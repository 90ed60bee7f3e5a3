//! What is asked for while a block is at work: the next one.

use std::ops::Range;

use crate::kv::KvBlock;
use crate::sets::Set;

/// Lines that are asked for side by side.
const STREAMS: usize = 4;

/// The next block's keys and values, or a share of them, as streams of equally many lines: the halves of each.
///
/// The first lines of a page take longest: the prefetcher of the CPU, which fetches the others, has yet to see them. Of one
/// stream these waits would come one after the other; of four they overlap.
#[derive(Clone, Copy)]
pub(crate) struct Requests {
    streams: [*const u8; STREAMS],
    /// Lines of each.
    lines: usize,
}

impl Requests {
    /// Nothing.
    pub(crate) const NONE: Self = Self {
        streams: [std::ptr::null(); STREAMS],
        lines: 0,
    };

    /// All of some keys and values. Where rows differ in length, more of the shorter ones.
    #[inline(always)]
    pub(super) fn of(keys: &KvBlock<'_>, values: &KvBlock<'_>) -> Self {
        let half = |rows: &[u8]| rows.as_ptr().wrapping_add(rows.len() / 2);
        let [keys, values] = [keys.rows, values.rows];
        Self {
            streams: [keys.as_ptr(), half(keys), values.as_ptr(), half(values)],
            lines: keys.len().max(values.len()).div_ceil(2 * 64),
        }
    }

    /// The same share of each stream: `part` where the whole is `0..of`.
    #[inline(always)]
    pub(super) fn share(mut self, part: Range<usize>, of: usize) -> Self {
        // Most passes have nothing to ask for, and divisions take long.
        if self.lines == 0 {
            return self;
        }
        let start = self.lines * part.start / of;
        self.lines = self.lines * part.end / of - start;
        for stream in &mut self.streams {
            *stream = stream.wrapping_add(64 * start);
        }
        self
    }

    /// To be asked for in so many steps.
    #[inline(always)]
    pub(crate) fn steps(self, steps: usize) -> Steps {
        Steps {
            streams: self.streams,
            each: self.lines.div_ceil(steps),
            left: self.lines,
            at: 0,
        }
    }
}

/// Requests, some at each step.
pub(crate) struct Steps {
    streams: [*const u8; STREAMS],
    /// Lines of each stream that a step asks for.
    each: usize,
    left: usize,
    /// Bytes of each stream that have been asked for.
    at: usize,
}

impl Steps {
    /// Takes a step.
    #[inline(always)]
    pub(crate) fn ask<S: Set>(&mut self, s: S) {
        let lines = self.each.min(self.left);
        self.left -= lines;
        for _ in 0..lines {
            for stream in self.streams {
                s.prefetch_early(stream.wrapping_add(self.at));
            }
            self.at += 64;
        }
    }
}
