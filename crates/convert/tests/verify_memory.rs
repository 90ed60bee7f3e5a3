//! Verification takes memory for a few blocks of weights and some positions, not for the source.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use onebit_convert::{Options, Verify, convert, verify};
use safetensors::{Dtype, tensor::TensorView};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Measuring;

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Measuring {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Measuring = Measuring;

const VOCAB: usize = 40_000;
const HIDDEN: usize = 256;
const TOKENS: usize = 8;
const THREADS: usize = 2;
const MIB: usize = 1 << 20;

/// The only test of this binary, so that no other thread allocates while it measures.
#[test]
fn verification_needs_a_fraction_of_the_source() {
    let dir = tempfile::tempdir().unwrap();
    let (source, packed) = (dir.path().join("source"), dir.path().join("packed"));
    write_source(&source);
    let source_bytes = fs::metadata(source.join("model.safetensors"))
        .unwrap()
        .len() as usize;
    convert(&source, &packed, &Options::default(), &mut ()).unwrap();

    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(THREADS)
        .build()
        .unwrap();
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let found = pool.install(|| verify(&source, &packed, &Verify::new(TOKENS), &mut ()));
    let taken = PEAK.load(Ordering::Relaxed) - before;
    found.unwrap();

    // A block has a million weights, as they are stored (here also 4 bytes each) and as floats; twice as many blocks
    // as threads can be done at a time, of which the products remain; and there are logits on both sides.
    let blocks = THREADS * 2 * 4 * MIB;
    let products = 2 * THREADS * (MIB / HIDDEN) * TOKENS * 4;
    let logits = 3 * TOKENS * VOCAB * 4;
    let bound = blocks + 2 * products + logits + 2 * MIB;
    assert!(taken <= bound, "{taken} bytes, expected at most {bound}");
    assert!(
        bound < source_bytes / 3,
        "{bound} is no small part of {source_bytes}"
    );
}

/// A dense Llama in float32 whose tables are most of it.
fn write_source(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": 256,
        "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": VOCAB, "tie_word_embeddings": false,
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut tensors = vec![("model.embed_tokens".to_owned(), vec![VOCAB, HIDDEN])];
    tensors.push(("lm_head".into(), vec![VOCAB, HIDDEN]));
    tensors.push(("model.norm".into(), vec![HIDDEN]));
    for norm in ["input_layernorm", "post_attention_layernorm"] {
        tensors.push((format!("model.layers.0.{norm}"), vec![HIDDEN]));
    }
    for linear in [
        "self_attn.q",
        "self_attn.k",
        "self_attn.v",
        "self_attn.o",
        "mlp.gate",
        "mlp.up",
        "mlp.down",
    ] {
        tensors.push((
            format!("model.layers.0.{linear}_proj"),
            vec![HIDDEN, HIDDEN],
        ));
    }
    let mut state = 1u32;
    let mut number = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, shape)| {
            (0..shape.iter().product())
                .flat_map(|_| (0.1 * number()).to_le_bytes())
                .collect()
        })
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape), bytes)| {
        (
            format!("{name}.weight"),
            TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
        )
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
}
