//! What is asked for while a block is at work: the next one.

use std::ops::Range;

use crate::body::ahead::STREAMS;
use crate::kv::KvBlock;
use crate::sets::Set;

/// The next block's keys and values, or a share of them, as [`STREAMS`] of equally many lines: the halves of each.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_each_other_and_are_the_whole() {
        for lines in [0, 1, 5, 8, 40, 64] {
            let first = std::ptr::without_provenance::<u8>(64);
            let whole = Requests {
                streams: [first; STREAMS],
                lines,
            };
            // The scores, then strips of 32 of 80 columns.
            let shares = [0..80, 80..112, 112..144, 144..160].map(|part| whole.share(part, 160));
            let mut at = first;
            for share in shares.iter().filter(|share| share.lines > 0) {
                assert_eq!(share.streams, [at; STREAMS]);
                at = at.wrapping_add(64 * share.lines);
            }
            assert_eq!(at, first.wrapping_add(64 * lines));
        }
    }
}
