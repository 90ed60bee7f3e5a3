//! Reads arbitrary bytes as the state of a session of the demo model, and goes on.
//!
//! ```text
//! cargo +nightly fuzz run state -- -max_total_time=60
//! ```

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::state(data));
