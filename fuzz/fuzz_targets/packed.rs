//! Opens arbitrary bytes as a packed file, and runs those that are a model.
//!
//! ```text
//! mkdir -p fuzz/corpus/packed && cp fixtures/layouts/tiny.onebit fuzz/corpus/packed/
//! cargo +nightly fuzz run packed -- -max_total_time=60
//! ```

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::packed(data));
