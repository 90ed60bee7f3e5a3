//! Reads arbitrary bytes as `tokenizer_config.json` and as `special_tokens_map.json`.
//!
//! ```text
//! mkdir -p fuzz/corpus/tokenizer_config && for t in fixtures/tokenizers/*/tokenizer_config.json; do
//!     cp $t fuzz/corpus/tokenizer_config/$(basename $(dirname $t)); done
//! cargo +nightly fuzz run tokenizer_config -- -max_total_time=60
//! ```

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::tokenizer_config(data));
