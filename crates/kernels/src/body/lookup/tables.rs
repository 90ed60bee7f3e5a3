//! The sums of all subsets of a token's activations, made once per thread for all parts of a product.

use std::cell::{RefCell, RefMut};
use std::ops::Range;

use super::{Group, STEP, STREAMS, groups_of};
use crate::input::Id;
use crate::sets::Set;
use crate::thread;

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
pub(super) struct Tables {
    of: Option<Origin>,
    steps: [[Table; STEP]; CHUNK],
    /// The sums of the activations of each step.
    sums: [i32; CHUNK],
}

thread_local! {
    /// What this thread made last: most parts of a product are parts of the one before. Pages of it that are not written take
    /// no memory.
    static LAST: RefCell<Tables> = const {
        RefCell::new(Tables {
            of: None,
            steps: [[Table([[0; 16]; 4]); STEP]; CHUNK],
            sums: [0; CHUNK],
        })
    };
}

impl Tables {
    /// The tables of some of the activations `x`. While they are made, the beginnings of the streams are asked for.
    ///
    /// # Panics
    /// When this thread holds others.
    #[inline(always)]
    pub(super) fn of<S: Set>(
        s: S,
        origin: Origin,
        x: &[i8],
        streams: [*const u8; STREAMS],
    ) -> RefMut<'static, Self> {
        let mut tables = thread::local(&LAST);
        if tables.of.as_ref() != Some(&origin) {
            let x = &groups_of(x)[origin.steps.clone()];
            tables.of = None;
            tables.make(s, x, streams);
            tables.of = Some(origin);
        }
        tables
    }

    /// Those of some steps, counted from the first.
    #[inline(always)]
    pub(super) fn steps(&self, steps: Range<usize>) -> &[[Table; STEP]] {
        &self.steps[steps]
    }

    /// The sum of the activations of a step.
    #[inline(always)]
    pub(super) fn sum(&self, step: usize) -> i32 {
        self.sums[step]
    }

    #[inline(always)]
    fn make<S: Set>(&mut self, s: S, x: &[Group], streams: [*const u8; STREAMS]) {
        let tables = self.steps.as_flattened_mut().as_chunks_mut().0;
        for (i, (tables, plane)) in tables.iter_mut().zip(x.as_flattened()).enumerate() {
            if 64 * i < S::LOOKUP_LEADS[0] {
                for stream in streams {
                    s.prefetch(stream.wrapping_add(64 * i));
                }
            }
            s.subset_sums(plane, tables);
        }
        // A loop, not an iterator: a closure would not have the set's instructions.
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
            (tables.sum(0), tables.steps(0..1)[0][0].0[0][1])
        };
        let (ones, twos) = ([1; 128], [2; 128]);
        let input = Id::new();
        assert_eq!(of(input, &ones), (128, 1));
        // What is given with the number of another input is not looked at.
        assert_eq!(of(input, &twos), (128, 1));
        assert_eq!(of(Id::new(), &twos), (256, 2));
    }
}
