//! Where weight `(row, k)` sits in the bytes.
//!
//! A layout is named by its geometry, never by an instruction set. An *atom* is 64 bytes that hold
//! some columns of one row, or of several in [`Layout::T2R16`], [`Layout::T5R5`] and [`Layout::B1R64`]. The rows of an atom are a *band*, whose
//! bytes are a whole number of atoms, one after another; band follows band. So every band of a tensor
//! that starts on a 64-byte boundary starts on one too, and a kernel never meets a partial atom.
//!
//! Scales of groups of columns stand between the atoms, [`Packs`] says where: a band is read from one end to the other, its scales
//! with it.
//!
//! Columns that fill up the last atom, or in [`Layout::T2R16`] and [`Layout::B1R64`] the last 128 columns, and rows that fill up
//! the last band, are *padding*; they decode to zero except in the binary layouts, which have no zero (their padding bits are 0, i.e. -1, and
//! the kernels meet them with activations that are zero there).

use safetensors::Dtype;

/// Bytes in an atom; also the alignment of every band and of every tensor in a packed file.
pub const ATOM_BYTES: usize = 64;

/// Columns that share one scale in [`Layout::I4`].
pub const I4_GROUP: usize = 64;

/// Columns that share one scale in [`Layout::T2`], [`Layout::T2R16`], [`Layout::B1`] and [`Layout::B1R64`] when they have
/// group scales.
pub const SIGN_GROUP: usize = 128;

/// How the weights of one matrix are stored.
///
/// In the formulas `k` is the column, and `j` and `p` number the bytes and the bit fields of the
/// atom that holds the column.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layout {
    /// Ternary weights, two bits each: an atom is 256 columns, bits `2p..2p+2` of byte `j` hold
    /// column `64p + j`, and the stored code is `w + 1`. Code 3 is invalid; see
    /// [`MatrixRef::code`](crate::MatrixRef::code).
    T2,
    /// Ternary weights, two bits each: an atom is 16 columns of 16 rows, bits `2p..2p+2` of byte `4i + m` hold column
    /// `4p + m` of the band's row `i` as in [`T2`](Layout::T2).
    T2R16,
    /// Ternary weights, five to a byte: an atom is 320 columns, byte `j` holds columns `64p + j` for
    /// `p` = 0 to 4 as `85 c0 + 29 c1 + 9 c2 + 3 c3 + c4` of the codes `w + 1`. One scale.
    T5,
    /// Ternary weights, five to a byte: an atom is 64 columns of 5 rows, byte `j` holds column `j` of
    /// the band's rows `p` = 0 to 4 as in [`T5`](Layout::T5). One scale.
    T5R5,
    /// Binary weights, one bit each: an atom is 512 columns, bit `p` of byte `j` holds column
    /// `64p + j`; 1 is +1 and 0 is -1.
    B1,
    /// Binary weights, one bit each: an atom is 8 columns of 64 rows, bit `k` of byte `4i + m` holds column
    /// `k` of the band's row `16m + i`; 1 is +1 and 0 is -1.
    B1R64,
    /// Two's complement bytes in column order, 64 columns per atom, one `f32` scale per row.
    I8,
    /// Four bits each: an atom is 128 columns, the low nibble of byte `j` holds column `j` and the
    /// high nibble column `64 + j`; the value is the nibble - 8. One `f16` scale per 64 columns.
    I4,
    /// IEEE binary16 in column order, 32 columns per atom.
    F16,
    /// bfloat16 in column order, 32 columns per atom.
    BF16,
    /// IEEE binary32 in column order, 16 columns per atom.
    F32,
}

