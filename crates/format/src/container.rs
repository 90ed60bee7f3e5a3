//! The outer format: a safetensors header, and the additional rules a packed file follows.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::error::FormatError;
use crate::json::Shape;
use crate::layout::ATOM_BYTES;
use crate::meta::METADATA_KEY;

/// Bytes a header may have at most.
pub(crate) const MAX_HEADER_BYTES: usize = 64 << 20;
/// Tensors a file may have at most.
pub(crate) const MAX_TENSORS: usize = 1 << 16;
/// Bytes of the header's length, which precedes it.
pub(crate) const PREFIX_BYTES: usize = 8;

/// The name a container reserves for its metadata.
pub(crate) const RESERVED_NAME: &str = "__metadata__";

/// A container whose tensors cover the file without holes and start on 64-byte boundaries.
#[derive(Debug)]
pub(crate) struct Container {
    /// The JSON text of the metadata.
    pub(crate) metadata: String,
    /// The tensors in file order.
    pub(crate) tensors: Vec<(String, TensorInfo)>,
    /// Where the first tensor starts.
    pub(crate) data_start: usize,
}

impl Container {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let range = header_range(bytes)?;
        let data_start = range.end;
        let mut header: Header = serde_json::from_slice(&bytes[range])
            .map_err(|error| FormatError::container("a safetensors header in JSON", error))?;
        let text = header.metadata.get(METADATA_KEY).cloned().ok_or_else(|| {
            let expected = format!("`{METADATA_KEY}` in the metadata of the safetensors file");
            FormatError::container(expected, "a safetensors file without it")
        })?;
        if !data_start.is_multiple_of(ATOM_BYTES) {
            let expected = format!("tensors that start at a multiple of {ATOM_BYTES} bytes");
            return Err(FormatError::container(
                expected,
                format!("a start at byte {data_start}"),
            ));
        }
        header.tensors.sort_by_key(|(_, info)| info.data_offsets);
        for (name, info) in &header.tensors {
            check_info(name, info)?;
        }
        let Header { metadata, tensors } = header;
        let metadata = Metadata::new(Some(metadata), tensors.clone()).map_err(explain)?;
        check_length(bytes.len(), data_start, metadata.data_len())?;
        Ok(Self {
            metadata: text,
            tensors,
            data_start,
        })
    }

    /// Where in the file a tensor lies.
    pub(crate) fn range(&self, info: &TensorInfo) -> Range<usize> {
        let (start, end) = info.data_offsets;
        self.data_start + start..self.data_start + end
    }
}

/// The bytes of the JSON header.
fn header_range(bytes: &[u8]) -> Result<Range<usize>, FormatError> {
    let Some(prefix) = bytes.first_chunk::<PREFIX_BYTES>() else {
        let found = format!("{} bytes", bytes.len());
        return Err(FormatError::container("a header length of 8 bytes", found));
    };
    let len = u64::from_le_bytes(*prefix);
    if len > MAX_HEADER_BYTES as u64 {
        let expected = format!("a header of at most {MAX_HEADER_BYTES} bytes");
        return Err(FormatError::container(
            expected,
            format!("a length of {len}"),
        ));
    }
    let end = PREFIX_BYTES + len as usize;
    if end > bytes.len() {
        let found = format!("a file of {} bytes", bytes.len());
        return Err(FormatError::container(
            format!("a header of {len} bytes"),
            found,
        ));
    }
    if bytes[PREFIX_BYTES..end].first() != Some(&b'{') {
        return Err(FormatError::container(
            "a safetensors header in JSON",
            "other bytes",
        ));
    }
    Ok(PREFIX_BYTES..end)
}

/// Checks what can be wrong with one tensor alone.
fn check_info(name: &str, info: &TensorInfo) -> Result<(), FormatError> {
    let (start, end) = info.data_offsets;
    let found = || format!("bytes {start} to {end}");
    let bits = info
        .shape
        .iter()
        .try_fold(info.dtype.bitsize(), |bits, dim| bits.checked_mul(*dim))
        .ok_or_else(|| {
            FormatError::tensor(
                name,
                "a size that can be addressed",
                format!("{:?}", info.shape),
            )
        })?;
    if end.checked_sub(start) != Some(bits / 8) || !bits.is_multiple_of(8) {
        let expected = format!("{} bytes of {} {:?}", bits / 8, info.dtype, info.shape);
        return Err(FormatError::tensor(name, expected, found()));
    }
    if start == end {
        return Err(FormatError::tensor(name, "at least one byte", found()));
    }
    if !start.is_multiple_of(ATOM_BYTES) {
        return Err(FormatError::tensor(
            name,
            "a start on a 64-byte boundary",
            found(),
        ));
    }
    Ok(())
}

fn explain(error: SafeTensorError) -> FormatError {
    match error {
        SafeTensorError::InvalidOffset(name) => FormatError::tensor(
            name,
            "a start where the tensor before it ends",
            "a hole or overlap",
        ),
        error => FormatError::container("a valid safetensors header", error),
    }
}

fn check_length(len: usize, data_start: usize, data_len: usize) -> Result<(), FormatError> {
    if data_start.checked_add(data_len) == Some(len) {
        return Ok(());
    }
    let expected = format!("{data_len} bytes of tensors after a header of {data_start}");
    Err(FormatError::container(
        expected,
        format!("a file of {len} bytes"),
    ))
}

struct Header {
    metadata: HashMap<String, String>,
    tensors: Vec<(String, TensorInfo)>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

/// Reads entry by entry, so that an error can name its tensor and a name cannot occur twice.
struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut metadata = None;
        let mut tensors: HashMap<String, Entry> = HashMap::new();
        while let Some(name) = map.next_key::<String>()? {
            let twice = if name == RESERVED_NAME {
                metadata.replace(map.next_value()?).is_some()
            } else {
                let info = map.next_value();
                let info = info.map_err(|e| A::Error::custom(format!("tensor `{name}`: {e}")))?;
                tensors.insert(name.clone(), info).is_some()
            };
            if twice {
                return Err(A::Error::custom(format!("`{name}` occurs twice")));
            }
            if tensors.len() > MAX_TENSORS {
                return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
            }
        }
        let metadata = metadata.unwrap_or_default();
        Ok(Header {
            metadata,
            tensors: tensors
                .into_iter()
                .map(|(name, entry)| (name, entry.into()))
                .collect(),
        })
    }
}

/// A tensor in the header. No list is longer than its field allows, whatever the file says.
#[derive(Deserialize)]
struct Entry {
    dtype: Dtype,
    shape: Shape,
    data_offsets: (usize, usize),
}

impl From<Entry> for TensorInfo {
    fn from(entry: Entry) -> Self {
        Self {
            dtype: entry.dtype,
            shape: entry.shape.0,
            data_offsets: entry.data_offsets,
        }
    }
}
