//! A checkpoint folder: its JSON files and its tensors, whatever shard they are in.

pub(crate) mod file;
pub(crate) mod header;
pub(crate) mod index;
pub(crate) mod json;
pub(crate) mod shard;

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rayon::prelude::*;
use serde_json::{Map, Value};

use crate::error::{ConvertError, Result};
use crate::floats;
use crate::linear::float_layout;
use crate::source::file::{open_regular, read_optional};
use crate::source::shard::{Shard, TensorInfo};

const SINGLE: &str = "model.safetensors";
/// The JSON files of a checkpoint that are read here.
pub(crate) const FILES: [&str; 3] = ["config.json", "generation_config.json", index::INDEX];
/// Bytes read at a time by one thread.
const READ_PIECE: usize = 4 << 20;

/// An open checkpoint folder.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) dir: PathBuf,
    pub(crate) config: Map<String, Value>,
    pub(crate) generation: Map<String, Value>,
    pub(crate) shards: Vec<Shard>,
    pub(crate) tensors: BTreeMap<String, TensorInfo>,
    /// Tensors that are in a shard but that the index does not list, with that shard's name.
    pub(crate) unlisted: BTreeMap<String, String>,
    /// Memory that [`read_all`](Self::read_all) has used before; taking new memory costs as much as filling it.
    spare: Mutex<Vec<u8>>,
}

