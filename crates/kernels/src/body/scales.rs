//! Scales of matrices whose rows lie side by side: those of a group of columns are neighbours too, and stand before its atoms.

use onebit_format::{Band, MatrixRef, Scales};

use crate::sets::Set;

/// Scales that are loaded together.
const LANES: usize = 16;

/// Bytes of as many.
const BYTES: usize = 2 * LANES;

/// The weight scales of a band of rows.
#[derive(Clone, Copy)]
pub(super) enum BandScales<'a> {
    Same(f32),
    /// Among the atoms.
    Each(Band<'a>),
}

impl<'a> BandScales<'a> {
    #[inline(always)]
    pub(super) fn of(w: &MatrixRef<'a>, band: usize) -> Self {
        match w.scales() {
            Scales::Tensor(scale) => Self::Same(scale),
            Scales::Groups { .. } => Self::Each(w.band(band)),
            _ => panic!("{} has no scales by group", w.layout()),
        }
    }

    /// Those for rows `16 m..16 m + 16` of the group whose scales begin at byte `at` of the band, as
    /// [`Packs::scales`](onebit_format::Packs::scales) has it.
    #[inline(always)]
    pub(super) fn load_at<S: Set>(self, s: S, at: usize, m: usize) -> S::F {
        match self {
            Self::Same(scale) => s.splat(scale),
            Self::Each(band) => {
                let scales = band.lines().as_flattened()[at + BYTES * m..].first_chunk();
                s.load_f16(scales.expect("scales of a group of the band"))
            }
        }
    }
}
