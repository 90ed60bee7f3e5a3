//! The sums of all subsets of a token's activations, made once per thread for all parts of a product.

use std::cell::Cell;
use std::ops::Range;

use super::{Group, LEAD, STEP, STREAMS, groups_of};
use crate::input::Id;
use crate::sets::Set;

/// Steps whose tables are made at once: those of 8192 columns, 64 KiB.
pub(super) const CHUNK: usize = 64;

/// The sums of the subsets of an atom's activations: of the first four columns the low 6 bits, then the rest plus 8,
/// and the same of the last four. Bit `c` of the index is column `c` of the four.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Table(pub(crate) [[u8; 16]; 4]);

/// What tables are of.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) input: Id,
    pub(super) token: usize,
    pub(super) steps: Range<usize>,
}

/// Those of some steps of a token.
#[derive(Default)]
pub(super) struct Tables {
    of: Option<Origin>,
    pub(super) steps: Vec<[Table; STEP]>,
    /// The sums of the activations of each step.
    pub(super) sums: Vec<i32>,
}

thread_local! {
    /// What this thread made last: most parts of a product are parts of the one before.
    static LAST: Cell<Option<Box<Tables>>> = const { Cell::new(None) };
}

impl Tables {
    /// The tables of some of the activations `x`, to be [kept](Self::keep) when they have been used. While they are made,
    /// the beginnings of the streams are asked for.
    #[inline(always)]
    pub(super) fn of<S: Set>(
        s: S,
        origin: Origin,
        x: &[i8],
        streams: [*const u8; STREAMS],
    ) -> Box<Self> {
        let mut tables = LAST.take().unwrap_or_default();
        if tables.of.as_ref() != Some(&origin) {
            let x = &groups_of(x)[origin.steps.clone()];
            tables.of = Some(origin);
            tables.make(s, x, streams);
        }
        tables
    }

    /// Leaves the tables to this thread's next product.
    pub(super) fn keep(self: Box<Self>) {
        LAST.set(Some(self));
    }

    #[inline(always)]
    fn make<S: Set>(&mut self, s: S, x: &[Group], streams: [*const u8; STREAMS]) {
        self.steps.resize(x.len(), [Table([[0; 16]; 4]); STEP]);
        let tables = self.steps.as_flattened_mut().as_chunks_mut().0;
        for (i, (tables, plane)) in tables.iter_mut().zip(x.as_flattened()).enumerate() {
            if 64 * i < LEAD {
                for stream in streams {
                    s.prefetch(stream.wrapping_add(64 * i));
                }
            }
            s.subset_sums(plane, tables);
        }
        // A loop, not an iterator: a closure would not have the set's instructions.
        self.sums.resize(x.len(), 0);
        for (sum, group) in self.sums.iter_mut().zip(x) {
            *sum = s.group_sum(group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sets::scalar::Scalar;

    #[test]
    fn tables_are_made_once_for_an_input() {
        // SAFETY: it asks nothing of the CPU.
        let s = unsafe { Scalar::assume() };
        let of = |input, x: &[i8]| {
            let steps = 0..1;
            let origin = Origin {
                input,
                token: 0,
                steps,
            };
            let tables = Tables::of(s, origin, x, [std::ptr::null(); STREAMS]);
            let (sum, first) = (tables.sums[0], tables.steps[0][0].0[0][1]);
            tables.keep();
            (sum, first)
        };
        let (ones, twos) = ([1; 128], [2; 128]);
        let input = Id::new();
        assert_eq!(of(input, &ones), (128, 1));
        // What is given with the number of another input is not looked at.
        assert_eq!(of(input, &twos), (128, 1));
        assert_eq!(of(Id::new(), &twos), (256, 2));
    }
}
