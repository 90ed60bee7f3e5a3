//! What a conversion did.

use std::fmt;
use std::path::{Path, PathBuf};

use onebit_format::Layout;
use serde::{Serialize, Serializer};

use crate::verify::Verification;

/// What [`convert`](crate::convert()) wrote.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The packed file.
    #[serde(serialize_with = "lossy")]
    pub output: PathBuf,
    /// `architectures[0]` of the checkpoint.
    pub architecture: String,
    /// The matrices, in file order. Vectors and byte strings are in `file_bytes` only.
    pub matrices: Vec<MatrixReport>,
    /// Sum of the sizes of the safetensors files read.
    pub source_bytes: u64,
    /// Size of the packed file.
    pub file_bytes: u64,
    /// Decisions worth knowing, each a sentence.
    pub notes: Vec<String>,
    /// How the packed file compares with its source, where that was asked for.
    pub verify: Option<Verification>,
}

/// One matrix of a [`Report`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MatrixReport {
    /// Its name in the packed file.
    pub name: String,
    /// Its name in the checkpoint.
    pub source: String,
    /// Rows: outputs.
    pub rows: usize,
    /// Columns: inputs.
    pub cols: usize,
    /// How it is stored; serialized as its id.
    #[serde(serialize_with = "id")]
    pub layout: Layout,
    /// Whether inputs are its stored rows, so that those that are zero need not be read.
    pub transposed: bool,
    /// Bytes stored, scales and padding included.
    pub bytes: u64,
    /// How many weights are -1, 0 and +1; `None` for matrices that are not ternary.
    pub counts: Option<[u64; 3]>,
}

fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

fn id<S: Serializer>(layout: &Layout, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(layout.id())
}

impl MatrixReport {
    /// Shares of -1, 0 and +1.
    pub fn shares(&self) -> Option<[f64; 3]> {
        let total = (self.rows as u64 * self.cols as u64).max(1) as f64;
        self.counts
            .map(|counts| counts.map(|count| count as f64 / total))
    }

    /// Whether the matrix is ternary and all its weights are zero: it computes nothing.
    pub fn is_all_zero(&self) -> bool {
        matches!(self.counts, Some([0, _, 0]))
    }
}

impl Report {
    /// Shares of -1, 0 and +1 over all ternary matrices; `None` when there are none.
    pub fn shares(&self) -> Option<[f64; 3]> {
        let mut sum = [0u64; 3];
        for counts in self.matrices.iter().filter_map(|matrix| matrix.counts) {
            for (sum, count) in sum.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        let total = sum.iter().sum::<u64>();
        (total > 0).then(|| sum.map(|count| count as f64 / total as f64))
    }

    /// Sums of bytes per layout, in the order of [`Layout::ALL`].
    pub fn bytes_by_layout(&self) -> Vec<(Layout, u64)> {
        let sum = |layout| -> u64 {
            self.matrices
                .iter()
                .filter(|matrix| matrix.layout == layout)
                .map(|matrix| matrix.bytes)
                .sum()
        };
        Layout::ALL
            .iter()
            .map(|layout| (*layout, sum(*layout)))
            .filter(|(_, bytes)| *bytes > 0)
            .collect()
    }
}

impl fmt::Display for Report {
    /// A table of the matrices, the totals and the notes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self
            .matrices
            .iter()
            .map(|matrix| matrix.name.len())
            .max()
            .unwrap_or(0)
            .max(6);
        writeln!(
            f,
            "{:width$} {:>14} {:>5} {:>12} {:>7} {:>7} {:>7}",
            "matrix", "shape", "type", "bytes", "-1", "0", "+1"
        )?;
        for matrix in &self.matrices {
            let shape = format!("{} x {}", matrix.rows, matrix.cols);
            write!(
                f,
                "{:width$} {shape:>14} {:>5} {:>12}",
                matrix.name,
                matrix.layout.name(),
                matrix.bytes
            )?;
            for share in matrix.shares().into_iter().flatten() {
                write!(f, " {:6.2}%", share * 100.0)?;
            }
            f.write_str(if matrix.transposed {
                "  by columns"
            } else {
                ""
            })?;
            f.write_str(if matrix.is_all_zero() {
                "  all weights are zero"
            } else {
                ""
            })?;
            writeln!(f)?;
        }
        if let Some([minus, zero, plus]) = self.shares() {
            let [minus, zero, plus] = [minus * 100.0, zero * 100.0, plus * 100.0];
            writeln!(
                f,
                "ternary and binary weights: {minus:.2}% -1, {zero:.2}% 0, {plus:.2}% +1, each read back and compared"
            )?;
        }
        for (layout, bytes) in self.bytes_by_layout() {
            writeln!(f, "{}: {bytes} bytes", layout.name())?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        if let Some(verification) = &self.verify {
            writeln!(f, "verified: {verification}")?;
        }
        let share = self.file_bytes as f64 / self.source_bytes.max(1) as f64 * 100.0;
        let (path, bytes, source) = (self.output.display(), self.file_bytes, self.source_bytes);
        write!(
            f,
            "{path}: {bytes} bytes, {share:.1}% of the source's {source}"
        )
    }
}
