//! Reads arbitrary bytes as `tokenizer.json`, and encodes and decodes with those that are one.
//!
//! ```text
//! mkdir -p fuzz/corpus/tokenizer && for t in fixtures/tokenizers/*/tokenizer.json; do
//!     cp $t fuzz/corpus/tokenizer/$(basename $(dirname $t)); done
//! cargo +nightly fuzz run tokenizer -- -max_total_time=60 -max_len=100000
//! ```

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::tokenizer(data));