impl Layout {
    /// Every layout this version knows.
    pub const ALL: &'static [Layout] = &[
        Layout::T2,
        Layout::T2R16,
        Layout::T5,
        Layout::T5R5,
        Layout::B1,
        Layout::B1R64,
        Layout::I8,
        Layout::I4,
        Layout::F16,
        Layout::BF16,
        Layout::F32,
    ];

    /// The layout of five codes to a byte that holds a `rows` x `cols` matrix in fewer bytes, and
    /// [`T5`](Layout::T5), whose rows can be read one by one, where both take as many.
    pub fn dense(rows: usize, cols: usize) -> Layout {
        let bytes = |layout: Layout| layout.byte_len(rows, cols).unwrap_or(usize::MAX);
        match bytes(Layout::T5R5) < bytes(Layout::T5) {
            true => Layout::T5R5,
            false => Layout::T5,
        }
    }

    /// The geometry name stored in files: rows and columns of one atom.
    pub fn id(self) -> &'static str {
        match self {
            Layout::T2 => "t2.r1k256",
            Layout::T2R16 => "t2.r16k16",
            Layout::T5 => "t5.r1k320",
            Layout::T5R5 => "t5.r5k64",
            Layout::B1 => "b1.r1k512",
            Layout::B1R64 => "b1.r64k8",
            Layout::I8 => "i8.r1k64",
            Layout::I4 => "i4.r1k128",
            Layout::F16 => "f16.r1k32",
            Layout::BF16 => "bf16.r1k32",
            Layout::F32 => "f32.r1k16",
        }
    }

    /// The short name people type on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Layout::T2 => "t2",
            Layout::T2R16 => "t2r16",
            Layout::T5 => "t5",
            Layout::T5R5 => "t5r5",
            Layout::B1 => "b1",
            Layout::B1R64 => "b1r64",
            Layout::I8 => "q8",
            Layout::I4 => "q4",
            Layout::F16 => "f16",
            Layout::BF16 => "bf16",
            Layout::F32 => "f32",
        }
    }

    /// The layout with this [`id`](Layout::id).
    pub fn from_id(id: &str) -> Option<Layout> {
        Self::ALL.iter().copied().find(|layout| layout.id() == id)
    }

    /// The layout with this [`name`](Layout::name).
    pub fn from_name(name: &str) -> Option<Layout> {
        Self::ALL
            .iter()
            .copied()
            .find(|layout| layout.name() == name)
    }

    /// Columns in one atom.
    pub fn atom_cols(self) -> usize {
        match self {
            Layout::T2 => 256,
            Layout::T2R16 | Layout::F32 => 16,
            Layout::T5 => 320,
            Layout::B1 => 512,
            Layout::B1R64 => 8,
            Layout::I8 | Layout::T5R5 => 64,
            Layout::I4 => 128,
            Layout::F16 | Layout::BF16 => 32,
        }
    }

    /// Rows in one atom, which are the rows of a band.
    pub fn atom_rows(self) -> usize {
        match self {
            Layout::T2R16 => 16,
            Layout::T5R5 => 5,
            Layout::B1R64 => 64,
            _ => 1,
        }
    }

    /// Columns that rows are filled up to a multiple of: those of an atom, or of a group where that has more.
    fn step(self) -> usize {
        self.atom_cols().max(self.group().unwrap_or(1))
    }

    /// `cols` rounded up to whole atoms and whole groups; `None` when that overflows.
    pub fn padded_cols(self, cols: usize) -> Option<usize> {
        cols.checked_next_multiple_of(self.step())
    }

    /// Bytes of the weights of one row of `cols` columns, a multiple of [`ATOM_BYTES`]; `None` on overflow, and where
    /// rows share their bytes.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        self.band_bytes(cols).filter(|_| self.atom_rows() == 1)
    }

    /// Bytes of the weights of the rows of one atom, with `cols` columns each; `None` on overflow.
    pub fn band_bytes(self, cols: usize) -> Option<usize> {
        let atoms = self.step() / self.atom_cols();
        cols.div_ceil(self.step()).checked_mul(atoms * ATOM_BYTES)
    }

    /// Bytes of the weights of a `rows` x `cols` matrix; `None` on overflow.
    pub fn byte_len(self, rows: usize, cols: usize) -> Option<usize> {
        self.band_bytes(cols)?
            .checked_mul(rows.div_ceil(self.atom_rows()))
    }

    /// Where the scales of groups are in a band, if it has such: `grouped` says so.
    pub fn packs(self, grouped: bool) -> Packs {
        match self.group().filter(|_| grouped) {
            None => Packs::NONE,
            Some(size) => {
                let rows = self.atom_rows();
                let groups = (LINE_SCALES / rows).max(1);
                Packs {
                    scale_lines: groups * rows / LINE_SCALES,
                    atoms: groups * size / self.atom_cols(),
                    groups,
                    rows,
                }
            }
        }
    }

    /// Bytes of one band of `cols` columns as it is stored, with the scales of its groups if it has such; `None` on overflow.
    pub fn stored_band_bytes(self, cols: usize, grouped: bool) -> Option<usize> {
        let weights = self.band_bytes(cols)?;
        let packs = self.packs(grouped);
        let count = (weights / ATOM_BYTES).div_ceil(packs.atoms);
        weights.checked_add(count * packs.scale_lines * ATOM_BYTES)
    }

    /// Bytes of a `rows` x `cols` matrix as it is stored, with the scales of its groups if it has such; `None` on overflow.
    pub fn stored_len(self, rows: usize, cols: usize, grouped: bool) -> Option<usize> {
        self.stored_band_bytes(cols, grouped)?
            .checked_mul(rows.div_ceil(self.atom_rows()))
    }

    /// The element type of the stored tensor.
    pub fn dtype(self) -> Dtype {
        match self {
            Layout::T2
            | Layout::T2R16
            | Layout::T5
            | Layout::T5R5
            | Layout::B1
            | Layout::B1R64
            | Layout::I4 => Dtype::U8,
            Layout::I8 => Dtype::I8,
            Layout::F16 => Dtype::F16,
            Layout::BF16 => Dtype::BF16,
            Layout::F32 => Dtype::F32,
        }
    }

    /// The shape of the stored tensor: bands, which are rows in most layouts, and the elements of
    /// [`dtype`](Layout::dtype) in one with its padding, and with the scales of its groups if it has such. `None` on overflow.
    pub fn stored_shape(self, rows: usize, cols: usize, grouped: bool) -> Option<[usize; 2]> {
        let per_band = self.stored_band_bytes(cols, grouped)? / (self.dtype().bitsize() / 8);
        Some([rows.div_ceil(self.atom_rows()), per_band])
    }

    /// Columns that share a scale where the layout has group scales: always in [`Layout::I4`], by
    /// choice in [`Layout::T2`], [`Layout::T2R16`], [`Layout::B1`] and [`Layout::B1R64`].
    pub fn group(self) -> Option<usize> {
        match self {
            Layout::I4 => Some(I4_GROUP),
            Layout::T2 | Layout::T2R16 | Layout::B1 | Layout::B1R64 => Some(SIGN_GROUP),
            Layout::T5 | Layout::T5R5 | Layout::I8 | Layout::F16 | Layout::BF16 | Layout::F32 => {
                None
            }
        }
    }

    /// Whether every weight is -1, 0 or 1 times a scale.
    pub fn is_ternary(self) -> bool {
        matches!(self, Layout::T2 | Layout::T2R16 | Layout::T5 | Layout::T5R5)
    }

    /// Whether every weight is -1 or 1 times a scale.
    pub fn is_binary(self) -> bool {
        matches!(self, Layout::B1 | Layout::B1R64)
    }

    /// Which byte of an atom of [`B1R64`](Layout::B1R64) holds row `row` of the band: the 32-bit lanes of an atom,
    /// taken apart into four 8-bit fields, are four times 16 rows in order.
    #[inline]
    pub fn binary_place(row: usize) -> usize {
        4 * (row % 16) + row / 16
    }

    /// Whether the stored elements are floating-point numbers, which have no scales.
    pub fn is_float(self) -> bool {
        matches!(self, Layout::F16 | Layout::BF16 | Layout::F32)
    }
}

