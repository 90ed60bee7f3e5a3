//! Converts a checkpoint whose `model.safetensors` is arbitrary bytes.
//!
//! ```text
//! mkdir -p fuzz/corpus/checkpoint && cp fixtures/checkpoints/llama_bitlinear/model.safetensors fuzz/corpus/checkpoint/
//! TMPDIR=/dev/shm cargo +nightly fuzz run checkpoint -- -max_total_time=60 -max_len=1000000
//! ```

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::checkpoint(data));
