//! Disjoint parts of one output matrix, handed to threads without `unsafe` at the call site.
//!
//! A parallel step writes one matrix from several threads, each a rectangle of it. The borrow
//! checker cannot see that strided rectangles are disjoint, so [`Tiles`] cuts the matrix once,
//! keeps one claim per tile, and hands each tile out at most once:
//!
//! ```
//! use onebit_kernels::{Claims, Cuts, Executor, Grid, Serial, Tiles};
//!
//! let mut claims = Claims::new(8); // reused from step to step
//! let mut out = vec![0.0f32; 2 * 6];
//! let grid = Grid { rows: 2, width: 6, stride: 6, tile_rows: 2, columns: Cuts::Every(4) };
//! let tiles = Tiles::new(&mut out, grid, &mut claims);
//! Serial.run(tiles.tile_columns(), &|part| {
//!     let mut tile = tiles.claim(0, part);
//!     tile.row(1).fill(part as f32 + 1.0);
//! });
//! assert_eq!(out[6..], [1.0, 1.0, 1.0, 1.0, 2.0, 2.0]);
//! ```

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

/// A byte per tile; allocated once and lent to [`Tiles`] again and again.
///
/// A tile is claimed by the mark of the [`Tiles`] that lend it, so that nothing is cleared in between. Neighbours are in
/// different cache lines: one line would go from thread to thread with every part, which costs products of one to four megabytes 2 to
/// 4 % of their time.
#[derive(Debug)]
pub struct Claims {
    marks: Box<[AtomicU8]>,
    /// The mark of tiles that are claimed now; never 0.
    mark: u8,
}

/// Tiles that follow each other without sharing a line, and bytes of a line.
const APART: usize = 64;
const LINE: usize = 64;

impl Claims {
    /// Room for `tiles` tiles.
    pub fn new(tiles: usize) -> Self {
        Self {
            marks: (0..tiles.next_multiple_of(APART * LINE))
                .map(|_| AtomicU8::new(0))
                .collect(),
            mark: 1,
        }
    }

    /// How many tiles there is room for.
    pub fn capacity(&self) -> usize {
        self.marks.len()
    }

    fn clear(&mut self, tiles: usize) {
        assert!(
            tiles <= self.capacity(),
            "{tiles} tiles, claims for {}",
            self.capacity()
        );
        self.mark = self.mark.wrapping_add(1);
        if self.mark == 0 {
            self.marks.iter_mut().for_each(|mark| *mark.get_mut() = 0);
            self.mark = 1;
        }
    }

    /// Marks `tile` and says whether this call was the first to do so.
    fn take(&self, tile: usize) -> bool {
        let (block, tile) = (tile / (APART * LINE), tile % (APART * LINE));
        let at = block * APART * LINE + tile % APART * LINE + tile / APART;
        self.marks[at].swap(self.mark, Ordering::Relaxed) != self.mark
    }
}

/// Where a dimension is cut.
#[derive(Clone, Copy, Debug)]
pub enum Cuts<'a> {
    /// Every so many elements; the last part may be shorter. Must not be 0.
    Every(usize),
    /// Into as many parts as [`Every`](Cuts::Every) `most` makes, none longer than that, but of one length as far as multiples of `step`
    /// allow. `most` is a multiple of `step`, which must not be 0.
    Even {
        /// Elements of a part at most.
        most: usize,
        /// Where parts begin, a multiple of this.
        step: usize,
    },
    /// At these bounds, ascending: part `i` is `bounds[i]..bounds[i + 1]`.
    At(&'a [usize]),
}

impl Cuts<'_> {
    /// How many parts `len` elements have.
    pub fn parts(&self, len: usize) -> usize {
        match self {
            Cuts::Every(step) => len.div_ceil(*step),
            Cuts::Even { most, .. } => len.div_ceil(*most),
            Cuts::At(bounds) => bounds.len().saturating_sub(1),
        }
    }

    /// The elements of part `i`, below [`parts`](Cuts::parts), of `len`.
    pub fn part(&self, i: usize, len: usize) -> Range<usize> {
        match self {
            Cuts::Every(step) => i * step..len.min((i + 1) * step),
            Cuts::Even { step, .. } => {
                let parts = self.parts(len);
                let bound = |i: usize| len.min((len * i).div_ceil(parts * step) * step);
                bound(i)..bound(i + 1)
            }
            Cuts::At(bounds) => bounds[i]..bounds[i + 1],
        }
    }

    fn check(&self, len: usize) {
        match self {
            Cuts::Every(step) => assert!(*step > 0, "tiles of 0 columns"),
            Cuts::Even { most, step } => assert!(
                *step > 0 && *most > 0 && most.is_multiple_of(*step),
                "tiles of up to {most} columns in steps of {step}"
            ),
            Cuts::At(bounds) => {
                assert!(bounds.is_sorted(), "column bounds must ascend: {bounds:?}");
                assert!(
                    bounds.last().is_none_or(|&end| end <= len),
                    "bounds beyond {len} columns"
                );
            }
        }
    }
}

