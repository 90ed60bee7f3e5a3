//! Scales of matrices whose rows lie side by side: those of a group of columns are neighbours too.

use half::f16;
use onebit_format::{MatrixRef, Scales};

use crate::sets::Set;

/// Rows whose scales are loaded together.
pub(crate) const LANES: usize = 16;

/// The weight scales of a band, whose rows are a multiple of [`LANES`].
#[derive(Clone, Copy)]
pub(super) enum BandScales<'a> {
    Same(f32),
    /// Group after group, and in each `lanes` times 16 rows.
    Each {
        values: &'a [[f16; LANES]],
        lanes: usize,
    },
}

impl<'a> BandScales<'a> {
    #[inline(always)]
    pub(super) fn of(w: &MatrixRef<'a>, band: usize) -> Self {
        match w.scales() {
            Scales::Tensor(scale) => Self::Same(scale),
            Scales::Groups { size, values } => {
                let lanes = w.layout().atom_rows() / LANES;
                let len = w.cols().div_ceil(size) * lanes;
                let values = &values.as_chunks().0[band * len..][..len];
                Self::Each { values, lanes }
            }
            _ => panic!("{} has no scales by group", w.layout()),
        }
    }

    /// Those of group `group` for rows `16 m..16 m + 16`.
    #[inline(always)]
    pub(super) fn load<S: Set>(self, s: S, group: usize, m: usize) -> S::F {
        match self {
            Self::Same(scale) => s.splat(scale),
            Self::Each { values, lanes } => {
                let rows = &values[group * lanes + m];
                s.load_f16(bytemuck::cast_ref::<[f16; LANES], [u8; 32]>(rows))
            }
        }
    }

    /// Asks for those of a group, which need not be there: some of a later band may follow.
    #[inline(always)]
    pub(super) fn request<S: Set>(self, s: S, group: usize) {
        if let Self::Each { values, lanes } = self {
            let rows = values.as_ptr().wrapping_add(group * lanes).cast::<u8>();
            for line in (0..lanes * size_of::<[f16; LANES]>()).step_by(64) {
                s.prefetch(rows.wrapping_add(line));
            }
        }
    }
}
