//! Renders arbitrary text as a chat template.
//!
//! ```text
//! mkdir -p fuzz/corpus/template && jq -r '.cases[0].template' fixtures/chat/cases.json > fuzz/corpus/template/one
//! cargo +nightly fuzz run template -- -max_total_time=60 -timeout=20
//! ```

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::template(data));
