//! Rows of a table that are read from the file instead of through its map.
//!
//! Touching one row of a map makes its surroundings resident, so that a prompt would bring in most of a table. A positioned
//! read brings in the row, with the rows it shares its bytes with.

use onebit_format::{FormatError, Layout, MatrixRef, PackedFile, Scales};

use crate::places::{MatrixAt, ScalesAt};

/// Numbers of an `f32` buffer that a row of `cols` columns, with what must be read with it, fits in whatever its layout.
pub(crate) fn most(cols: usize) -> usize {
    let len = |layout: &Layout| {
        let grouped = layout.group().is_some();
        Some(buffer_len(
            layout.stored_band_bytes(cols, grouped)? + size_of::<f32>(),
        ))
    };
    let lens = Layout::ALL.iter().filter_map(len);
    lens.max().expect("widths are limited")
}

/// Numbers that `bytes` bytes fit in, a multiple of 16.
fn buffer_len(bytes: usize) -> usize {
    bytes.div_ceil(size_of::<f32>()).next_multiple_of(16)
}

/// How a table's rows are read.
pub(crate) struct RowReader<'a> {
    table: &'a MatrixAt,
    file: &'a PackedFile,
    /// Of one row, or of those that share their bytes.
    band_bytes: usize,
    /// Of the scale of a row.
    scale_bytes: usize,
}

impl<'a> RowReader<'a> {
    pub(crate) fn new(table: &'a MatrixAt, file: &'a PackedFile) -> Self {
        let scale_bytes = match &table.scales {
            ScalesAt::None | ScalesAt::Tensor(_) | ScalesAt::Groups { .. } => 0,
            ScalesAt::Rows(_) => size_of::<f32>(),
        };
        let grouped = matches!(table.scales, ScalesAt::Groups { .. });
        let band_bytes = table.layout.stored_band_bytes(table.cols, grouped);
        Self {
            table,
            file,
            band_bytes: band_bytes.expect("checked at opening"),
            scale_bytes,
        }
    }

    /// Numbers of an `f32` buffer that the bytes of a row and its scales fit in, a multiple of 16; at most [`most`].
    pub(crate) fn buffer_len(&self) -> usize {
        buffer_len(self.band_bytes + self.scale_bytes)
    }

    /// Reads row `row` into `buffer` and decodes it into `out`.
    pub(crate) fn read(
        &self,
        row: usize,
        buffer: &mut [f32],
        out: &mut [f32],
    ) -> Result<(), FormatError> {
        let buffer: &mut [u8] = bytemuck::cast_slice_mut(buffer);
        let (bytes, rest) = buffer.split_at_mut(self.band_bytes);
        let scales = &mut rest[..self.scale_bytes];
        let per_band = self.table.layout.atom_rows();
        let (band, place) = (row / per_band, row % per_band);
        let start = self.table.bytes.start + band * self.band_bytes;
        self.file.read_at(start, bytes)?;
        // Layouts with a scale per row have one row in a band.
        if let ScalesAt::Rows(all) = &self.table.scales {
            self.file
                .read_at(all.start + band * self.scale_bytes, scales)?;
        }
        let scales = match &self.table.scales {
            ScalesAt::None => Scales::None,
            ScalesAt::Tensor(scale) => Scales::Tensor(*scale),
            ScalesAt::Rows(_) => Scales::Rows(bytemuck::cast_slice(scales)),
            ScalesAt::Groups { size } => Scales::Groups { size: *size },
        };
        let rows = MatrixRef::new(self.table.layout, place + 1, self.table.cols, bytes, scales);
        rows.expect("the shape of rows of a table that was checked at opening")
            .decode_row(place, out);
        Ok(())
    }
}
