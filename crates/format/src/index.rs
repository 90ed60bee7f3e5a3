//! The validated header of a packed file.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::container::Container;
use crate::contents::{Content, TensorKind, contents, layout_of};
use crate::dense;
use crate::error::FormatError;
use crate::json;
use crate::layout::{ATOM_BYTES, Layout};
use crate::matrix::{MatrixRef, Scales};
use crate::meta::{FORMAT_VERSION, KNOWN_FEATURES, MatrixMeta, Meta, SCALES_TENSOR, ScaleMeta};

/// Values that metadata may have at most: several for each of the tensors a file may have.
const MAX_VALUES: usize = 1 << 21;

/// The metadata of a packed file and the places of its tensors. It owns no tensor bytes, so it
/// works with any source of them; [`PackedFile`](crate::PackedFile) keeps the two together.
#[derive(Clone, Debug)]
pub struct Index {
    meta: Meta,
    places: BTreeMap<String, Place>,
}

#[derive(Clone, Debug)]
struct Place {
    kind: TensorKind,
    range: Range<usize>,
}

/// The fields that say whether the rest can be understood.
#[derive(Deserialize)]
struct Preamble {
    format_version: u64,
    #[serde(default)]
    required_features: Vec<String>,
}

impl Index {
    /// Parses and validates a whole file. Reads the header, the scales and the vectors, not the weights.
    ///
    /// Afterwards every tensor is known to lie inside `bytes` at a multiple of 64 bytes from their
    /// start and to have exactly the size that its layout demands, and vectors and scales but those of groups are known to be finite.
    ///
    /// # Errors
    /// Of kind [`Unsupported`](crate::ErrorKind::Unsupported) when a later version of the format
    /// may know better, of kind [`Malformed`](crate::ErrorKind::Malformed) otherwise.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let container = Container::parse(bytes)?;
        let meta = parse_meta(&container.metadata)?;
        let contents = contents(&meta)?;
        let places = match_tensors(&container, &contents)?;
        check_hash_names(&meta, &contents)?;
        let index = Self { meta, places };
        index.check_scales(bytes)?;
        index.check_vectors(bytes)?;
        Ok(index)
    }

    /// The metadata.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Whether there is a matrix, vector or blob of this name.
    pub fn has(&self, name: &str) -> bool {
        self.places
            .get(name)
            .is_some_and(|place| place.kind != TensorKind::Scales)
    }

    /// Every tensor in file order: its name, what it is for, and its bytes with padding.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, TensorKind, Range<usize>)> {
        let mut tensors: Vec<_> = self
            .places
            .iter()
            .map(|(name, place)| (name.as_str(), place.kind, place.range.clone()))
            .collect();
        tensors.sort_by_key(|(_, _, range)| range.start);
        tensors.into_iter()
    }

    /// Where the tensor `name` is, with its padding.
    pub fn range(&self, name: &str) -> Option<Range<usize>> {
        self.places.get(name).map(|place| place.range.clone())
    }

    /// The matrix `name` in `bytes`, which must be those that were parsed and start on a 64-byte
    /// boundary.
    ///
    /// # Errors
    /// When there is no such matrix, and when these are other bytes or unaligned ones.
    pub fn matrix<'a>(&self, bytes: &'a [u8], name: &str) -> Result<MatrixRef<'a>, FormatError> {
        let meta = self
            .meta
            .matrices
            .get(name)
            .ok_or_else(|| missing(name, "a matrix"))?;
        let layout = layout_of(name, meta)?;
        let scales = self.scales(bytes, name)?;
        MatrixRef::new(
            layout,
            meta.rows,
            meta.cols,
            self.slice(bytes, name)?,
            scales,
        )
        .map_err(|source| FormatError::Shape {
            tensor: name.to_owned(),
            source,
        })
    }

    /// The vector `name` in `bytes`, without its padding; see [`matrix`](Index::matrix).
    ///
    /// # Errors
    /// When there is no such vector, and when these are other bytes or unaligned ones.
    pub fn vector<'a>(&self, bytes: &'a [u8], name: &str) -> Result<&'a [f32], FormatError> {
        let len = *self
            .meta
            .vectors
            .get(name)
            .ok_or_else(|| missing(name, "a vector"))?;
        elements(self.slice(bytes, name)?, len)
    }

    /// The byte string `name` in `bytes`, without its padding; see [`matrix`](Index::matrix).
    ///
    /// # Errors
    /// When there is no such byte string, and when these are other bytes.
    pub fn blob<'a>(&self, bytes: &'a [u8], name: &str) -> Result<&'a [u8], FormatError> {
        let len = *self
            .meta
            .blobs
            .get(name)
            .ok_or_else(|| missing(name, "a blob"))?;
        elements(self.slice(bytes, name)?, len)
    }

    /// Compares every tensor of `bytes` with its hash in the metadata, and looks for codes that are none and scales of groups that are not
    /// finite.
    ///
    /// # Errors
    /// For the first tensor in file order that differs or has such a code.
    pub fn check_hashes(&self, bytes: &[u8]) -> Result<(), FormatError> {
        for (name, kind, range) in self.tensors() {
            let tensor = slice(bytes, range, name)?;
            if let (TensorKind::Matrix(layout), Some(meta)) = (kind, self.meta.matrices.get(name)) {
                check_matrix(name, layout, meta, tensor)?;
            }
            let found = hex(&Sha256::digest(tensor));
            let expected = self.meta.sha256.get(name).cloned().unwrap_or_default();
            if found != expected {
                return Err(FormatError::Hash {
                    tensor: name.to_owned(),
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }

    fn slice<'a>(&self, bytes: &'a [u8], name: &str) -> Result<&'a [u8], FormatError> {
        let place = self
            .places
            .get(name)
            .ok_or_else(|| missing(name, "a tensor"))?;
        slice(bytes, place.range.clone(), name)
    }

    fn scales<'a>(&self, bytes: &'a [u8], name: &str) -> Result<Scales<'a>, FormatError> {
        let meta = self
            .meta
            .matrices
            .get(name)
            .ok_or_else(|| missing(name, "a matrix"))?;
        Ok(match &meta.scale {
            ScaleMeta::None => Scales::None,
            ScaleMeta::Tensor { index } => {
                let one = self.slice(bytes, SCALES_TENSOR)?.as_chunks().0.get(*index);
                Scales::Tensor(f32::from_le_bytes(
                    *one.ok_or_else(|| missing(name, "a scale"))?,
                ))
            }
            ScaleMeta::Rows { tensor } => {
                Scales::Rows(elements(self.slice(bytes, tensor)?, meta.rows)?)
            }
            ScaleMeta::Groups { size } => Scales::Groups { size: *size },
        })
    }

    /// Checks that the numbers of all vectors are finite.
    fn check_vectors(&self, bytes: &[u8]) -> Result<(), FormatError> {
        for (name, len) in &self.meta.vectors {
            let values = self.slice(bytes, name)?.as_chunks().0.iter().take(*len);
            let finite = |value: &[u8; 4]| f32::from_le_bytes(*value).is_finite();
            if let Some(at) = values.into_iter().position(|value| !finite(value)) {
                let found = format!("another one at index {at}");
                return Err(FormatError::tensor(name, "finite numbers", found));
            }
        }
        Ok(())
    }

    /// Checks scales bytewise: the bytes of a file that is only parsed need no alignment.
    fn check_scales(&self, bytes: &[u8]) -> Result<(), FormatError> {
        for (name, meta) in &self.meta.matrices {
            match &meta.scale {
                // Scales of groups are spread over all weights, which opening does not read.
                ScaleMeta::None | ScaleMeta::Groups { .. } => {}
                ScaleMeta::Tensor { index } => {
                    let values = self.slice(bytes, SCALES_TENSOR)?.as_chunks().0;
                    let one = values.iter().skip(*index).take(1);
                    check_values(name, one.map(|b| f32::from_le_bytes(*b)), true)?;
                }
                ScaleMeta::Rows { tensor } => {
                    let values = self.slice(bytes, tensor)?.as_chunks().0;
                    check_values(tensor, values.iter().map(|b| f32::from_le_bytes(*b)), false)?;
                }
            }
        }
        Ok(())
    }
}

