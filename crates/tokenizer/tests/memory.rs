//! What loading a tokenizer of real size takes, counted by the allocator.

#[path = "../../../xtask/src/synth/random.rs"]
#[allow(dead_code, reason = "the generator draws weights too")]
mod random;
#[path = "../../../xtask/src/synth/tokenizer.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod synthetic;

use onebit_tokenizer::{Origin, build, load};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, with a count of the bytes in use.
struct Counting;

// SAFETY: every call goes to the system's allocator with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above; the pointer comes from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_tokenizer_of_real_size_takes_little() {
    let mut file: serde_json::Value =
        serde_json::from_slice(&synthetic::json(128_256, 1).unwrap()).unwrap();
    // As many added tokens and as long an expression as Llama 3 has.
    let added: Vec<_> = (0..256)
        .map(|number| {
            serde_json::json!({"id": 128_256 + number, "content": format!("<|reserved_special_token_{number}|>"),
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    file["added_tokens"] = added.into();
    file["pre_tokenizer"] = serde_json::json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex":
            "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]});
    let json = serde_json::to_vec(&file).unwrap();
    let compact = build(&json, &Default::default(), &Origin::default()).unwrap();
    drop((file, json));

    // What the process keeps once for all tokenizers.
    drop(load(compact.as_slice()).unwrap());
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let tokenizer = load(compact.as_slice()).unwrap();
    let (held, peak) = (NOW.load(Relaxed) - before, PEAK.load(Relaxed) - before);
    tokenizer
        .encode_fast("Once upon a time, there were 1234 foxes.\n", true)
        .unwrap();
    let used = NOW.load(Relaxed) - before;
    println!(
        "{held} bytes held, {peak} at the peak, {used} after a text; {} in the file",
        compact.len()
    );
    // Together with every page of the tables it is far from 25 MB.
    assert!(
        peak.max(used) < 4 << 20,
        "{peak} at the peak, {used} after a text"
    );
    assert!(
        compact.len() + used < 16 << 20,
        "{} in the file",
        compact.len()
    );
}
