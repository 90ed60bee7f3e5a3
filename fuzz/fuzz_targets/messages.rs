//! Reads arbitrary bytes as a list of messages, and renders them.
//!
//! ```text
//! mkdir -p fuzz/corpus/messages && echo '[{"role": "user", "content": "hi"}]' > fuzz/corpus/messages/one
//! cargo +nightly fuzz run messages -- -max_total_time=60
//! ```

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::messages(data));
