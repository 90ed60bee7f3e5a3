//! One safetensors file: its header, checked, and its tensors' places.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use safetensors::Dtype;
use sha2::{Digest, Sha256};

use crate::error::{ConvertError, Result};
use crate::source::file::{open_regular, read_exact_at};
use crate::source::header;

/// Largest safetensors header accepted, the bound of the format's own library.
const MAX_HEADER: u64 = 100_000_000;

/// An open safetensors file.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    path: PathBuf,
    file: File,
}

/// Where a tensor is and what it claims to be. The claim about its size is checked.
#[derive(Clone, Debug)]
pub(crate) struct TensorInfo {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: u64,
    pub(crate) shard: usize,
    offset: u64,
}

impl Shard {
    /// Opens shard number `shard` and lists its tensors, whose byte ranges cover the file without
    /// a hole or an overlap.
    pub(crate) fn open(dir: &Path, name: &str, shard: usize) -> Result<(Self, Vec<TensorInfo>)> {
        let path = dir.join(name);
        let (file, bytes) = open_regular(&path)?;
        let header = read_header(&path, name, &file, bytes)?;
        let data_start = 8 + header.len() as u64;
        let metadata = header::parse(name, &header)?;
        let (expected, found) = (metadata.data_len() as u64, bytes - data_start);
        if expected != found {
            let reason =
                format!("the header describes {expected} bytes of tensors, the file has {found}");
            return Err(ConvertError::malformed(name, reason));
        }
        let tensors = metadata
            .tensors()
            .into_iter()
            .map(|(name, info)| TensorInfo {
                name,
                dtype: info.dtype,
                shape: info.shape.clone(),
                bytes: (info.data_offsets.1 - info.data_offsets.0) as u64,
                shard,
                offset: data_start + info.data_offsets.0 as u64,
            });
        let tensors = tensors.collect();
        Ok((
            Self {
                name: name.to_owned(),
                bytes,
                path,
                file,
            },
            tensors,
        ))
    }

    /// Fills `out` with bytes of a tensor, from its byte `from` on.
    pub(crate) fn read(&self, tensor: &TensorInfo, from: u64, out: &mut [u8]) -> Result<()> {
        debug_assert!(from + out.len() as u64 <= tensor.bytes, "beyond the tensor");
        read_exact_at(&self.file, out, tensor.offset + from)
            .map_err(ConvertError::source(&self.path))
    }

    /// SHA-256 of the whole file in lowercase hexadecimal, read in pieces; of less when `stop` is
    /// set meanwhile.
    pub(crate) fn sha256(&self, stop: &AtomicBool) -> Result<String> {
        let mut hash = Sha256::new();
        let mut piece = vec![0; 1 << 20];
        let mut offset = 0;
        while offset < self.bytes && !stop.load(Ordering::Relaxed) {
            let len = piece.len().min((self.bytes - offset) as usize);
            read_exact_at(&self.file, &mut piece[..len], offset)
                .map_err(ConvertError::source(&self.path))?;
            hash.update(&piece[..len]);
            offset += len as u64;
        }
        Ok(hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }
}

fn read_header(path: &Path, name: &str, file: &File, bytes: u64) -> Result<Vec<u8>> {
    let short = |reason: String| ConvertError::malformed(name, reason);
    if bytes < 8 {
        return Err(short(format!(
            "{bytes} bytes are too few for a safetensors file"
        )));
    }
    let mut len = [0; 8];
    read_exact_at(file, &mut len, 0).map_err(ConvertError::source(path))?;
    let len = u64::from_le_bytes(len);
    if len > MAX_HEADER || len > bytes - 8 {
        return Err(short(format!(
            "a header of {len} bytes does not fit in a file of {bytes} bytes"
        )));
    }
    let mut header = vec![0; len as usize];
    read_exact_at(file, &mut header, 8).map_err(ConvertError::source(path))?;
    Ok(header)
}
