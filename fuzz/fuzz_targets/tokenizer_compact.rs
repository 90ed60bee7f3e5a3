//! Reads arbitrary bytes as a tokenizer in its compact form, and encodes and decodes with those that are one.
//!
//! ```text
//! mkdir -p fuzz/corpus/tokenizer_compact && for t in fixtures/tokenizers/*/tokenizer.json; do
//!     cargo run -p onebit-tokenizer --example cost -- write fuzz/corpus/tokenizer_compact/$(basename $(dirname $t)) $t; done
//! cargo +nightly fuzz run tokenizer_compact -- -max_total_time=60 -max_len=100000
//! ```

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::tokenizer_compact(data));
