//! Logits as a safetensors file, written row by row and visible only when complete.

use crate::exit::request;
use crate::whole_file::WholeFile;
use anyhow::{Context, ensure};
use std::path::Path;

/// A safetensors file with the one tensor `logits`, float32 `[rows, columns]`.
pub(super) struct LogitsFile {
    file: WholeFile,
    rows_left: usize,
}

impl LogitsFile {
    /// Begins the file.
    pub(super) fn create(path: &Path, rows: usize, columns: usize) -> anyhow::Result<Self> {
        let bytes = rows
            .checked_mul(columns)
            .and_then(|n| n.checked_mul(size_of::<f32>()))
            .ok_or_else(|| request("the logits are too large for a file"))?;
        let mut header = format!(
            r#"{{"logits":{{"dtype":"F32","shape":[{rows},{columns}],"data_offsets":[0,{bytes}]}}}}"#
        );
        header.extend(std::iter::repeat_n(
            ' ',
            header.len().next_multiple_of(8) - header.len(),
        ));
        let mut file = WholeFile::create(path)?;
        file.write(&(header.len() as u64).to_le_bytes())?;
        file.write(header.as_bytes())?;
        Ok(Self {
            file,
            rows_left: rows,
        })
    }

    /// Appends a row.
    pub(super) fn push(&mut self, row: &[f32]) -> anyhow::Result<()> {
        self.rows_left = self
            .rows_left
            .checked_sub(1)
            .context("more rows of logits than announced")?;
        self.file.write(bytemuck::cast_slice(row))
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        ensure!(
            self.rows_left == 0,
            "{} rows of logits are missing",
            self.rows_left
        );
        self.file.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::{Dtype, SafeTensors};

    #[test]
    fn others_can_read_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.safetensors");
        let mut file = LogitsFile::create(&path, 2, 3).unwrap();
        file.push(&[1.0, 2.0, 3.0]).unwrap();
        assert!(!path.exists());
        file.push(&[4.0, 5.0, 6.0]).unwrap();
        file.finish().unwrap();

        let bytes = std::fs::read(&path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let logits = tensors.tensor("logits").unwrap();
        assert_eq!((logits.dtype(), logits.shape()), (Dtype::F32, &[2, 3][..]));
        let values: Vec<f32> = logits
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }

    #[test]
    fn an_unfinished_file_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = LogitsFile::create(&folder.path().join("out.safetensors"), 2, 1).unwrap();
        file.push(&[1.0]).unwrap();
        assert!(file.finish().is_err());
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
}