/// Whether some of these `f16` are infinite, not numbers, or below zero.
fn has_unusable(values: &[[u8; 2]]) -> bool {
    values.iter().fold(false, |found, bytes| {
        let bits = u16::from_le_bytes(*bytes);
        found | (bits & 0x7fff >= 0x7c00) | (bits > 0x8000)
    })
}

/// Refuses scales that are not finite, negative, or zero where `positive` is asked for.
pub(crate) fn check_values(
    tensor: &str,
    mut values: impl Iterator<Item = f32>,
    positive: bool,
) -> Result<(), FormatError> {
    let wrong =
        values.position(|value| !value.is_finite() || value < 0.0 || (positive && value == 0.0));
    match wrong {
        None => Ok(()),
        Some(at) => {
            let sign = if positive { "positive" } else { "non-negative" };
            let expected = format!("finite {sign} scales");
            Err(FormatError::tensor(
                tensor,
                expected,
                format!("another number at index {at}"),
            ))
        }
    }
}

/// Refuses codes of a matrix that are none, and scales of groups that are not finite.
fn check_matrix(
    name: &str,
    layout: Layout,
    meta: &MatrixMeta,
    tensor: &[u8],
) -> Result<(), FormatError> {
    let grouped = matches!(meta.scale, ScaleMeta::Groups { .. });
    let packs = layout.packs(grouped);
    let band_bytes = layout.stored_band_bytes(meta.cols, grouped);
    let band_bytes = band_bytes.unwrap_or(0).max(1);
    let scale_bytes = packs.scale_lines * ATOM_BYTES;
    let pack_bytes = match grouped {
        true => packs.bytes(),
        false => band_bytes,
    };
    for (b, band) in tensor.chunks(band_bytes).enumerate() {
        for (p, pack) in band.chunks(pack_bytes).enumerate() {
            let start = b * band_bytes + p * pack_bytes;
            let (scales, codes) = pack.split_at(scale_bytes.min(pack.len()));
            check_group_scales(name, scales, start)?;
            check_codes(name, layout, codes, start + scale_bytes)?;
        }
    }
    Ok(())
}

