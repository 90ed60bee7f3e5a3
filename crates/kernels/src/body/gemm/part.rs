//! The loop over tiles, and what a thread keeps for it: a panel, and outputs on their way.
//!
//! The outputs of a tile are short pieces, a row of the output apart. Until the last columns are added they are kept
//! beside each other instead, in the order of the tiles.

use std::cell::{RefCell, RefMut};
use std::ops::Range;

use bytemuck::Pod;

use super::engine::Engine;
use super::later::Later;
use super::panel::{
    Filling, GROUPS, MAX_ROWS, MAX_TOKENS, MAX_UNITS, Outputs, PANEL, PanelScales, Panels, UNIT,
    Unit,
};
use super::rows::PLANE;
use crate::body::Rows;
use crate::body::columns::STRIP;
use crate::thread;
use crate::tiles::TileMut;

/// Tokens that a panel is multiplied with at most. Twice as many would halve unpacking, but their activations do not stay in a small
/// second-level cache.
pub(super) const TOKENS: usize = 128;

/// Pieces of outputs of 16 rows that are kept on their way: those of a strip of a matrix stored transposed.
pub(super) const KEPT: usize = STRIP / UNIT * TOKENS;

/// Most tokens of a part, whatever multiplies.
pub(super) const PART_TOKENS: usize = 2 * TOKENS;
const _: () = assert!(MAX_ROWS / UNIT * TOKENS <= KEPT && MAX_UNITS * PART_TOKENS <= KEPT);

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
    /// Whether a panel begins with a multiple of its rows, wherever the outputs do.
    const ALIGNED: bool = false;
    /// Rows that are unpacked at once at least, also for an engine that takes fewer.
    const ROWS: usize = 1;
    /// All columns, with padding.
    fn fours(&self) -> usize;
    /// Columns that are unpacked together at least: those of an atom, or of a plane.
    fn atom() -> usize {
        PLANE
    }
    /// What may be fetched while columns `fours` of some rows are multiplied: of these rows, or of those that come next, which need
    /// not be there.
    fn later(&self, rows: [Range<usize>; 2], fours: Range<usize>) -> Later;
    /// Unpacks some columns of up to [`Panels::ROWS`] rows. Rows that are lacking in the last unit may be anything.
    fn unpack<S: Panels>(
        &self,
        s: S,
        filling: Filling,
        rows: Range<usize>,
        fours: Range<usize>,
        panel: &mut [Unit],
    );
}

/// Columns of a panel, and the tokens they are multiplied with.
pub(crate) struct Part<'a> {
    pub(super) panel: &'a [Unit],
    pub(super) fours: Range<usize>,
    /// All columns.
    pub(super) all: usize,
    /// What may be fetched meanwhile.
    pub(super) later: Later,
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

    /// Whether these are the last columns.
    pub(super) fn is_last(&self) -> bool {
        self.fours.end == self.all
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
        let kept: &mut [[X; UNIT]] = bytemuck::cast_slice_mut(kept);
        let (tile_rows, end) = (S::UNITS * UNIT, self.skip + out.width());
        let split = Split::of::<S>(out.rows());
        for start in (self.skip / tile_rows * tile_rows..end).step_by(tile_rows) {
            let unit = start / UNIT;
            let block = Block {
                part: self,
                panel: &self.panel[unit * self.fours.len()..][..S::UNITS * self.fours.len()],
                unit,
                before: self.skip.saturating_sub(start),
            };
            let kept = &mut kept[unit * TOKENS..][..S::UNITS * TOKENS];
            let rows = start.max(self.skip)..end.min(start + tile_rows);
            let mut out = out.columns(rows.start - self.skip..rows.end - self.skip);
            let mut token = 0;
            for i in 0..split.count {
                let len = split.len(i);
                per_len!(len, T => block.tile::<S, M, X, T>(s, multiply, token, kept, &mut out));
                token += len;
            }
        }
    }
}

/// How tokens are cut into tiles: into as few as the set takes, and as evenly as they divide.
struct Split {
    count: usize,
    /// Tokens of a tile, and how many tiles have one more: the first ones.
    tokens: usize,
    longer: usize,
}

impl Split {
    fn of<S: Panels>(tokens: usize) -> Self {
        let count = tokens.div_ceil(S::TOKENS).max(1);
        Self {
            count,
            tokens: tokens / count,
            longer: tokens % count,
        }
    }

    /// Tokens of tile `i`.
    fn len(&self, i: usize) -> usize {
        self.tokens + usize::from(i < self.longer)
    }
}

/// The rows of a tile.
struct Block<'a> {
    part: &'a Part<'a>,
    panel: &'a [Unit],
    unit: usize,
    /// Rows before that of the first output.
    before: usize,
}

