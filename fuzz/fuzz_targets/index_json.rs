//! Reads arbitrary bytes as `model.safetensors.index.json`.
//!
//! ```text
//! mkdir -p fuzz/corpus/index_json && cp fixtures/checkpoints/*/*.index.json fuzz/corpus/index_json/
//! cargo +nightly fuzz run index_json -- -max_total_time=60
//! ```

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::index_json(data));
