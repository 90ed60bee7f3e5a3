//! Reads arbitrary bytes as `config.json` and `generation_config.json`.
//!
//! ```text
//! mkdir -p fuzz/corpus/config && for c in fixtures/checkpoints/*/config.json; do
//!     cp $c fuzz/corpus/config/$(basename $(dirname $c)); done
//! cargo +nightly fuzz run config -- -max_total_time=60
//! ```

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::config(data));
