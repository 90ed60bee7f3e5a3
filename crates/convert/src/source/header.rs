//! The JSON header of a safetensors file, in memory that is bounded by what a real one takes.

use std::collections::HashMap;
use std::fmt;

use onebit_format::json::Shape;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;
use serde::de::value::{Error as PlainError, StrDeserializer};
use serde::de::{Deserializer, Error as _, IntoDeserializer, MapAccess, Visitor};

use crate::error::{ConvertError, Result};
use crate::source::json;

/// Most tensors in one file.
const MAX_TENSORS: usize = 1 << 17;

/// Parses the header of the file `name`. The tensors cover the rest of the file without holes or overlaps, and their
/// sizes follow from their types and shapes.
pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<Metadata> {
    let malformed = |error: serde_json::Error| ConvertError::malformed(name, error);
    let header: Header = serde_json::from_slice(bytes).map_err(malformed)?;
    json::check_unique_keys(name, bytes)?;
    let mut tensors = Vec::with_capacity(header.tensors.len());
    for (tensor, entry) in header.tensors {
        let dtype: StrDeserializer<'_, PlainError> = entry.dtype.as_str().into_deserializer();
        let dtype = Dtype::deserialize(dtype).map_err(|_| {
            let subject = format!("tensor `{tensor}` of type \"{}\"", entry.dtype);
            ConvertError::unsupported(subject, format!("no such type is known ({name})"))
        })?;
        let info = TensorInfo {
            dtype,
            shape: entry.shape.0,
            data_offsets: entry.data_offsets,
        };
        tensors.push((tensor, info));
    }
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    Metadata::new(header.metadata, tensors).map_err(|error| ConvertError::malformed(name, error))
}

struct Header {
    metadata: Option<HashMap<String, String>>,
    tensors: Vec<(String, Entry)>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Shape,
    data_offsets: (usize, usize),
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header {
            metadata: None,
            tensors: Vec::new(),
        };
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                header.metadata = map.next_value()?;
                continue;
            }
            let entry = map.next_value();
            let entry = entry.map_err(|e| A::Error::custom(format!("tensor `{name}`: {e}")))?;
            if header.tensors.len() == MAX_TENSORS {
                return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
            }
            header.tensors.push((name, entry));
        }
        Ok(header)
    }
}
