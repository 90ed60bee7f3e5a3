//! A borrowed matrix: bytes, shape and scales, with the scalar decoder of every layout.

use std::fmt;

use half::{bf16, f16};
use thiserror::Error;

use crate::dense;
use crate::layout::{ATOM_BYTES, I4_GROUP, Layout, Packs, SIGN_GROUP};
use crate::ternary;

/// What turns stored integers into weights: `weight = code * scale`.
#[derive(Clone, Copy, Debug)]
pub enum Scales<'a> {
    /// None: the layout stores the weights themselves.
    None,
    /// One multiplier for the whole matrix.
    Tensor(f32),
    /// One multiplier per row.
    Rows(&'a [f32]),
    /// One multiplier per `size` columns of a row, among the bytes of the matrix where [`Packs`] says.
    Groups {
        /// Columns that share a scale.
        size: usize,
    },
}

impl Scales<'_> {
    /// What an error message calls this kind of scales.
    pub fn kind(&self) -> &'static str {
        match self {
            Scales::None => "no scales",
            Scales::Tensor(_) => "one scale",
            Scales::Rows(_) => "row scales",
            Scales::Groups { .. } => "group scales",
        }
    }
}

/// Bytes, shape and scales do not belong together.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ShapeError {
    /// `rows` x `cols` does not fit the address space.
    #[error("{rows} x {cols} in layout {layout} overflows")]
    Overflow {
        /// The layout asked for.
        layout: Layout,
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
    },
    /// The byte count is not what the layout and the shape demand.
    #[error("{rows} x {cols} in layout {layout} takes {expected} bytes, got {found}")]
    Bytes {
        /// The layout asked for.
        layout: Layout,
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
        /// Bytes demanded.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The bytes cannot be viewed as the elements of the layout.
    #[error("layout {layout} needs its bytes aligned to {expected}")]
    Alignment {
        /// The layout asked for.
        layout: Layout,
        /// Alignment demanded, in bytes.
        expected: usize,
    },
    /// The layout takes another kind of scales.
    #[error("layout {layout} takes {expected}, got {found}")]
    ScaleKind {
        /// The layout asked for.
        layout: Layout,
        /// The kinds it takes.
        expected: &'static str,
        /// The kind given.
        found: &'static str,
    },
    /// There are too many or too few scales.
    #[error("expected {expected} scales, got {found}")]
    ScaleCount {
        /// Scales demanded.
        expected: usize,
        /// Scales given.
        found: usize,
    },
}

/// A `rows` x `cols` matrix of weights over borrowed bytes.
///
/// [`code`](MatrixRef::code) is the definition of each layout; everything else, here and in the
/// kernels, is tested against it. Any bytes of the right length decode without a panic.
///
/// Its `Debug` is short, whatever its size.
#[derive(Clone, Copy)]
pub struct MatrixRef<'a> {
    layout: Layout,
    rows: usize,
    cols: usize,
    packs: Packs,
    band_bytes: usize,
    bytes: &'a [u8],
    scales: Scales<'a>,
}

/// The bytes of a band: atoms, and the scales of groups between them.
///
/// Its `Debug` is short, whatever its size.
#[derive(Clone, Copy)]
pub struct Band<'a> {
    lines: &'a [[u8; ATOM_BYTES]],
    packs: Packs,
}

impl fmt::Debug for Band<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Band({} lines, {:?})", self.lines.len(), self.packs)
    }
}

impl<'a> Band<'a> {
    /// Atom `a`.
    ///
    /// # Panics
    /// When the band has fewer.
    #[inline(always)]
    pub fn atom(&self, a: usize) -> &'a [u8; ATOM_BYTES] {
        &self.lines[self.packs.line(a)]
    }

    /// All lines: the atoms, where there are no scales of groups.
    #[inline(always)]
    pub fn lines(&self) -> &'a [[u8; ATOM_BYTES]] {
        self.lines
    }

    /// The bytes of `N / 2` scales: those of group `group` from that of row `row` of the band on, and, where a band is a row, of the
    /// groups after it in its pack.
    ///
    /// # Panics
    /// When the band has no such group.
    #[inline(always)]
    pub fn scales<const N: usize>(&self, group: usize, row: usize) -> &'a [u8; N] {
        let at = self.packs.scales(group) + 2 * row;
        let scales = self.lines.as_flattened()[at..].first_chunk();
        scales.expect("scales of a group of the band")
    }

    /// How many atoms it has.
    fn len(&self) -> usize {
        let (whole, rest) = (self.packs.bytes() / ATOM_BYTES, self.lines.len());
        rest / whole * self.packs.atoms + (rest % whole).saturating_sub(self.packs.scale_lines)
    }

    /// Its weights without scales: the bytes that [`pack`](crate::pack) makes of its rows.
    pub fn weights(&self) -> Vec<u8> {
        (0..self.len()).flat_map(|a| *self.atom(a)).collect()
    }
}