/// The shape of a matrix and how it is cut into tiles.
#[derive(Clone, Copy, Debug)]
pub struct Grid<'a> {
    /// Rows of the matrix (tokens).
    pub rows: usize,
    /// Columns of the matrix.
    pub width: usize,
    /// Elements from one row to the next, at least `width`.
    pub stride: usize,
    /// Rows per tile; the last tile may have fewer. Must not be 0.
    pub tile_rows: usize,
    /// Where the columns are cut.
    pub columns: Cuts<'a>,
}

/// A matrix cut into tiles that can each be claimed once, from any thread.
#[derive(Debug)]
pub struct Tiles<'a, T> {
    data: *mut T,
    grid: Grid<'a>,
    tile_columns: usize,
    claims: &'a Claims,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer stands for an exclusive borrow of a `[T]`, parts of which are handed to
// threads as `&mut [T]`, each at most once; that is sound when `T` may move between threads.
unsafe impl<T: Send> Send for Tiles<'_, T> {}
// SAFETY: as above; `claim` only hands out disjoint parts, guarded by an atomic.
unsafe impl<T: Send> Sync for Tiles<'_, T> {}

impl<'a, T> Tiles<'a, T> {
    /// Cuts `data` and frees all `claims`.
    ///
    /// # Panics
    /// When `data` or `claims` is too small for `grid`, or `grid` contradicts itself.
    pub fn new(data: &'a mut [T], grid: Grid<'a>, claims: &'a mut Claims) -> Self {
        assert!(
            grid.width <= grid.stride,
            "width {} > stride {}",
            grid.width,
            grid.stride
        );
        assert!(grid.tile_rows > 0, "tiles of 0 rows");
        grid.columns.check(grid.width);
        let needed = matrix_len(grid.rows, grid.width, grid.stride);
        assert!(
            needed <= data.len(),
            "matrix of {needed} elements in {}",
            data.len()
        );
        let tile_columns = grid.columns.parts(grid.width);
        claims.clear(grid.rows.div_ceil(grid.tile_rows) * tile_columns);
        Self {
            data: data.as_mut_ptr(),
            grid,
            tile_columns,
            claims,
            borrow: PhantomData,
        }
    }

    /// How many tiles lie below each other.
    pub fn tile_rows(&self) -> usize {
        self.grid.rows.div_ceil(self.grid.tile_rows)
    }

    /// How many tiles lie beside each other.
    pub fn tile_columns(&self) -> usize {
        self.tile_columns
    }

    /// All tiles.
    pub fn len(&self) -> usize {
        self.tile_rows() * self.tile_columns
    }

    /// Whether there are no tiles.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The matrix rows (tokens) of the tiles in tile row `i`.
    pub fn rows_of(&self, i: usize) -> Range<usize> {
        Cuts::Every(self.grid.tile_rows).part(i, self.grid.rows)
    }

    /// The matrix columns of the tiles in tile column `i`.
    pub fn columns_of(&self, i: usize) -> Range<usize> {
        self.grid.columns.part(i, self.grid.width)
    }

    /// Hands out a tile.
    ///
    /// # Panics
    /// When there is no such tile, or it has been handed out already.
    pub fn claim(&self, tile_row: usize, tile_column: usize) -> TileMut<'_, T> {
        assert!(
            tile_row < self.tile_rows() && tile_column < self.tile_columns,
            "no tile ({tile_row}, {tile_column})"
        );
        let first = self.claims.take(tile_row * self.tile_columns + tile_column);
        assert!(first, "tile ({tile_row}, {tile_column}) claimed twice");
        let (rows, columns) = (self.rows_of(tile_row), self.columns_of(tile_column));
        let stride = self.grid.stride;
        // SAFETY: the tile is not empty of rows and lies within the matrix that `new` checked, so
        // the offset stays inside the borrowed slice (or one past its end for an empty tile).
        let data = unsafe { self.data.add(rows.start * stride + columns.start) };
        TileMut {
            data,
            rows: rows.len(),
            width: columns.len(),
            stride,
            borrow: PhantomData,
        }
    }
}