/// Refuses codes that are none; the first byte is byte `start` of the tensor.
fn check_codes(name: &str, layout: Layout, codes: &[u8], start: usize) -> Result<(), FormatError> {
    let (wrong, expected) = match layout {
        Layout::T2 | Layout::T2R16 => {
            let has_three = |byte: &u8| byte & (byte >> 1) & 0x55 != 0;
            (codes.iter().position(has_three), "codes 0, 1 and 2")
        }
        Layout::T5 | Layout::T5R5 => {
            let is_none = |byte: &u8| !dense::is_canonical(*byte);
            let wrong = codes.iter().position(is_none);
            (wrong, "bytes of five codes 0, 1 and 2")
        }
        _ => return Ok(()),
    };
    let Some(at) = wrong else {
        return Ok(());
    };
    let found = match layout {
        Layout::T5 | Layout::T5R5 => format!("{} in byte {}", codes[at], start + at),
        _ => format!("code 3 in byte {}", start + at),
    };
    Err(FormatError::tensor(name, expected, found))
}

/// Refuses scales of groups that are not finite or below zero; the first is at byte `start` of the tensor.
pub(crate) fn check_group_scales(
    name: &str,
    scales: &[u8],
    start: usize,
) -> Result<(), FormatError> {
    let values = scales.as_chunks().0;
    // There are millions of them: their bits tell sooner than their values.
    if !has_unusable(values) {
        return Ok(());
    }
    let wrong = |bytes: &[u8; 2]| has_unusable(std::slice::from_ref(bytes));
    let at = start + 2 * values.iter().position(wrong).unwrap_or(0);
    Err(FormatError::tensor(
        name,
        "finite non-negative scales of groups",
        format!("another number in byte {at}"),
    ))
}

/// The hash that a file's metadata has for a blob of these bytes: SHA-256 of them with their padding.
pub fn blob_sha256(bytes: &[u8]) -> [u8; 32] {
    let padding = bytes.len().next_multiple_of(ATOM_BYTES) - bytes.len();
    let mut hash = Sha256::new();
    hash.update(bytes);
    hash.update(&[0; ATOM_BYTES][..padding]);
    hash.finalize().into()
}

