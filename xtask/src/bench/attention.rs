//! Attention over a cache of keys and values, as the model cuts it into parts.

use std::ops::Range;

use onebit_kernels::{
    Attend, Claims, Cuts, Executor, Grid, KV_BLOCK, KV_SPAN, Kernels, KvType, KvView, Tiles,
};
use onebit_runtime::Pool;

use super::job::Job;
use super::work::Weights;
use crate::synth::Random;

/// Elements of a head.
const HEAD_DIM: usize = 128;
/// Heads of keys and values of a layer.
const KV_HEADS: usize = 5;
/// Query heads of each of them.
const GROUP: usize = 4;
/// Elements of all query heads.
const WIDTH: usize = KV_HEADS * GROUP * HEAD_DIM;
/// Floats of the query heads of one of keys and values for a span.
const PARTIAL: usize = GROUP * (HEAD_DIM + 2);
/// Query positions that are a part, where there are many.
const QUERY_BLOCK: usize = 16;

/// Queries of the 2B-4T shape: 20 heads of 128, four to a head of keys and values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    kind: KvType,
    /// Positions in the cache.
    depth: usize,
    /// Queries: the last of these positions.
    tokens: usize,
}

const fn decode(kind: KvType) -> Case {
    Case {
        kind,
        depth: 8192,
        tokens: 1,
    }
}

const fn prefill(kind: KvType) -> Case {
    Case {
        kind,
        depth: 512,
        tokens: 512,
    }
}

/// One token: bound by memory.
pub(super) const DECODE: &[Case] = &[
    decode(KvType::F32),
    decode(KvType::F16),
    decode(KvType::Q8),
    decode(KvType::Q4),
    decode(KvType::Q2),
    decode(KvType::B1),
];

/// A prompt: bound by multiplication.
pub(super) const PREFILL: &[Case] = &[
    prefill(KvType::F32),
    prefill(KvType::F16),
    prefill(KvType::Q8),
];

impl Case {
    /// What the table calls it.
    pub(super) fn name(&self) -> String {
        format!("attention, kv {}", self.kind.name())
    }

    /// Bytes of the keys, or of the values, of a head.
    fn side_bytes(&self) -> usize {
        self.depth * self.kind.row_bytes(HEAD_DIM)
    }

    /// Pairs of a query and a position that it sees.
    fn pairs(&self) -> usize {
        (self.depth - self.tokens + 1..=self.depth).sum()
    }
}

/// The keys and values of a case, and its queries.
struct Caches<'a> {
    case: Case,
    /// Keys and values of the heads of every layer.
    layers: Vec<[[KvView<'a>; 2]; KV_HEADS]>,
    q: Vec<f32>,
}

impl<'a> Caches<'a> {
    /// As many layers as there are bytes for, or one with fewer positions; a single one for a prompt, whose products take
    /// long enough.
    fn new(mut case: Case, bytes: &'a Weights) -> Self {
        let row = case.kind.row_bytes(HEAD_DIM);
        let positions = bytes.bytes().len() / (2 * KV_HEADS * row) / KV_BLOCK * KV_BLOCK;
        case.depth = case.depth.min(positions);
        case.tokens = case.tokens.min(case.depth);
        let sides: Vec<_> = bytes.bytes().chunks_exact(case.side_bytes()).collect();
        let view = |bytes| KvView::new(case.kind, bytes, case.depth, HEAD_DIM);
        let layer = |sides: &[&'a [u8]; 2 * KV_HEADS]| {
            std::array::from_fn(|head| [view(sides[2 * head]), view(sides[2 * head + 1])])
        };
        let layers = sides.as_chunks::<{ 2 * KV_HEADS }>().0.iter().map(layer);
        let layers = match case.tokens {
            1 => layers.collect(),
            _ => layers.take(1).collect(),
        };
        let mut q = vec![0.0; case.tokens * WIDTH];
        Random::new(3).fill(&mut q);
        Self { case, layers, q }
    }

    /// What the queries `tokens` of a head of a layer attend to.
    fn queries(&self, layer: usize, head: usize, tokens: Range<usize>) -> Attend<'_> {
        let [keys, values] = self.layers[layer][head];
        Attend {
            q: &self.q[tokens.start * WIDTH + head * GROUP * HEAD_DIM..],
            q_stride: WIDTH,
            tokens: tokens.len(),
            heads: GROUP,
            head_dim: HEAD_DIM,
            keys: keys.into(),
            values: values.into(),
            position: self.case.depth - self.case.tokens + tokens.start,
            window: usize::MAX,
            sinks: 0,
            scale: 1.0 / (HEAD_DIM as f32).sqrt(),
        }
    }
}

/// A case ready to run.
pub(super) struct Attention<'a> {
    caches: Caches<'a>,
    partials: Vec<f32>,
    out: Vec<f32>,
    claims: [Claims; 2],
}

