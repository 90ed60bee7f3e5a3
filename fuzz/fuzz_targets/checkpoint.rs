//! Converts a checkpoint whose `model.safetensors` is arbitrary bytes: either there is a valid
//! output, or an error and nothing at all.
//!
//! ```text
//! mkdir -p fuzz/corpus/checkpoint
//! cp fixtures/checkpoints/bitnet_bitlinear/model.safetensors fuzz/corpus/checkpoint/
//! TMPDIR=/dev/shm cargo +nightly fuzz run checkpoint -- -max_total_time=60 -max_len=1000000
//! ```

#![no_main]

use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use onebit_convert::{Options, convert};
use onebit_format::PackedFile;

const CONFIG: &[u8] = include_bytes!("../../fixtures/checkpoints/bitnet_bitlinear/config.json");

fuzz_target!(|data: &[u8]| {
    let root = std::env::temp_dir().join(format!("onebit-fuzz-{}", std::process::id()));
    let (source, out) = (root.join("source"), root.join("out"));
    if !source.exists() {
        fs::create_dir_all(&source).expect("a temporary folder can be made");
        fs::create_dir_all(&out).expect("a temporary folder can be made");
        fs::write(source.join("config.json"), CONFIG).expect("a temporary file can be written");
    }
    fs::write(source.join("model.safetensors"), data).expect("a temporary file can be written");
    check(&source, &out);
});

fn check(source: &Path, out: &Path) {
    let path = out.join("model.onebit");
    if convert(source, &path, &Options::default(), &mut ()).is_ok() {
        PackedFile::open(&path)
            .expect("what was converted opens")
            .check_hashes()
            .expect("and is what was written");
        fs::remove_file(&path).expect("the output can be removed");
    }
    let left = fs::read_dir(out).expect("the folder is there").count();
    assert_eq!(left, 0, "something was left at the output");
}
