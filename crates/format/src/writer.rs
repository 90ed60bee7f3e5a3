//! Writing a packed file.

use std::path::Path;

use crate::error::FormatError;
use crate::matrix::Scales;
use crate::meta::Provenance;
use crate::plan::Plan;

/// Writes a packed file tensor by tensor in the order of its [`Plan`].
pub struct Writer {
    plan: Plan,
}

impl Writer {
    /// Starts a file that will appear at `path` when it is finished.
    pub fn create(path: &Path, plan: Plan) -> Result<Self, FormatError> {
        let _ = path;
        Ok(Self { plan })
    }

    /// Provenance, which may be completed until the file is finished: the header has room for
    /// hashes that were still empty in the plan.
    pub fn provenance_mut(&mut self) -> &mut Provenance {
        &mut self.plan.provenance
    }

    /// Starts the next tensor, which must be the matrix `name`.
    pub fn write_matrix(&mut self, name: &str) -> Result<MatrixWriter<'_>, FormatError> {
        let _ = name;
        todo!()
    }

    /// Writes the next tensor, which must be the vector `name`.
    pub fn write_vector(&mut self, name: &str, values: &[f32]) -> Result<(), FormatError> {
        let _ = (name, values);
        todo!()
    }

    /// Writes the next tensor, which must be the byte string `name`.
    pub fn write_blob(&mut self, name: &str, bytes: &[u8]) -> Result<(), FormatError> {
        let _ = (name, bytes);
        todo!()
    }

    /// Completes the header, makes the file durable and moves it to its path. Returns its length.
    pub fn finish(self) -> Result<u64, FormatError> {
        todo!()
    }
}

/// Takes the rows of one matrix, see [`Writer::write_matrix`].
pub struct MatrixWriter<'w> {
    writer: &'w mut Writer,
}

impl MatrixWriter<'_> {
    /// Writes one or more whole packed rows.
    pub fn rows(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        let _ = (bytes, &self.writer);
        todo!()
    }

    /// Ends the matrix with its scales.
    pub fn finish(self, scales: Scales<'_>) -> Result<(), FormatError> {
        let _ = scales;
        todo!()
    }
}