impl fmt::Debug for MatrixRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            layout, rows, cols, ..
        } = self;
        let scales = self.scales.kind();
        write!(f, "MatrixRef({rows} x {cols} in layout {layout}, {scales})")
    }
}

impl<'a> MatrixRef<'a> {
    /// Views `bytes` as a matrix.
    ///
    /// # Errors
    /// When the number of bytes or of scales is not exactly what the shape demands, the layout
    /// takes other scales, or the bytes are not aligned to the stored element.
    pub fn new(
        layout: Layout,
        rows: usize,
        cols: usize,
        bytes: &'a [u8],
        scales: Scales<'a>,
    ) -> Result<Self, ShapeError> {
        check_scales(layout, rows, &scales)?;
        let overflow = ShapeError::Overflow { layout, rows, cols };
        let grouped = matches!(scales, Scales::Groups { .. });
        let band_bytes = layout.stored_band_bytes(cols, grouped);
        let band_bytes = band_bytes.ok_or(overflow.clone())?;
        let expected = layout.stored_len(rows, cols, grouped).ok_or(overflow)?;
        if bytes.len() != expected {
            return Err(ShapeError::Bytes {
                layout,
                rows,
                cols,
                expected,
                found: bytes.len(),
            });
        }
        let align = layout.dtype().bitsize() / 8;
        if !(bytes.as_ptr() as usize).is_multiple_of(align) {
            return Err(ShapeError::Alignment {
                layout,
                expected: align,
            });
        }
        Ok(Self {
            layout,
            rows,
            cols,
            packs: layout.packs(grouped),
            band_bytes,
            bytes,
            scales,
        })
    }

    /// The layout.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Rows: outputs of a linear layer, tokens of an embedding.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns without padding: inputs of a linear layer.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Columns with padding.
    pub fn padded_cols(&self) -> usize {
        self.layout.padded_cols(self.cols).unwrap_or(0)
    }

    /// Where scales of groups are in a band.
    #[inline(always)]
    pub fn packs(&self) -> Packs {
        self.packs
    }

