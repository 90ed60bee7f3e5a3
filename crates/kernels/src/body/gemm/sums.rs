//! The sums of activations by group, added up once per thread for all parts of a product.

use std::cell::Cell;

use crate::body::grouped::Scaled;
use crate::input::Id;
use crate::sets::Set;

/// Those of all tokens of an input.
#[derive(Default)]
pub(super) struct Sums {
    of: Option<Origin>,
    /// Token after token.
    sums: Vec<i32>,
}

/// What sums are of: how many groups of so many planes of 64 columns.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Origin {
    input: Id,
    groups: usize,
    group_planes: usize,
}

thread_local! {
    /// What this thread added up last: most parts of a product are parts of the one before.
    static LAST: Cell<Option<Box<Sums>>> = const { Cell::new(None) };
}

impl Sums {
    /// The sums of the activations `x`, to be [kept](Self::keep) when they have been used.
    #[inline(always)]
    pub(super) fn of<S: Set, X: Scaled>(
        s: S,
        x: &X,
        groups: usize,
        group_planes: usize,
    ) -> Box<Self> {
        let origin = Origin {
            input: x.id(),
            groups,
            group_planes,
        };
        let mut sums = LAST.take().unwrap_or_default();
        if sums.of != Some(origin) {
            sums.of = Some(origin);
            sums.add_up(s, x, groups, group_planes);
        }
        sums
    }

    /// Leaves the sums to this thread's next product.
    pub(super) fn keep(self: Box<Self>) {
        LAST.set(Some(self));
    }

    /// Those of the groups of a token.
    #[inline(always)]
    pub(super) fn token(&self, token: usize) -> &[i32] {
        let groups = self.of.map_or(0, |origin| origin.groups);
        &self.sums[token * groups..][..groups]
    }

    #[inline(always)]
    fn add_up<S: Set, X: Scaled>(&mut self, s: S, x: &X, groups: usize, group_planes: usize) {
        self.sums.resize(x.tokens() * groups, 0);
        // Loops, not iterators: a closure would not have the set's instructions.
        for (token, sums) in self.sums.chunks_exact_mut(groups).enumerate() {
            let planes = x.codes(token).as_chunks::<64>().0;
            for (sum, planes) in sums.iter_mut().zip(planes.chunks(group_planes)) {
                *sum = s.group_sum(planes);
            }
        }
    }
}