impl Block<'_> {
    #[inline(always)]
    fn tile<S: Panels, M: Multiply<X>, X: Pod + Default, const T: usize>(
        &self,
        s: S,
        multiply: &M,
        token: usize,
        kept: &mut [[X; UNIT]],
        out: &mut TileMut<'_, X>,
    ) {
        let width = S::UNITS * UNIT;
        let kept = kept[token * S::UNITS..].as_flattened_mut();
        let kept = Outputs::<X, T>::beside(kept, width);
        let kept = (&kept, First(self.part.is_first()));
        if !self.part.is_last() {
            multiply.tile(s, self.panel, token, self.unit, kept, None);
        } else if out.width() == width {
            let out = Outputs::rows(out, token, width);
            multiply.tile(s, self.panel, token, self.unit, kept, Some(&out));
        } else {
            let mut edge = [[X::default(); MAX_UNITS * UNIT]; T];
            let edge = &mut edge.as_flattened_mut()[..T * width];
            let outputs = Outputs::beside(edge, width);
            multiply.tile(s, self.panel, token, self.unit, kept, Some(&outputs));
            for t in 0..T {
                let out = out.row(token + t);
                out.copy_from_slice(&edge[t * width + self.before..][..out.len()]);
            }
        }
    }
}

/// In which order rows, some at a time, are multiplied with tokens, some at a time.
pub(super) struct Plan {
    rows: Range<usize>,
    /// Where the first rows of a panel begin.
    first: usize,
    step: usize,
    tokens: usize,
    tokens_step: usize,
    rows_first: bool,
}

impl Plan {
    /// That of an engine and a matrix.
    pub(super) fn of<E: Engine, W: Source>(rows: Range<usize>, x: &impl Rows) -> Self {
        let step = E::ROWS.max(W::ROWS);
        Self {
            first: match W::ALIGNED {
                true => rows.start / step * step,
                false => rows.start,
            },
            rows,
            step,
            tokens: x.tokens(),
            tokens_step: E::tokens(x.stride()).min(KEPT / (step / UNIT).max(1)),
            rows_first: E::ROWS_FIRST,
        }
    }

    /// Panels below each other, and pieces of tokens.
    fn counts(&self) -> [usize; 2] {
        let panels = (self.rows.end - self.first).div_ceil(self.step);
        [panels, self.tokens.div_ceil(self.tokens_step)]
    }

    /// Rows of a panel.
    pub(super) fn step(&self) -> usize {
        self.step
    }

    /// Most tokens that a panel is multiplied with.
    pub(super) fn tokens_step(&self) -> usize {
        self.tokens_step
    }

    pub(super) fn blocks(&self) -> usize {
        self.counts().iter().product()
    }

    /// The rows of the panel after that of block `i`: where none is left those below, which somebody may want next.
    pub(super) fn next(&self, i: usize) -> Range<usize> {
        if i + 1 < self.blocks() {
            let (rows, skip, _) = self.block(i + 1);
            return rows.start - skip..rows.end;
        }
        let (rows, skip, _) = self.block(i);
        rows.end..rows.end + rows.len() + skip
    }

    /// The rows of block `i`, how many rows its panel has before these, and its tokens.
    pub(super) fn block(&self, i: usize) -> (Range<usize>, usize, Range<usize>) {
        let [panels, pieces] = self.counts();
        let (panel, piece) = match self.rows_first {
            true => (i % panels, i / panels),
            false => (i / pieces, i % pieces),
        };
        let start = self.first + panel * self.step;
        let rows = start.max(self.rows.start)..self.rows.end.min(start + self.step);
        let token = piece * self.tokens_step;
        let skip = rows.start - start;
        (rows, skip, token..self.tokens.min(token + self.tokens_step))
    }
}

/// A range in as few pieces of up to `most` as it takes, whole multiples of `atom` but for the last, and as even as that allows.
pub(super) fn pieces(len: usize, most: usize, atom: usize) -> impl Iterator<Item = Range<usize>> {
    let count = len.div_ceil((most / atom * atom).max(atom)).max(1);
    let step = len.div_ceil(count).next_multiple_of(atom).max(1);
    (0..len)
        .step_by(step)
        .map(move |start| start..len.min(start + step))
}

/// Runs a block with `$count`, a constant, for a tile of `$len` tokens.
macro_rules! per_len {
    ($len:expr, $count:ident => $block:expr) => {
        match $len {
            0 => {}
            1 => per_len!(@count $count, 1, $block),
            2 => per_len!(@count $count, 2, $block),
            3 => per_len!(@count $count, 3, $block),
            4 => per_len!(@count $count, 4, $block),
            5 => per_len!(@count $count, 5, $block),
            _ => per_len!(@count $count, MAX_TOKENS, $block),
        }
    };
    (@count $count:ident, $value:expr, $block:expr) => {{
        const $count: usize = $value;
        $block
    }};
}
use per_len;