/// A rectangle of a matrix, exclusively borrowed: row `i` is one slice.
#[derive(Debug)]
pub struct TileMut<'a, T> {
    data: *mut T,
    rows: usize,
    width: usize,
    stride: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: a tile is an exclusive borrow of its elements, like `&mut [T]`.
unsafe impl<T: Send> Send for TileMut<'_, T> {}
// SAFETY: a shared tile gives no access to its elements.
unsafe impl<T: Sync> Sync for TileMut<'_, T> {}

impl<'a, T> TileMut<'a, T> {
    /// A whole matrix of `rows` rows of `stride` elements.
    ///
    /// # Panics
    /// When `data` holds fewer elements.
    pub fn whole(data: &'a mut [T], rows: usize, stride: usize) -> Self {
        Self::strided(data, rows, stride, stride)
    }

    /// A matrix of `rows` rows of `width` elements that lie `stride` apart.
    ///
    /// # Panics
    /// When `data` is too short or `width` is above `stride`.
    pub fn strided(data: &'a mut [T], rows: usize, width: usize, stride: usize) -> Self {
        assert!(width <= stride, "width {width} > stride {stride}");
        let needed = matrix_len(rows, width, stride);
        assert!(
            needed <= data.len(),
            "matrix of {needed} elements in {}",
            data.len()
        );
        Self {
            data: data.as_mut_ptr(),
            rows,
            width,
            stride,
            borrow: PhantomData,
        }
    }

    /// Rows (tokens).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Row `i`.
    ///
    /// # Panics
    /// When `i` is not below [`rows`](TileMut::rows).
    pub fn row(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.rows, "row {i} of a tile of {}", self.rows);
        // SAFETY: the tile was made from an exclusive borrow that holds `rows` rows of `width`
        // elements `stride` apart, no other tile overlaps it, and `&mut self` forbids two rows at
        // once.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(i * self.stride), self.width) }
    }

    /// The first element of `count` rows from row `first` on, and how many elements further on the next row begins.
    ///
    /// # Panics
    /// When they are not all there.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn rows_at(&mut self, first: usize, count: usize) -> (*mut T, usize) {
        assert!(
            first + count <= self.rows,
            "rows {first} to {} of {}",
            first + count,
            self.rows
        );
        (self.data.wrapping_add(first * self.stride), self.stride)
    }

    /// Some columns, for a shorter time.
    ///
    /// # Panics
    /// When they are not all there.
    pub fn columns(&mut self, columns: Range<usize>) -> TileMut<'_, T> {
        assert!(
            columns.start <= columns.end && columns.end <= self.width,
            "columns {columns:?} of {}",
            self.width
        );
        TileMut {
            data: self.data.wrapping_add(columns.start),
            width: columns.len(),
            borrow: PhantomData,
            ..*self
        }
    }

    /// Some rows, for a shorter time.
    ///
    /// # Panics
    /// When they are not all there.
    pub fn some_rows(&mut self, rows: Range<usize>) -> TileMut<'_, T> {
        assert!(
            rows.start <= rows.end && rows.end <= self.rows,
            "rows {rows:?} of {}",
            self.rows
        );
        TileMut {
            data: self.data.wrapping_add(rows.start * self.stride),
            rows: rows.len(),
            borrow: PhantomData,
            ..*self
        }
    }

    /// The same rectangle for a shorter time.
    pub fn reborrow(&mut self) -> TileMut<'_, T> {
        TileMut {
            borrow: PhantomData,
            ..*self
        }
    }
}

impl<'a> TileMut<'a, f32> {
    /// The same memory as integers: kernels leave exact sums where the results will stand.
    pub(crate) fn as_sums(&mut self) -> TileMut<'_, i32> {
        let Self {
            data,
            rows,
            width,
            stride,
            ..
        } = *self;
        TileMut {
            data: data.cast(),
            rows,
            width,
            stride,
            borrow: PhantomData,
        }
    }
}

/// Elements from the first to the last of a strided matrix.
fn matrix_len(rows: usize, width: usize, stride: usize) -> usize {
    match rows {
        0 => 0,
        _ => (rows - 1)
            .checked_mul(stride)
            .and_then(|n| n.checked_add(width))
            .expect("overflow"),
    }
}
