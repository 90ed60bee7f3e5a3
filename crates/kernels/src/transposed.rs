//! Products with ternary matrices that are stored transposed, rows being inputs: those of zero are not read.

use std::ops::Range;

use onebit_format::{Layout, MatrixRef, Scales};

use crate::body::columns::{Columns, Share};
use crate::input::I8Rows;
use crate::kernels::{Kernels, scale_by};
use crate::tiles::TileMut;

impl Kernels {
    /// The product with a ternary matrix that is stored transposed, its rows being the inputs:
    /// `out[t][i] = sum over k of w[k][outputs.start + i] * x[t][k]`, exact sums times
    /// `weight_scale / activation_scale`, the bits that [`matmul`](Kernels::matmul) gives for the
    /// matrix stored the other way. Rows whose input is 0 for a token are not read for it.
    ///
    /// # Panics
    /// When shapes do not fit, or `w` is not a [`Layout::T2`] with one scale.
    pub fn matmul_transposed(
        &self,
        w: &MatrixRef<'_>,
        outputs: Range<usize>,
        x: I8Rows<'_>,
        out: &mut TileMut<'_, f32>,
    ) {
        let scale = self.transposed_sums(w, outputs, x, Share::ALL, out);
        scale_by(scale, x, out);
    }

    /// What share `part`, below `of`, of the inputs adds to [`matmul_transposed`](Kernels::matmul_transposed) for one token: exact
    /// sums, left in `out` as the bits of `i32` for [`join_shares`](Kernels::join_shares). All shares have as many inputs that
    /// are not 0. Threads that take one each read longer pieces than those that take some of the outputs.
    ///
    /// # Panics
    /// As [`matmul_transposed`](Kernels::matmul_transposed), and when there are several tokens or no such share.
    pub fn matmul_transposed_share(
        &self,
        w: &MatrixRef<'_>,
        outputs: Range<usize>,
        x: I8Rows<'_>,
        [part, of]: [usize; 2],
        out: &mut TileMut<'_, f32>,
    ) {
        assert_eq!(x.tokens(), 1, "tokens whose inputs are shared");
        assert!(part < of, "share {part} of {of}");
        self.transposed_sums(w, outputs, x, Share { part, of }, out);
    }

    /// Joins what all [shares](Kernels::matmul_transposed_share) of a token added: `out` is that of the first, `others` that of
    /// the others one after the other. `out` becomes what [`matmul_transposed`](Kernels::matmul_transposed) gives.
    ///
    /// # Panics
    /// When `x` is not one token, `others` are no whole number of shares, or `w` is not a [`Layout::T2`] with one scale.
    pub fn join_shares(&self, w: &MatrixRef<'_>, x: I8Rows<'_>, out: &mut [f32], others: &[f32]) {
        assert_eq!(x.tokens(), 1, "tokens whose inputs are shared");
        let scale = scale_of(w);
        let width = out.len();
        assert!(
            others.len().is_multiple_of(width.max(1)),
            "shares of {width} outputs in {}",
            others.len()
        );
        let mut out = TileMut::whole(out, 1, width);
        for share in others.chunks_exact(width.max(1)) {
            for (sum, more) in out.as_sums().row(0).iter_mut().zip(share) {
                *sum = sum.wrapping_add(more.to_bits() as i32);
            }
        }
        scale_by(scale, x, &mut out);
    }

    /// Leaves sums in `out`, and gives the scale of the matrix.
    fn transposed_sums(
        &self,
        w: &MatrixRef<'_>,
        outputs: Range<usize>,
        x: I8Rows<'_>,
        share: Share,
        out: &mut TileMut<'_, f32>,
    ) -> f32 {
        let scale = scale_of(w);
        assert!(
            outputs.start <= outputs.end && outputs.end <= w.cols(),
            "outputs {outputs:?} of {}",
            w.cols()
        );
        assert!(
            w.rows() <= x.stride(),
            "{} inputs, activations {} apart",
            w.rows(),
            x.stride()
        );
        assert_eq!(out.rows(), x.tokens(), "output rows and tokens");
        assert_eq!(out.width(), outputs.len(), "output columns and outputs");
        let job = Columns {
            w,
            range: outputs,
            x,
            share,
        };
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { (self.t2_columns)(&job, &mut out.as_sums()) };
        scale
    }
}

/// The scale of a matrix that is stored transposed.
fn scale_of(w: &MatrixRef<'_>) -> f32 {
    match (w.layout(), w.scales()) {
        (Layout::T2, Scales::Tensor(scale)) => scale,
        (layout, scales) => panic!(
            "{layout} with {} is not multiplied transposed",
            scales.kind()
        ),
    }
}
