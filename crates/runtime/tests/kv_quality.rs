//! What small caches cost the demo model on text that it was not trained on.

use std::path::{Path, PathBuf};

use onebit_model::{KvOptions, KvType};
use onebit_runtime::{Engine, SessionOptions, Tokenizer};

const CONTEXT: usize = 512;
/// A part of the text, for the sake of time; `cargo xtask bench kv` takes all of it.
const CONTEXTS: usize = 8;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/demo")
        .join(name)
}

/// Perplexity with a cache of this type.
fn perplexity(engine: &Engine, contexts: &[Vec<u32>], kind: KvType) -> f64 {
    let kv = KvOptions::from(kind);
    // The contexts are 8 times as long as what has 8 bits in smaller caches.
    assert!(8 * (kv.sinks + kv.recent + onebit_kernels::KV_GROUP) <= CONTEXT);
    let options = SessionOptions {
        context: CONTEXT,
        logits_rows: 64,
        kv,
        ..SessionOptions::new(engine.model().spec())
    };
    let mut session = engine.session(options).unwrap();
    let mut loss = 0.0;
    for ids in contexts {
        session.truncate(0);
        let scores = session.score(ids, |_, _| std::ops::ControlFlow::Continue(()));
        loss -= scores.unwrap().iter().sum::<f64>();
    }
    (loss / (contexts.len() * (CONTEXT - 1)) as f64).exp()
}

#[test]
fn small_caches_keep_their_promises() {
    let engine = Engine::open(fixture("demo.onebit")).unwrap();
    let tokenizer = Tokenizer::from_packed(engine.model().file()).unwrap();
    let text = std::fs::read_to_string(fixture("heldout.txt")).unwrap();
    let ids = tokenizer.encode(&text, false).unwrap();
    let start = tokenizer.role("bos_token").unwrap();
    let parts = ids.chunks_exact(CONTEXT - 1).take(CONTEXTS);
    let contexts: Vec<Vec<u32>> = parts.map(|part| [&[start], part].concat()).collect();
    assert_eq!(contexts.len(), CONTEXTS);
    let exact = perplexity(&engine, &contexts, KvType::F32);
    for (kind, percent) in [
        (KvType::Q8, 0.1),
        (KvType::Q4, 1.0),
        (KvType::Q2, 2.0),
        (KvType::B1, 10.0),
    ] {
        let worse = 100.0 * (perplexity(&engine, &contexts, kind) / exact - 1.0);
        println!("{}: {worse:+.3} %", kind.name());
        assert!(worse < percent, "{}: {worse:+.3} %", kind.name());
    }
}