impl<'a> Attention<'a> {
    /// At least a mebibyte of keys and values.
    pub(super) fn new(case: Case, bytes: &'a Weights) -> Self {
        let caches = Caches::new(case, bytes);
        let case = &caches.case;
        let rows = match case.tokens {
            1 => case.depth.div_ceil(KV_SPAN),
            tokens => 2 * tokens,
        };
        Self {
            partials: vec![0.0; rows * KV_HEADS * PARTIAL],
            out: vec![0.0; case.tokens * WIDTH],
            claims: std::array::from_fn(|_| Claims::new(1024)),
            caches,
        }
    }

    /// One query: each (head, span) is a part, then the spans are merged.
    fn one(&mut self, layer: usize, kernels: &Kernels, pool: &Pool) {
        let spans = self.caches.queries(layer, 0, 0..1).spans(0);
        let grid = grid(spans, KV_HEADS * PARTIAL, 1, PARTIAL);
        let tiles = Tiles::new(&mut self.partials, grid, &mut self.claims[0]);
        pool.run(tiles.len(), &|part| {
            let (head, span) = (part / spans, part % spans);
            let mut tile = tiles.claim(span, head);
            kernels.attend_span(&self.caches.queries(layer, head, 0..1), span, &mut tile);
        });
        let (into, more) = self.partials.split_at_mut(KV_HEADS * PARTIAL);
        for from in more.chunks_exact(KV_HEADS * PARTIAL) {
            let heads = into
                .chunks_exact_mut(PARTIAL)
                .zip(from.chunks_exact(PARTIAL));
            heads.for_each(|(into, from)| kernels.merge_spans(HEAD_DIM, into, from));
        }
        let out = self.out.chunks_exact_mut(GROUP * HEAD_DIM);
        for (partial, out) in into.chunks_exact(PARTIAL).zip(out) {
            kernels.finish_spans(HEAD_DIM, partial, out);
        }
    }

    /// Many queries: each (head, block of queries) is a part.
    fn many(&mut self, layer: usize, kernels: &Kernels, pool: &Pool) {
        let tokens = self.caches.case.tokens;
        let [a, b] = &mut self.claims;
        let out = grid(tokens, WIDTH, QUERY_BLOCK, GROUP * HEAD_DIM);
        let out = Tiles::new(&mut self.out, out, a);
        let room = grid(tokens, KV_HEADS * 2 * PARTIAL, QUERY_BLOCK, 2 * PARTIAL);
        let room = Tiles::new(&mut self.partials, room, b);
        pool.run(out.len(), &|part| {
            let head = part / out.tile_rows();
            let block = out.tile_rows() - 1 - part % out.tile_rows();
            let queries = self.caches.queries(layer, head, out.rows_of(block));
            let (mut out, mut room) = (out.claim(block, head), room.claim(block, head));
            kernels.attend(&queries, &mut out, &mut room);
        });
    }
}

fn grid(rows: usize, width: usize, tile_rows: usize, columns: usize) -> Grid<'static> {
    Grid {
        rows,
        width,
        stride: width,
        tile_rows,
        columns: Cuts::Every(columns),
    }
}

impl Job for Attention<'_> {
    fn name(&self) -> String {
        self.caches.case.name()
    }

    fn shape(&self) -> [usize; 2] {
        [self.caches.case.depth, HEAD_DIM]
    }

    fn tokens(&self) -> usize {
        self.caches.case.tokens
    }

    fn bytes(&self) -> f64 {
        (self.caches.layers.len() * KV_HEADS * 2 * self.caches.case.side_bytes()) as f64
    }

    fn products(&self) -> f64 {
        (self.caches.layers.len() * KV_HEADS * GROUP * 2 * HEAD_DIM * self.caches.case.pairs())
            as f64
    }

    fn run(&mut self, kernels: &Kernels, pool: &Pool) {
        for layer in 0..self.caches.layers.len() {
            match self.caches.case.tokens {
                1 => self.one(layer, kernels, pool),
                _ => self.many(layer, kernels, pool),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_memory_takes_fewer_positions() {
        let weights = Weights::random(1 << 20).unwrap();
        let pool = Pool::new(2).unwrap();
        // Keys and values of 5 heads of 128, with their scales, in whole blocks of 64 positions.
        let positions = |row_bytes| (1 << 20) / (10 * row_bytes) / 64 * 64;
        for (case, row_bytes) in DECODE.iter().zip([512, 256, 132, 66, 34, 18]) {
            let mut job = Attention::new(*case, &weights);
            assert_eq!(job.shape(), [positions(row_bytes), 128], "{case:?}");
            let bytes = positions(row_bytes) * 10 * row_bytes;
            assert_eq!(job.bytes(), bytes as f64, "{case:?}");
            job.run(Kernels::best(), &pool);
            assert!(job.out.iter().all(|x| x.is_finite()) && job.out.iter().any(|x| *x != 0.0));
        }
        for (case, row_bytes) in PREFILL.iter().zip([512, 256, 132]) {
            let mut job = Attention::new(*case, &weights);
            let positions = positions(row_bytes).min(512);
            assert_eq!(
                (job.shape(), job.tokens()),
                ([positions, 128], positions),
                "{case:?}"
            );
            job.run(Kernels::best(), &pool);
            assert!(job.out.iter().all(|x| x.is_finite()) && job.out.iter().any(|x| *x != 0.0));
        }
    }
}