    /// The scales.
    pub fn scales(&self) -> Scales<'a> {
        self.scales
    }

    /// All bytes, band after band.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes of one row, with the scales of its groups if it has such; a multiple of [`ATOM_BYTES`].
    ///
    /// # Panics
    /// Where rows share their bytes.
    #[inline]
    pub fn row_bytes(&self) -> usize {
        let layout = self.layout;
        assert!(
            layout.atom_rows() == 1,
            "rows of layout {layout} share bytes"
        );
        self.band_bytes
    }

    /// The bytes of row `r`.
    ///
    /// # Panics
    /// When `r` is not below [`rows`](MatrixRef::rows), and where rows share their bytes.
    #[inline]
    pub fn row_bytes_of(&self, r: usize) -> &'a [u8] {
        assert!(r < self.rows, "row {r} of {}", self.rows);
        &self.bytes[r * self.row_bytes()..][..self.row_bytes()]
    }

    /// Bytes of one band, with the scales of its groups if it has such; a multiple of [`ATOM_BYTES`].
    pub fn band_bytes(&self) -> usize {
        self.band_bytes
    }

    /// The bytes of band `b`: of the rows from `b` times [`Layout::atom_rows`] on, as many as an atom has.
    ///
    /// # Panics
    /// When it starts past the last row.
    pub fn band_bytes_of(&self, b: usize) -> &'a [u8] {
        &self.bytes[b * self.band_bytes..][..self.band_bytes]
    }

    /// Band `b`, as [`band_bytes_of`](MatrixRef::band_bytes_of).
    ///
    /// # Panics
    /// When it starts past the last row.
    #[inline(always)]
    pub fn band(&self, b: usize) -> Band<'a> {
        Band {
            lines: self.band_bytes_of(b).as_chunks().0,
            packs: self.packs,
        }
    }

    /// The band that holds row `r`, and its place among the rows there.
    fn band_of(&self, r: usize) -> (Band<'a>, usize) {
        assert!(r < self.rows, "row {r} of {}", self.rows);
        let rows = self.layout.atom_rows();
        (self.band(r / rows), r % rows)
    }

    /// The integer stored at row `r`, column `k`, padding included: -1, 0 or 1 in
    /// [`Layout::T2`] and [`Layout::T2R16`] (2 for the invalid code 3), [`Layout::T5`] and [`Layout::T5R5`], -1 or 1 in [`Layout::B1`] and
    /// [`Layout::B1R64`], -8 to 7 in [`Layout::I4`], -128 to 127 in [`Layout::I8`].
    ///
    /// # Panics
    /// When `r` or `k` is out of range (`k` may reach into the padding), and for float layouts,
    /// which store no integers: use [`value`](MatrixRef::value).
    pub fn code(&self, r: usize, k: usize) -> i32 {
        let (band, row) = self.band_of(r);
        let atom_cols = self.layout.atom_cols();
        let atom = band.atom(k / atom_cols);
        let k = k % atom_cols;
        let (j, p) = (k % ATOM_BYTES, k / ATOM_BYTES);
        match self.layout {
            Layout::T2 => i32::from((atom[j] >> (2 * p)) & 3) - 1,
            Layout::T2R16 => i32::from(ternary::field(atom, row, k)) - 1,
            Layout::T5 => i32::from(dense::code(atom[j], p)) - 1,
            Layout::T5R5 => i32::from(dense::code(atom[j], row)) - 1,
            Layout::B1 => i32::from((atom[j] >> p) & 1) * 2 - 1,
            Layout::B1R64 => i32::from((atom[Layout::binary_place(row)] >> j) & 1) * 2 - 1,
            Layout::I8 => i32::from(atom[j] as i8),
            Layout::I4 => i32::from((atom[j] >> (4 * p)) & 15) - 8,
            Layout::F16 | Layout::BF16 | Layout::F32 => {
                panic!("layout {} stores no integer codes", self.layout)
            }
        }
    }

    /// The weight at row `r`, column `k`: the stored float, or `code * scale` in `f32`.
    ///
    /// # Panics
    /// When `r` or `k` is out of range, padding not included.
    pub fn value(&self, r: usize, k: usize) -> f32 {
        assert!(k < self.cols, "column {k} of {}", self.cols);
        let (band, _) = self.band_of(r);
        let row = band.lines.as_flattened();
        match self.layout {
            Layout::F16 => f16::from_le_bytes(element(row, k)).to_f32(),
            Layout::BF16 => bf16::from_le_bytes(element(row, k)).to_f32(),
            Layout::F32 => f32::from_le_bytes(element(row, k)),
            _ => self.code(r, k) as f32 * self.scale(r, k),
        }
    }

    /// The multiplier of the integer at row `r`, column `k`; 1 for float layouts.
    ///
    /// # Panics
    /// When `r` or `k` is out of range, padding not included.
    pub fn scale(&self, r: usize, k: usize) -> f32 {
        assert!(k < self.cols, "column {k} of {}", self.cols);
        match self.scales {
            Scales::None => 1.0,
            Scales::Tensor(scale) => scale,
            Scales::Rows(values) => values[r],
            Scales::Groups { size } => {
                let (band, place) = self.band_of(r);
                let at = self.packs.scales(k / size) + 2 * place;
                f16::from_le_bytes(element(&band.lines.as_flattened()[at..], 0)).to_f32()
            }
        }
    }

    /// Writes row `r` as `f32`, equal to [`value`](MatrixRef::value) bit for bit.
    ///
    /// # Panics
    /// When `r` is out of range or `out` is not [`cols`](MatrixRef::cols) long.
    pub fn decode_row(&self, r: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.cols, "decode_row writes one whole row");
        let (band, place) = self.band_of(r);
        let row = band.lines.as_flattened();
        match self.layout {
            Layout::F16 => floats(row, out, |b| f16::from_le_bytes(b).to_f32()),
            Layout::BF16 => floats(row, out, |b| bf16::from_le_bytes(b).to_f32()),
            Layout::F32 => floats(row, out, f32::from_le_bytes),
            Layout::I8 => integers(band, out, |byte| f32::from(byte as i8), 8),
            Layout::T2 => integers(band, out, |byte| f32::from((byte & 3) as i8 - 1), 2),
            Layout::T2R16 => {
                for (a, out) in out.chunks_mut(16).enumerate() {
                    for (k, out) in out.iter_mut().enumerate() {
                        *out = f32::from(ternary::field(band.atom(a), place, k)) - 1.0;
                    }
                }
            }
            Layout::T5 => dense_row(row, out),
            Layout::T5R5 => {
                let value = |byte| f32::from(dense::code(byte, place)) - 1.0;
                out.iter_mut()
                    .zip(row)
                    .for_each(|(out, byte)| *out = value(*byte));
            }
            Layout::B1 => integers(band, out, |byte| f32::from((byte & 1) as i8 * 2 - 1), 1),
            Layout::B1R64 => {
                for (a, out) in out.chunks_mut(8).enumerate() {
                    let byte = band.atom(a)[Layout::binary_place(place)];
                    for (k, out) in out.iter_mut().enumerate() {
                        *out = f32::from(((byte >> k) & 1) as i8 * 2 - 1);
                    }
                }
            }
            Layout::I4 => integers(band, out, |byte| f32::from((byte & 15) as i8 - 8), 4),
        }
        self.scale_row(r, out);
    }

    fn scale_row(&self, r: usize, out: &mut [f32]) {
        match self.scales {
            Scales::None => {}
            Scales::Tensor(scale) => multiply(out, scale),
            Scales::Rows(values) => multiply(out, values[r]),
            Scales::Groups { size } => {
                for (g, group) in out.chunks_mut(size).enumerate() {
                    multiply(group, self.scale(r, g * size));
                }
            }
        }
    }
}

