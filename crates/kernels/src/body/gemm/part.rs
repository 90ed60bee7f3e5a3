//! The loop over tiles, and what a thread keeps for it: a panel, and outputs on their way.
//!
//! The outputs of a tile are short pieces, a row of the output apart. Until the last columns are added they are kept
//! beside each other instead, in the order of the tiles.

use std::cell::{Cell, RefCell, RefMut};
use std::ops::Range;

use bytemuck::Pod;

use super::panel::{
    GROUPS, MAX_ROWS, MAX_TOKENS, MAX_UNITS, Outputs, PANEL, PanelScales, Panels, UNIT, Unit,
};
use crate::thread;
use crate::tiles::TileMut;

/// Tokens that a panel is multiplied with at most.
pub(super) const TOKENS: usize = 128;

/// Pieces of outputs of 16 rows that are kept on their way.
pub(super) const KEPT: usize = MAX_ROWS / UNIT * TOKENS;

/// Most tokens of a part, whatever multiplies.
pub(super) const PART_TOKENS: usize = KEPT / MAX_UNITS;
const _: () = assert!(PART_TOKENS >= TOKENS);

/// What a thread keeps.
#[repr(C, align(64))]
pub(super) struct Room {
    /// Unpacked weights. Of each [`Panels::UNITS`] neighbours, the units of the same columns lie beside each other; these
    /// follow each other column by column.
    pub(super) panel: [Unit; PANEL / 64],
    pub(super) scales: PanelScales,
    /// Outputs on their way: of each [`Panels::UNITS`] neighbours, token after token, their units.
    pub(super) outputs: [[u32; UNIT]; KEPT],
}

thread_local! {
    static ROOM: RefCell<Room> = const {
        RefCell::new(Room {
            panel: [[0; 64]; PANEL / 64],
            scales: [[[0.0; UNIT]; MAX_ROWS / UNIT]; GROUPS],
            outputs: [[0; UNIT]; KEPT],
        })
    };
}

impl Room {
    /// That of this thread.
    ///
    /// # Panics
    /// When it is in use.
    pub(super) fn of_thread() -> RefMut<'static, Self> {
        thread::local(&ROOM)
    }
}

/// A matrix that panels are made of. Columns are counted in fours.
pub(crate) trait Source {
    /// Whether a panel begins with a multiple of [`Panels::ROWS`], wherever the outputs do.
    const ALIGNED: bool = false;
    /// All columns, with padding.
    fn fours(&self) -> usize;
    /// Columns that are unpacked at once.
    fn step<S: Panels>() -> usize {
        S::COLS / 4
    }
    /// Unpacks some columns of up to [`Panels::ROWS`] rows. Rows that are lacking in the last unit may be anything.
    fn unpack<S: Panels>(&self, s: S, rows: Range<usize>, fours: Range<usize>, panel: &mut [Unit]);
}

/// Columns of a panel, and the tokens they are multiplied with.
pub(crate) struct Part<'a> {
    pub(super) panel: &'a [Unit],
    pub(super) fours: Range<usize>,
    /// Whether these are the last columns.
    pub(super) last: bool,
    /// Rows of the panel before that of the first output.
    pub(super) skip: usize,
}

/// Whether nothing is kept yet.
#[derive(Clone, Copy)]
pub(super) struct First(pub(super) bool);

/// What is done with a tile.
pub(super) trait Multiply<X> {
    /// Adds the products of `T` tokens, counted from the first of the part, for the units from `unit` on to what is
    /// `kept`, which the `first` columns overwrite. With the last ones there is `out` to put the results in.
    fn tile<S: Panels, const T: usize>(
        &self,
        s: S,
        panel: &[Unit],
        token: usize,
        unit: usize,
        kept: (&Outputs<'_, X, T>, First),
        out: Option<&Outputs<'_, X, T>>,
    );
}

impl Part<'_> {
    /// Whether nothing is kept yet.
    pub(super) fn is_first(&self) -> bool {
        self.fours.start == 0
    }

