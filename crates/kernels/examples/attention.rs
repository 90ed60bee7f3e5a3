//! How fast attention reads a cache, beside how fast memory is read:
//! `cargo run --release -p onebit-kernels --example attention`.
//!
//! The shape is that of one layer of a 2B model: 5 kv heads of 128, each shared by 4 query heads. Layers
//! take turns, so that none stays in a cache. Decode is one position at a depth, cut into spans for the
//! threads; prefill is 512 positions on one thread.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

use onebit_kernels::{AlignedVec, Attend, KV_SPAN, Kernels, KvType, KvView, KvViewMut, TileMut};

const KV_HEADS: usize = 5;
const GROUP: usize = 4;
const HEAD_DIM: usize = 128;
const LAYERS: usize = 8;
const WIDTH: usize = GROUP * HEAD_DIM;
const PREFILL: usize = 512;
const TILE: usize = 16;
const ROUNDS: usize = 25;

fn main() {
    let set = match std::env::args().nth(1) {
        Some(name) => Kernels::by_name(&name).expect("a kernel set"),
        None => Kernels::best(),
    };
    println!("{}: best of {ROUNDS}, times per layer", set.name());
    for &kind in KvType::ALL.iter().rev() {
        for slots in [512, 2048, 8192] {
            let cache = Cache::new(set, kind, slots);
            for threads in [1, 2] {
                decode(set, &cache, threads);
            }
        }
        prefill(set, &Cache::new(set, kind, PREFILL));
    }
}

/// Keys and values of some layers, all slots filled: `[layer][keys, values]`.
struct Cache {
    kind: KvType,
    slots: usize,
    layers: Vec<[AlignedVec<u8>; 2]>,
}

impl Cache {
    fn new(set: &Kernels, kind: KvType, slots: usize) -> Self {
        let size = kind.row_bytes(HEAD_DIM) * slots;
        let plane = |layer: usize| {
            let mut data = AlignedVec::zeroed(KV_HEADS * size);
            let mut row = [0.0; HEAD_DIM];
            for (head, data) in data.chunks_exact_mut(size).enumerate() {
                let mut view = KvViewMut::new(kind, data, slots, HEAD_DIM);
                for position in 0..slots {
                    for (k, x) in row.iter_mut().enumerate() {
                        *x = ((position * 31 + k * 17 + head + layer) % 101) as f32 / 50.0 - 1.0;
                    }
                    set.store_kv(&mut view, position, &row);
                }
            }
            data
        };
        let layers = (0..LAYERS).map(|l| [plane(2 * l), plane(2 * l + 1)]);
        Self {
            kind,
            slots,
            layers: layers.collect(),
        }
    }

    fn head_bytes(&self) -> usize {
        self.kind.row_bytes(HEAD_DIM) * self.slots
    }

    /// The bytes of keys (0) or values (1) of a head.
    fn bytes(&self, layer: usize, head: usize, which: usize) -> &[u8] {
        &self.layers[layer][which][head * self.head_bytes()..][..self.head_bytes()]
    }

    fn queries<'a>(
        &'a self,
        q: &'a [f32],
        layer: usize,
        head: usize,
        positions: Range<usize>,
    ) -> Attend<'a> {
        let view = |i| KvView::new(self.kind, self.bytes(layer, head, i), self.slots, HEAD_DIM);
        Attend {
            q,
            q_stride: WIDTH,
            tokens: positions.len(),
            heads: GROUP,
            head_dim: HEAD_DIM,
            keys: view(0).into(),
            values: view(1).into(),
            position: positions.start,
            window: usize::MAX,
            sinks: 0,
            scale: 0.088,
        }
    }
}

fn some_queries(tokens: usize) -> Vec<f32> {
    (0..tokens * WIDTH)
        .map(|i| ((i * 37) % 97) as f32 / 48.0 - 1.0)
        .collect()
}

