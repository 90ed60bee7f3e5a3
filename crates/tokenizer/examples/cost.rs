//! What a tokenizer costs, each kind in a process of its own:
//!
//! ```text
//! cost write OUT [TOKENIZER]     the compact form of a tokenizer.json, or of a synthetic one of 128,256 tokens,
//!                                which is written beside it as OUT.json
//! cost compact OUT TEXT          memory and time to load it and to encode a text
//! cost library TOKENIZER TEXT    the same for the crate tokenizers
//! ```

#[path = "../../../xtask/src/synth/random.rs"]
#[allow(dead_code, reason = "the generator draws weights too")]
mod random;
#[path = "../../../xtask/src/synth/tokenizer.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod synthetic;

use onebit_tokenizer::{Origin, build, load};
use std::hint::black_box;
use std::time::Instant;
use tokenizers::{Encoding, ModelWrapper, Result, Tokenizer};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", out] => {
            let json = synthetic::json(128_256, 1)?;
            std::fs::write(format!("{out}.json"), &json)?;
            write(out, &json)
        }
        ["write", out, json] => write(out, &std::fs::read(json)?),
        ["compact", file, text] => {
            let (file, text) = (std::fs::read(file)?, std::fs::read_to_string(text)?);
            let load = || load(file.as_slice()).expect("it is compact");
            measure(load, |tokenizer| {
                tokenizer.encode_fast(text.as_str(), false)
            });
            Ok(())
        }
        ["library", file, text] => {
            let (file, text) = (std::fs::read(file)?, std::fs::read_to_string(text)?);
            let load = || Tokenizer::from_bytes(&file).expect("it is a tokenizer");
            measure(load, |tokenizer| {
                tokenizer.encode_fast(text.as_str(), false)
            });
            // A text of few words would show off the cache of words.
            let uncached = || {
                let mut tokenizer = load();
                if let ModelWrapper::BPE(bpe) = tokenizer.get_model() {
                    let mut bpe = bpe.clone();
                    bpe.resize_cache(0);
                    tokenizer.with_model(bpe);
                }
                tokenizer
            };
            println!("without the cache of words:");
            measure(uncached, |tokenizer| {
                tokenizer.encode_fast(text.as_str(), false)
            });
            Ok(())
        }
        _ => anyhow::bail!("see the top of the source"),
    }
}

fn write(out: &str, json: &[u8]) -> anyhow::Result<()> {
    let compact = build(json, &Default::default(), &Origin::default())?;
    std::fs::write(out, &compact)?;
    println!("{} bytes, from {} of JSON", compact.len(), json.len());
    Ok(())
}

/// Loads once with a look at the memory, then several times with a look at the clock; then encodes.
fn measure<T>(load: impl Fn() -> T, encode: impl Fn(&T) -> Result<Encoding>) {
    let encode = |tokenizer: &T| encode(tokenizer).expect("it encodes").len();
    let before = anonymous();
    let tokenizer = load();
    let after = anonymous();
    println!(
        "anonymous memory: {} KiB before, {} KiB after",
        before, after
    );
    let seconds = best(|| drop(black_box(load())));
    println!("load: {:.3} ms", seconds * 1e3);
    println!("{} tokens", encode(&tokenizer));
    println!("anonymous memory after the text: {} KiB", anonymous());
    println!(
        "encode: {:.3} ms",
        best(|| {
            black_box(encode(&tokenizer));
        }) * 1e3
    );
}

/// The shortest of some runs, in seconds.
fn best(work: impl Fn()) -> f64 {
    let run = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..15).map(run).fold(f64::MAX, f64::min)
}

/// Resident anonymous memory in KiB, on Linux.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    number.unwrap_or(0)
}
