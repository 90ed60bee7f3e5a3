//! Reproducible data, and comparison by bits.

use half::f16;
use onebit_format::{Layout, MatrixRef, SIGN_GROUP, Scales, pack};
use onebit_kernels::Kernels;

use crate::chosen::sets;
use crate::memory::{Bytes, assert_exact};

/// A small reproducible generator (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in -1..1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(crate) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.unit()).collect()
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

/// The owner of a matrix.
pub(crate) struct Matrix {
    pub(crate) layout: Layout,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) bytes: Bytes,
    row_scales: Vec<f32>,
    group: Option<usize>,
}

impl Matrix {
    /// Random weights. Integer layouts get random bytes, invalid codes and padding included.
    pub(crate) fn random(layout: Layout, rows: usize, cols: usize, random: &mut Random) -> Self {
        let row_bytes = layout.band_bytes(cols).unwrap();
        let mut bytes = Bytes::zeroed(layout.byte_len(rows, cols).unwrap());
        for row in bytes.chunks_exact_mut(row_bytes) {
            match layout {
                Layout::F16 => pack::f16_row(&random.floats(cols), row).unwrap(),
                Layout::BF16 => pack::bf16_row(&random.floats(cols), row).unwrap(),
                Layout::F32 => pack::f32_row(&random.floats(cols), row).unwrap(),
                _ => row.copy_from_slice(&random.bytes(row_bytes)),
            }
        }
        let group = (layout == Layout::I4).then_some(64);
        let mut matrix = Self {
            layout,
            rows,
            cols,
            bytes,
            row_scales: vec![],
            group: None,
        };
        matrix.row_scales = random.floats(rows).iter().map(|x| x.abs() + 0.01).collect();
        match group {
            Some(size) => matrix.grouped(size, random),
            None => matrix,
        }
    }

    /// The same weights with a scale per group of `size` columns.
    pub(crate) fn grouped(mut self, size: usize, random: &mut Random) -> Self {
        let count = self.rows * self.cols.div_ceil(size);
        let scale = |x: &f32| f16::from_f32(x.abs() + 0.01);
        let scales: Vec<f16> = random.floats(count).iter().map(scale).collect();
        let stored = pack::with_scales(self.layout, self.cols, &self.bytes, &scales);
        self.bytes = Bytes::zeroed(stored.len());
        self.bytes.copy_from_slice(&stored);
        self.group = Some(size);
        self
    }

    pub(crate) fn view(&self) -> MatrixRef<'_> {
        let scales = match (self.layout, self.group) {
            (_, Some(size)) => Scales::Groups { size },
            (Layout::I8, None) => Scales::Rows(&self.row_scales),
            (layout, None) if layout.is_ternary() || layout.is_binary() => Scales::Tensor(0.75),
            _ => Scales::None,
        };
        assert_exact(&self.bytes);
        assert_exact(&self.row_scales);
        MatrixRef::new(self.layout, self.rows, self.cols, &self.bytes, scales).unwrap()
    }
}

/// Equal bits, or both NaN.
#[track_caller]
pub(crate) fn assert_same(found: &[f32], expected: &[f32], what: impl std::fmt::Display) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        let same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        assert!(same, "{what}: element {i} is {a:e}, expected {b:e}");
    }
}

/// Runs `f` on every set and demands the bits that `scalar` has; returns them.
#[track_caller]
pub(crate) fn agreed(what: &str, f: impl Fn(&Kernels) -> Vec<f32>) -> Vec<f32> {
    let scalar = Kernels::by_name("scalar").unwrap();
    let expected = f(scalar);
    for set in sets().iter().filter(|set| set.name() != scalar.name()) {
        assert_same(&f(set), &expected, format!("{what} on {}", set.name()));
    }
    expected
}

/// The sums of the codes of each group of a row: as many as there are groups, some of which may lie past its end.
pub(crate) fn sums_of_groups(row: &[i8], groups: usize) -> impl Iterator<Item = i32> {
    let end = row.len();
    (0..groups).map(move |g| {
        let group = end.min(g * SIGN_GROUP)..end.min((g + 1) * SIGN_GROUP);
        row[group].iter().map(|x| i32::from(*x)).sum()
    })
}