    /// All tiles. `out` has a row for each token; it is written with the last columns.
    #[inline(always)]
    pub(super) fn run<S: Panels, X: Pod + Default, M: Multiply<X>>(
        &self,
        s: S,
        multiply: &M,
        kept: &mut [[u32; UNIT]],
        out: &mut TileMut<'_, X>,
    ) {
        let kept = Cell::from_mut(bytemuck::cast_slice_mut(kept)).as_slice_of_cells();
        let (tile_rows, end) = (S::UNITS * UNIT, self.skip + out.width());
        for start in (self.skip / tile_rows * tile_rows..end).step_by(tile_rows) {
            let unit = start / UNIT;
            let block = Block {
                part: self,
                panel: &self.panel[unit * self.fours.len()..][..S::UNITS * self.fours.len()],
                kept: &kept[unit * TOKENS..][..S::UNITS * TOKENS],
                unit,
                before: self.skip.saturating_sub(start),
            };
            let rows = start.max(self.skip)..end.min(start + tile_rows);
            let mut out = out.columns(rows.start - self.skip..rows.end - self.skip);
            per_tile!(S, token in 0..out.rows(), T => {
                block.tile::<S, M, T>(s, multiply, token, &mut out)
            });
        }
    }
}

/// The rows of a tile.
struct Block<'a, X> {
    part: &'a Part<'a>,
    panel: &'a [Unit],
    kept: &'a [Cell<[X; UNIT]>],
    unit: usize,
    /// Rows before that of the first output.
    before: usize,
}

impl<X: Pod + Default> Block<'_, X> {
    #[inline(always)]
    fn tile<S: Panels, M: Multiply<X>, const T: usize>(
        &self,
        s: S,
        multiply: &M,
        token: usize,
        out: &mut TileMut<'_, X>,
    ) {
        let mut kept: Outputs<'_, X, T> = [&[]; T];
        for t in 0..T {
            kept[t] = &self.kept[(token + t) * S::UNITS..][..S::UNITS];
        }
        let kept = (&kept, First(self.part.is_first()));
        if !self.part.last {
            multiply.tile(s, self.panel, token, self.unit, kept, None);
        } else if out.width() == S::UNITS * UNIT {
            let out = outputs(out, token);
            multiply.tile(s, self.panel, token, self.unit, kept, Some(&out));
        } else {
            let mut edge = [[[X::default(); UNIT]; MAX_UNITS]; T];
            let cells = edge.each_mut();
            let cells = cells.map(|units| Cell::from_mut(&mut units[..]).as_slice_of_cells());
            multiply.tile(s, self.panel, token, self.unit, kept, Some(&cells));
            for (t, units) in edge.iter().enumerate() {
                let out = out.row(token + t);
                out.copy_from_slice(&units.as_flattened()[self.before..][..out.len()]);
            }
        }
    }
}

/// The outputs of a whole tile, from row `token` on, where they will stand.
#[inline(always)]
fn outputs<'a, X, const T: usize>(out: &'a mut TileMut<'_, X>, token: usize) -> Outputs<'a, X, T> {
    out.rows_from(token)
        .map(|row| Cell::from_mut(row.as_chunks_mut().0).as_slice_of_cells())
}

/// `rows` in pieces that a panel holds, each with the rows of the panel before it.
pub(super) fn chunks(
    rows: Range<usize>,
    step: usize,
    aligned: bool,
) -> impl Iterator<Item = (Range<usize>, usize)> {
    let first = match aligned {
        true => rows.start / step * step,
        false => rows.start,
    };
    (first..rows.end).step_by(step).map(move |start| {
        let chunk = start.max(rows.start)..rows.end.min(start + step);
        let skip = chunk.start - start;
        (chunk, skip)
    })
}

/// A range in pieces of `step`, the last of which may be shorter.
pub(super) fn pieces(len: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len)
        .step_by(step)
        .map(move |start| start..len.min(start + step))
}

/// Runs a block for tiles of `$count` tokens, a constant, from token `$token` on: as many as the set
/// takes, and as evenly as they divide.
macro_rules! per_tile {
    ($set:ident, $token:ident in $tokens:expr, $count:ident => $block:block) => {
        let tokens: std::ops::Range<usize> = $tokens;
        let mut $token = tokens.start;
        for left in (1..=tokens.len().div_ceil($set::TOKENS)).rev() {
            let count = (tokens.end - $token).div_ceil(left);
            match count {
                1 => per_tile!(@count $count, 1, $block),
                2 => per_tile!(@count $count, 2, $block),
                3 => per_tile!(@count $count, 3, $block),
                4 => per_tile!(@count $count, 4, $block),
                5 => per_tile!(@count $count, 5, $block),
                _ => per_tile!(@count $count, MAX_TOKENS, $block),
            }
            $token += count;
        }
    };
    (@count $count:ident, $value:expr, $block:block) => {{
        const $count: usize = $value;
        $block
    }};
}
use per_tile;
