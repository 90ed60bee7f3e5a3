//! Parsers of single files, for fuzz targets. Not part of the interface.

use crate::config::fields::Fields;
use crate::config::{self, generation};
use crate::error::Result;
use crate::family;
use crate::source::{index, json};

/// Reads bytes as `config.json`, and as `generation_config.json` beside it.
pub fn config(bytes: &[u8]) -> Result<()> {
    let object = json::parse_object("config.json", bytes)?;
    let fields = Fields::new(&object, "config.json: ");
    let family = family::find(fields)?;
    config::parse(fields, family)?;
    generation::parse(fields, fields, family)?;
    Ok(())
}

/// Reads bytes as `model.safetensors.index.json`.
pub fn index_json(bytes: &[u8]) -> Result<()> {
    index::parse(bytes).map(drop)
}
