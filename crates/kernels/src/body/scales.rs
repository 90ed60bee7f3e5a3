//! Scales of matrices whose rows lie side by side: those of a group of columns are neighbours too.

use half::f16;
use onebit_format::{MatrixRef, Scales};

use crate::sets::Set;

/// Scales that are loaded together.
const LANES: usize = 16;

/// The weight scales of a band of `N` times 16 rows. The number is a constant, because loads and requests stand in loops over groups.
#[derive(Clone, Copy)]
pub(super) enum BandScales<'a, const N: usize> {
    Same(f32),
    /// Group after group, those of the rows.
    Each(&'a [[[f16; LANES]; N]]),
}

impl<'a, const N: usize> BandScales<'a, N> {
    #[inline(always)]
    pub(super) fn of(w: &MatrixRef<'a>, band: usize) -> Self {
        match w.scales() {
            Scales::Tensor(scale) => Self::Same(scale),
            Scales::Groups { size, values } => {
                let groups = w.cols().div_ceil(size);
                let bands = values.as_chunks().0.as_chunks().0;
                Self::Each(&bands[band * groups..][..groups])
            }
            _ => panic!("{} has no scales by group", w.layout()),
        }
    }

    /// Those of group `group` for rows `16 m..16 m + 16`.
    #[inline(always)]
    pub(super) fn load<S: Set>(self, s: S, group: usize, m: usize) -> S::F {
        match self {
            Self::Same(scale) => s.splat(scale),
            Self::Each(values) => {
                let rows = &values[group][m];
                s.load_f16(bytemuck::cast_ref::<[f16; LANES], [u8; 32]>(rows))
            }
        }
    }

    /// Asks for those of a group, which need not be there: some of a later band may follow.
    #[inline(always)]
    pub(super) fn request<S: Set>(self, s: S, group: usize) {
        if let Self::Each(values) = self {
            let rows = values.as_ptr().wrapping_add(group).cast::<u8>();
            for line in 0..size_of::<[[f16; LANES]; N]>().div_ceil(64) {
                s.prefetch(rows.wrapping_add(64 * line));
            }
        }
    }
}