fn decode(set: &Kernels, cache: &Cache, threads: usize) {
    let q = some_queries(1);
    let spans = cache.slots / KV_SPAN;
    let kept = AtomicU64::new(0);
    let read = seconds(threads, 2 * KV_HEADS, &|layer, part| {
        let words: &[u64] = bytemuck::cast_slice(cache.bytes(layer, part / 2, part % 2));
        let mut acc = [0; 32];
        for words in words.as_chunks::<32>().0 {
            for (acc, word) in acc.iter_mut().zip(words) {
                *acc ^= word;
            }
        }
        kept.fetch_xor(acc.iter().fold(0, |a, b| a ^ b), SeqCst);
    });
    let time = seconds(threads, KV_HEADS * spans, &|layer, part| {
        let last = cache.slots - 1;
        let queries = cache.queries(&q, layer, part / spans, last..last + 1);
        let mut partial = [0.0; GROUP * (HEAD_DIM + 2)];
        let width = partial.len();
        let mut tile = TileMut::whole(&mut partial, 1, width);
        set.attend_span(&queries, part % spans, &mut tile);
        kept.fetch_xor(u64::from(partial[0].to_bits()), SeqCst);
    });
    let gigabytes = (2 * KV_HEADS * cache.head_bytes()) as f64 / 1e9;
    println!(
        "{:4} depth {:5}, {threads} threads: {:.3} ms, {:5.2} GB/s; plain read {:5.2} GB/s: {:.2} of its time ({:?})",
        cache.kind.name(),
        cache.slots,
        time * 1e3,
        gigabytes / time,
        gigabytes / read,
        time / read,
        kept
    );
}

fn prefill(set: &Kernels, cache: &Cache) {
    let q = some_queries(PREFILL);
    let mut out = vec![0.0; PREFILL * WIDTH];
    let mut scratch = vec![0.0; TILE * 2 * GROUP * (HEAD_DIM + 2)];
    let mut best = 0.0;
    // The best of each tile: on a busy machine a short part is less often interrupted.
    for head in 0..KV_HEADS {
        for first in (0..PREFILL).step_by(TILE) {
            let queries = cache.queries(&q[first * WIDTH..], 0, head, first..first + TILE);
            let width = 2 * queries.partial_len();
            let mut tile = f64::INFINITY;
            for _ in 0..ROUNDS {
                let mut out = TileMut::whole(&mut out[first * WIDTH..], TILE, WIDTH);
                let mut scratch = TileMut::whole(&mut scratch, TILE, width);
                let start = Instant::now();
                set.attend(&queries, &mut out, &mut scratch);
                tile = tile.min(start.elapsed().as_secs_f64());
            }
            best += tile;
        }
    }
    let flops = (4 * HEAD_DIM * GROUP * KV_HEADS * PREFILL * (PREFILL + 1) / 2) as f64;
    println!(
        "{:4} prefill of {PREFILL}, 1 thread: {:.2} ms, {:.1} GFLOPS",
        cache.kind.name(),
        best * 1e3,
        flops / best / 1e9
    );
}

/// Seconds per layer for parts that threads take as they come, one layer after the other.
fn seconds(threads: usize, parts: usize, job: &(dyn Fn(usize, usize) + Sync)) -> f64 {
    let one_round = || {
        let counters = || (0..LAYERS).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>();
        let (next, done) = (counters(), counters());
        let (ready, start) = (AtomicUsize::new(0), Mutex::new(None));
        let work = || {
            ready.fetch_add(1, SeqCst);
            while ready.load(SeqCst) < threads {
                std::hint::spin_loop();
            }
            start
                .lock()
                .expect("no panics")
                .get_or_insert_with(Instant::now);
            for layer in 0..LAYERS {
                loop {
                    let part = next[layer].fetch_add(1, SeqCst);
                    if part >= parts {
                        break;
                    }
                    job(layer, part);
                    done[layer].fetch_add(1, SeqCst);
                }
                while done[layer].load(SeqCst) < parts {
                    std::hint::spin_loop();
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        let start: Option<Instant> = *start.lock().expect("no panics");
        start.map_or(0.0, |start| start.elapsed().as_secs_f64())
    };
    let rounds = (0..ROUNDS).map(|_| one_round());
    rounds.fold(f64::INFINITY, f64::min) / LAYERS as f64
}
