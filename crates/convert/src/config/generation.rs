//! Generation defaults: `generation_config.json` over `config.json` over the architecture's own.

use onebit_format::GenerationDefaults;

use crate::config::fields::Fields;
use crate::error::Result;
use crate::family::Family;

/// Merges the defaults for generation.
pub(crate) fn parse(
    config: Fields<'_>,
    generation: Fields<'_>,
    family: &Family,
) -> Result<GenerationDefaults> {
    Ok(GenerationDefaults {
        bos: token(config, generation, "bos_token_id")?
            .unwrap_or_else(|| family.defaults.bos.into_iter().collect())
            .first()
            .copied(),
        eos: token(config, generation, "eos_token_id")?
            .unwrap_or_else(|| family.defaults.eos.into_iter().collect()),
        do_sample: generation.bool("do_sample")?,
        temperature: number(generation, "temperature", f32::MAX)?,
        top_k: generation.u32("top_k")?,
        top_p: number(generation, "top_p", 1.0)?,
        min_p: number(generation, "min_p", 1.0)?,
        repetition_penalty: positive(generation, "repetition_penalty")?,
    })
}

/// The ids of the first file that gives any; an explicit null in `config.json` means none.
fn token(config: Fields<'_>, generation: Fields<'_>, key: &str) -> Result<Option<Vec<u32>>> {
    let general = config.ids(key)?;
    let ids = generation.ids(key)?.or(general);
    Ok(if ids.is_none() && config.given(key) {
        Some(Vec::new())
    } else {
        ids
    })
}

/// A number in `0..=max`.
fn number(fields: Fields<'_>, key: &str, max: f32) -> Result<Option<f32>> {
    match fields.f64(key)? {
        Some(value) if !(0.0..=f64::from(max)).contains(&value) => Err(fields.malformed(
            key,
            format!("expected a number in 0..={max}, found {value}"),
        )),
        value => Ok(value.map(|value| value as f32)),
    }
}

/// A number above 0 and at most [`f32::MAX`].
fn positive(fields: Fields<'_>, key: &str) -> Result<Option<f32>> {
    match number(fields, key, f32::MAX)? {
        Some(0.0) => Err(fields.malformed(key, "expected a number above 0, found 0")),
        value => Ok(value),
    }
}