/// The bytes of element `k` of a row of `N`-byte elements.
fn element<const N: usize>(row: &[u8], k: usize) -> [u8; N] {
    std::array::from_fn(|i| row[k * N + i])
}

fn floats<const N: usize>(row: &[u8], out: &mut [f32], decode: impl Fn([u8; N]) -> f32) {
    for (value, bytes) in out.iter_mut().zip(row.as_chunks::<N>().0) {
        *value = decode(*bytes);
    }
}

/// Decodes planes of 64 columns: plane `p` of an atom is bits `bits * p` and up of its 64 bytes.
fn integers(band: Band<'_>, out: &mut [f32], decode: impl Fn(u8) -> f32, bits: usize) {
    let planes = 8 / bits;
    for (plane, values) in out.chunks_mut(ATOM_BYTES).enumerate() {
        let atom = band.atom(plane / planes);
        let shift = plane % planes * bits;
        for (value, byte) in values.iter_mut().zip(atom) {
            *value = decode(byte >> shift);
        }
    }
}

/// Decodes planes of 64 columns, five to an atom.
fn dense_row(row: &[u8], out: &mut [f32]) {
    for (plane, values) in out.chunks_mut(ATOM_BYTES).enumerate() {
        let atom = &row[plane / 5 * ATOM_BYTES..][..ATOM_BYTES];
        for (value, byte) in values.iter_mut().zip(atom) {
            *value = f32::from(dense::code(*byte, plane % 5)) - 1.0;
        }
    }
}

fn multiply(values: &mut [f32], scale: f32) {
    for value in values {
        *value *= scale;
    }
}

pub(crate) fn check_scales(
    layout: Layout,
    rows: usize,
    scales: &Scales<'_>,
) -> Result<(), ShapeError> {
    let (expected, fits) = match layout {
        Layout::T2 | Layout::T2R16 | Layout::B1 | Layout::B1R64 => (
            "one scale, or group scales of 128 columns",
            matches!(
                scales,
                Scales::Tensor(_) | Scales::Groups { size: SIGN_GROUP }
            ),
        ),
        Layout::T5 | Layout::T5R5 => ("one scale", matches!(scales, Scales::Tensor(_))),
        Layout::I8 => ("row scales", matches!(scales, Scales::Rows(_))),
        Layout::I4 => (
            "group scales of 64 columns",
            matches!(scales, Scales::Groups { size: I4_GROUP }),
        ),
        Layout::F16 | Layout::BF16 | Layout::F32 => ("no scales", matches!(scales, Scales::None)),
    };
    if !fits {
        return Err(ShapeError::ScaleKind {
            layout,
            expected,
            found: scales.kind(),
        });
    }
    match scales {
        Scales::Rows(values) if values.len() != rows => Err(ShapeError::ScaleCount {
            expected: rows,
            found: values.len(),
        }),
        _ => Ok(()),
    }
}
