//! Where tensors are in the bytes of a file, so that a forward pass looks up no names.

use std::ops::Range;

use onebit_format::{Layout, MatrixRef, PackedFile, Scales};

/// A vector of `f32`: its bytes.
#[derive(Clone, Debug)]
pub(crate) struct VectorAt(pub(crate) Range<usize>);

/// A matrix and its scales.
#[derive(Clone, Debug)]
pub(crate) struct MatrixAt {
    pub(crate) layout: Layout,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) bytes: Range<usize>,
    pub(crate) scales: ScalesAt,
}

/// Scales: the value of a single one, or the bytes of those of rows. Those of groups are among the weights.
#[derive(Clone, Debug)]
pub(crate) enum ScalesAt {
    None,
    Tensor(f32),
    Rows(Range<usize>),
    Groups { size: usize },
}

impl VectorAt {
    pub(crate) fn resolve<'a>(&self, file: &'a PackedFile) -> &'a [f32] {
        bytemuck::cast_slice(&file.bytes()[self.0.clone()])
    }
}

impl MatrixAt {
    /// The bytes of the matrix, and of scales that are not among them.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let scales = match &self.scales {
            ScalesAt::None | ScalesAt::Tensor(_) | ScalesAt::Groups { .. } => None,
            ScalesAt::Rows(bytes) => Some(bytes.clone()),
        };
        [Some(self.bytes.clone()), scales].into_iter().flatten()
    }

    pub(crate) fn resolve<'a>(&self, file: &'a PackedFile) -> MatrixRef<'a> {
        let bytes = &file.bytes()[self.bytes.clone()];
        let scales = self.scales.resolve(file);
        MatrixRef::new(self.layout, self.rows, self.cols, bytes, scales)
            .expect("checked at opening")
    }
}

impl ScalesAt {
    fn resolve<'a>(&self, file: &'a PackedFile) -> Scales<'a> {
        match self {
            Self::None => Scales::None,
            Self::Tensor(scale) => Scales::Tensor(*scale),
            Self::Rows(bytes) => Scales::Rows(bytemuck::cast_slice(&file.bytes()[bytes.clone()])),
            Self::Groups { size } => Scales::Groups { size: *size },
        }
    }
}