/// Scales in 64 bytes, two bytes each.
const LINE_SCALES: usize = ATOM_BYTES / 2;

/// How the scales of groups of columns stand in a band: after as many lines of scales as make whole lines come the atoms of their
/// columns, then the next scales, up to the end of the band.
///
/// ```text
/// |-- scales --|-- atoms ... --|-- scales --|-- atoms ... --|
/// |<---------- a pack -------->|<---------- a pack -------->|
/// ```
///
/// Within a pack scales are `f16`, group after group, and those of a group row after row. What the last pack has too many of is 0.
/// (Scales in a place of their own are a second stream through memory, much slower than the weights': a core reads a tenth less.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packs {
    /// Lines of [`ATOM_BYTES`] bytes of scales at the start of each.
    pub scale_lines: usize,
    /// Atoms that follow, a power of two; the last pack may have fewer.
    pub atoms: usize,
    /// Groups of columns that these are, a power of two.
    pub groups: usize,
    /// Rows of the band.
    rows: usize,
}

impl Packs {
    /// Those of a band without scales: atoms alone.
    pub const NONE: Self = Self {
        scale_lines: 0,
        atoms: 1,
        groups: 1,
        rows: 1,
    };

    /// The line of the band, of [`ATOM_BYTES`] bytes, that atom `atom` is.
    #[inline(always)]
    pub fn line(self, atom: usize) -> usize {
        atom + ((atom >> self.atoms.trailing_zeros()) + 1) * self.scale_lines
    }

    /// The byte of the band where the scales of group `group` begin, one for each of its rows.
    #[inline(always)]
    pub fn scales(self, group: usize) -> usize {
        let pack = group >> self.groups.trailing_zeros();
        let place = group & (self.groups - 1);
        pack * self.bytes() + 2 * place * self.rows
    }

    /// Bytes of a whole pack.
    #[inline(always)]
    pub fn bytes(self) -> usize {
        (self.scale_lines + self.atoms) * ATOM_BYTES
    }
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id())
    }
}
