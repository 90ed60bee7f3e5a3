//! Reads arbitrary text as a list of token ids.
//!
//! ```text
//! mkdir -p fuzz/corpus/ids && echo '[1, 2,3 4]' > fuzz/corpus/ids/one
//! cargo +nightly fuzz run ids -- -max_total_time=60
//! ```

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::ids(data));