/// Bytes in lowercase hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_meta(text: &str) -> Result<Meta, FormatError> {
    let wrong = |error| FormatError::metadata("onebit", "metadata of a packed file", error);
    json::check(text.as_bytes(), MAX_VALUES).map_err(wrong)?;
    let preamble: Preamble = serde_json::from_str(text).map_err(wrong)?;
    if preamble.format_version != u64::from(FORMAT_VERSION) {
        let found = preamble.format_version;
        return Err(FormatError::Version {
            expected: FORMAT_VERSION,
            found,
        });
    }
    for feature in preamble.required_features {
        if !KNOWN_FEATURES.contains(&feature.as_str()) {
            return Err(FormatError::Feature { feature });
        }
    }
    let meta = serde_json::from_str(text);
    meta.map_err(|error| scales_apart(text).unwrap_or_else(|| wrong(error)))
}

/// What is wrong with a file that was written before scales of groups stood among the weights.
fn scales_apart(text: &str) -> Option<FormatError> {
    let meta: serde_json::Value = serde_json::from_str(text).ok()?;
    let mut matrices = meta.get("matrices")?.as_object()?.iter();
    let apart = |matrix: &serde_json::Value| matrix.pointer("/scale/groups/tensor").is_some();
    let (name, _) = matrices.find(|(_, matrix)| apart(matrix))?;
    Some(FormatError::metadata(
        format!("matrices.{name}.scale"),
        "scales of groups among the weights",
        "a tensor of them, as in files of earlier versions: convert the checkpoint again",
    ))
}

/// Checks that container and metadata have the same tensors with the same types and shapes.
fn match_tensors(
    container: &Container,
    contents: &BTreeMap<String, Content>,
) -> Result<BTreeMap<String, Place>, FormatError> {
    let mut places = BTreeMap::new();
    for (name, info) in &container.tensors {
        let content = contents.get(name);
        let content =
            content.ok_or_else(|| FormatError::tensor(name, "an entry in the metadata", "none"))?;
        if (info.dtype, &info.shape) != (content.dtype, &content.shape) {
            let expected = format!("{} {:?}", content.dtype, content.shape);
            let found = format!("{} {:?}", info.dtype, info.shape);
            return Err(FormatError::tensor(name, expected, found));
        }
        places.insert(
            name.clone(),
            Place {
                kind: content.kind,
                range: container.range(info),
            },
        );
    }
    match contents.keys().find(|name| !places.contains_key(*name)) {
        None => Ok(places),
        Some(name) => Err(FormatError::tensor(name, "a tensor in the file", "none")),
    }
}

fn check_hash_names(meta: &Meta, contents: &BTreeMap<String, Content>) -> Result<(), FormatError> {
    for (name, hash) in &meta.sha256 {
        if !contents.contains_key(name) {
            return Err(FormatError::metadata("sha256", "names of tensors", name));
        }
        let digits = hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if hash.len() != 64 || !digits {
            let field = format!("sha256.{name}");
            return Err(FormatError::metadata(
                field,
                "64 lowercase hexadecimal digits",
                hash,
            ));
        }
    }
    match contents
        .keys()
        .find(|name| !meta.sha256.contains_key(*name))
    {
        None => Ok(()),
        Some(name) => Err(FormatError::metadata(
            "sha256",
            format!("an entry `{name}`"),
            "none",
        )),
    }
}

fn missing(tensor: &str, expected: &'static str) -> FormatError {
    FormatError::Missing {
        tensor: tensor.to_owned(),
        expected,
    }
}

fn slice<'a>(bytes: &'a [u8], range: Range<usize>, name: &str) -> Result<&'a [u8], FormatError> {
    let found = format!("{} bytes", bytes.len());
    let expected = format!("bytes {} to {}", range.start, range.end);
    bytes
        .get(range)
        .ok_or_else(|| FormatError::tensor(name, expected, found))
}

/// The first `len` elements of a padded tensor.
fn elements<T: bytemuck::Pod>(bytes: &[u8], len: usize) -> Result<&[T], FormatError> {
    let values = bytemuck::try_cast_slice(bytes);
    let values = values.map_err(|_| FormatError::Alignment {
        expected: ATOM_BYTES,
    })?;
    values
        .get(..len)
        .ok_or_else(|| FormatError::container(format!("{len} elements"), values.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_say_what_values_say() {
        for bits in 0..=u16::MAX {
            let value = half::f16::from_bits(bits).to_f32();
            let unusable = check_values("scales", [value].into_iter(), false).is_err();
            let found = has_unusable(&[[0; 2], bits.to_le_bytes()]);
            assert_eq!(found, unusable, "{bits:#06x}");
        }
    }
}