impl Checkpoint {
    /// Opens a folder and reads its configuration; see [`open_shards`](Self::open_shards) for the
    /// rest.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        check_folder(dir)?;
        let missing = || ConvertError::malformed(dir.display(), "there is no config.json");
        Ok(Self {
            dir: dir.to_path_buf(),
            config: json::read_object(dir, "config.json")?.ok_or_else(missing)?,
            generation: json::read_object(dir, "generation_config.json")?.unwrap_or_default(),
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            unlisted: BTreeMap::new(),
            spare: Mutex::default(),
        })
    }

    /// Opens the safetensors files and reads their headers. A single file wins over an index, as
    /// in `transformers`.
    pub(crate) fn open_shards(&mut self) -> Result<()> {
        if self.dir.join(SINGLE).symlink_metadata().is_ok() {
            let (shard, tensors) = Shard::open(&self.dir, SINGLE, 0)?;
            self.shards.push(shard);
            self.tensors = tensors.into_iter().map(|t| (t.name.clone(), t)).collect();
            return Ok(());
        }
        match read_optional(&self.dir.join(index::INDEX), json::MAX_JSON)? {
            Some(bytes) => self.open_indexed(index::parse(&bytes)?),
            None => Err(no_weights(&self.dir)),
        }
    }

    fn open_indexed(&mut self, map: BTreeMap<String, String>) -> Result<()> {
        let names: BTreeSet<&String> = map.values().collect();
        for (number, name) in names.into_iter().enumerate() {
            let (shard, tensors) = Shard::open(&self.dir, name, number)?;
            self.shards.push(shard);
            for tensor in tensors {
                if map.get(&tensor.name) == Some(name) {
                    self.tensors.insert(tensor.name.clone(), tensor);
                } else if !map.contains_key(&tensor.name) {
                    self.unlisted.insert(tensor.name, name.clone());
                }
            }
        }
        match map
            .iter()
            .find(|(tensor, _)| !self.tensors.contains_key(*tensor))
        {
            None => Ok(()),
            Some((tensor, shard)) => Err(ConvertError::malformed(
                format!("tensor `{tensor}`"),
                format!(
                    "{} places it in {shard}, which does not have it",
                    index::INDEX
                ),
            )),
        }
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// When there is none, or only one that the index does not list.
    pub(crate) fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        self.tensors.get(name).ok_or_else(|| {
            let reason = match self.unlisted.get(name) {
                Some(shard) => format!("it is in {shard}, but {} does not list it", index::INDEX),
                None => "the checkpoint does not have it".into(),
            };
            ConvertError::malformed(format!("tensor `{name}`"), reason)
        })
    }

    /// Fills `out` with bytes of a tensor of this checkpoint, from its byte `from` on.
    pub(crate) fn read(&self, tensor: &TensorInfo, from: u64, out: &mut [u8]) -> Result<()> {
        self.shards[tensor.shard].read(tensor, from, out)
    }

    /// Reads whole rows of a two-dimensional tensor.
    pub(crate) fn read_rows(&self, tensor: &TensorInfo, rows: Range<usize>) -> Result<Vec<u8>> {
        let row = tensor.bytes / tensor.shape[0].max(1) as u64;
        let mut bytes = vec![0; row as usize * rows.len()];
        self.read(tensor, row * rows.start as u64, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads a whole tensor, in pieces at the same time, to the start of the bytes returned; give them back with
    /// [`give_back`](Self::give_back).
    pub(crate) fn read_all(&self, tensor: &TensorInfo) -> Result<Vec<u8>> {
        let len = tensor.bytes as usize;
        let mut bytes = self
            .spare
            .lock()
            .map(|mut spare| take(&mut *spare))
            .unwrap_or_default();
        if bytes.len() < len {
            bytes = vec![0; len];
        }
        let pieces = bytes[..len].par_chunks_mut(READ_PIECE).enumerate();
        pieces.try_for_each(|(at, piece)| self.read(tensor, (at * READ_PIECE) as u64, piece))?;
        Ok(bytes)
    }

    /// Keeps memory for the next [`read_all`](Self::read_all).
    pub(crate) fn give_back(&self, bytes: Vec<u8>) {
        if let Ok(mut spare) = self.spare.lock() {
            *spare = bytes;
        }
    }

    /// Whether two float tensors hold the same numbers in the same shape.
    pub(crate) fn equal(&self, a: &TensorInfo, b: &TensorInfo) -> Result<bool> {
        let layouts = [float_layout(a)?, float_layout(b)?];
        let count: u64 = a.shape.iter().map(|size| *size as u64).product();
        let piece = 1 << 18;
        let mut values = [vec![0.0f32; piece], vec![0.0f32; piece]];
        let mut bytes = vec![0; piece * 4];
        let mut equal = a.shape == b.shape;
        for first in (0..count).step_by(piece).take_while(|_| a.shape == b.shape) {
            let len = piece.min((count - first) as usize);
            for ((tensor, layout), values) in [a, b].into_iter().zip(layouts).zip(&mut values) {
                let size = layout.dtype().bitsize() / 8;
                self.read(tensor, first * size as u64, &mut bytes[..len * size])?;
                floats::decode(layout, &bytes[..len * size], &mut values[..len]);
            }
            equal &= values[0][..len] == values[1][..len];
        }
        Ok(equal)
    }
}

/// The names of a folder's shards; a single file wins over an index. None where there is neither.
pub(crate) fn shard_names(dir: &Path) -> Result<BTreeSet<String>> {
    if dir.join(SINGLE).symlink_metadata().is_ok() {
        return Ok(BTreeSet::from([SINGLE.to_owned()]));
    }
    match read_optional(&dir.join(index::INDEX), json::MAX_JSON)? {
        Some(bytes) => Ok(index::parse(&bytes)?.into_values().collect()),
        None => Ok(BTreeSet::new()),
    }
}

pub(crate) fn check_folder(dir: &Path) -> Result<()> {
    let metadata = dir.metadata().map_err(ConvertError::source(dir))?;
    if metadata.is_dir() {
        return Ok(());
    }
    open_regular(dir)?;
    if dir
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
    {
        return Err(ConvertError::unsupported(
            dir.display(),
            "GGUF files are not converted, only folders of safetensors",
        ));
    }
    Err(ConvertError::malformed(
        dir.display(),
        "expected a checkpoint folder, found a file",
    ))
}

fn no_weights(dir: &Path) -> ConvertError {
    let other = [
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
        "consolidated.00.pth",
    ];
    match other.iter().find(|name| dir.join(name).exists()) {
        Some(name) => {
            ConvertError::unsupported(name, "weights are read from safetensors files only")
        }
        None => ConvertError::malformed(
            dir.display(),
            format!("there is no {SINGLE} and no {}", index::INDEX),
        ),
    }
}
