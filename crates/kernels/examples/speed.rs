//! How fast one thread multiplies the largest matrix of a 2B model, per set, layout and number of
//! tokens: `cargo run --release -p onebit-kernels --example speed`.
//!
//! For one token the weights' bytes per second count (they come from memory: the matrices are larger
//! than the caches together), for many the multiply-adds. Every result is compared with the scalar
//! set's, bit for bit.

use std::time::Instant;

use half::f16;
use onebit_format::{Layout, MatrixRef, SIGN_GROUP, Scales};
use onebit_kernels::{
    AlignedVec, BitRows, F32Rows, I8GroupRows, I8Rows, Input, Kernels, TileMut, padded_stride,
};

const ROWS: usize = 6912;
const COLS: usize = 2560;
/// Rows timed at once: on a busy machine a short part is less often interrupted.
const PART: usize = ROWS / 16;
/// Copies of the matrix that take turns, so that none stays in a cache.
const COPIES: usize = 12;

/// What a layout is multiplied with.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Int8 per token, or floats.
    Usual,
    /// Int8 per group; the weights have group scales too.
    Groups,
    /// Signs.
    Signs,
}

fn main() {
    println!("{ROWS} x {COLS}, one thread, best of several runs");
    println!(
        "{:8} {:11} {:>12} {:>14} {:>14}",
        "set", "", "1 token", "4 tokens", "128 tokens"
    );
    let usual = Layout::ALL.iter().map(|&layout| (layout, Kind::Usual));
    let more = [
        (Layout::T2, Kind::Groups),
        (Layout::B1, Kind::Groups),
        (Layout::B1, Kind::Signs),
    ];
    for (layout, kind) in usual.chain(more) {
        let row_bytes = layout.row_bytes(COLS).expect("small");
        let copies = if row_bytes > 2048 { 2 } else { COPIES };
        let bytes = weights(layout, copies * ROWS * row_bytes);
        for &set in Kernels::available() {
            measure(set, layout, kind, &bytes);
        }
    }
}

/// Reproducible bytes; halves and floats get modest exponents.
fn weights(layout: Layout, len: usize) -> AlignedVec<u8> {
    let mut bytes = AlignedVec::<u8>::zeroed(len);
    let mut state = 1u32;
    for chunk in bytes.as_chunks_mut::<4>().0 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let bits = state ^ (state >> 13);
        *chunk = match layout {
            Layout::T2 => bits & !(bits << 1) & 0xaaaa_aaaa | bits & 0x5555_5555,
            Layout::F16 => bits & 0x83ff_83ff | 0x3000_3000,
            Layout::BF16 | Layout::F32 => bits & 0x80ff_80ff | 0x3d00_3d00,
            _ => bits,
        }
        .to_le_bytes();
    }
    bytes
}

/// Activations of `tokens` tokens of both kinds.
struct Activations {
    stride: usize,
    floats: Vec<f32>,
    codes: Vec<i8>,
    bits: Vec<u8>,
    multipliers: Vec<f32>,
    scales: Vec<f32>,
    sums: Vec<i32>,
}

impl Activations {
    fn new(tokens: usize) -> Self {
        let stride = padded_stride(COLS);
        let mut x = Self {
            stride,
            floats: vec![0.0; tokens * stride],
            codes: vec![0; tokens * stride],
            bits: vec![0x5a; tokens * stride / 8],
            multipliers: vec![0.01; tokens * COLS.div_ceil(SIGN_GROUP)],
            scales: vec![],
            sums: vec![],
        };
        let rows = x.floats.chunks_mut(stride).zip(x.codes.chunks_mut(stride));
        for (t, (row, codes)) in rows.enumerate() {
            for (k, x) in row[..COLS].iter_mut().enumerate() {
                *x = ((k * 7 + t * 13) % 101) as f32 / 50.0 - 1.0;
            }
            let quant = Kernels::best().quantize_i8(&row[..COLS], codes);
            x.scales.push(quant.scale);
            x.sums.push(quant.sum);
        }
        x
    }

    fn input(&self, layout: Layout, kind: Kind) -> Input<'_> {
        let groups = COLS.div_ceil(SIGN_GROUP);
        match kind {
            Kind::Usual => {}
            Kind::Groups => {
                let (codes, multipliers) = (&self.codes, &self.multipliers);
                return Input::I8Groups(I8GroupRows::new(codes, self.stride, multipliers, groups));
            }
            Kind::Signs => {
                return Input::Bits(BitRows::new(&self.bits, self.stride / 8, &self.scales));
            }
        }
        match layout.is_float() {
            true => Input::F32(F32Rows::new(&self.floats, self.stride, self.scales.len())),
            false => Input::I8(I8Rows::new(
                &self.codes,
                self.stride,
                &self.scales,
                &self.sums,
            )),
        }
    }
}

fn measure(set: &Kernels, layout: Layout, kind: Kind, bytes: &[u8]) {
    let one = seconds(set, (layout, kind), bytes, 1, 4);
    let size = (ROWS * layout.row_bytes(COLS).expect("small")) as f64;
    print!(
        "{:8} {:4} {:6} {:7.2} GB/s",
        set.name(),
        layout.name(),
        match kind {
            Kind::Usual => "",
            Kind::Groups => "groups",
            Kind::Signs => "signs",
        },
        size / one / 1e9
    );
    for (tokens, rounds) in [(4, 2), (128, 1)] {
        let many = seconds(set, (layout, kind), bytes, tokens, rounds);
        let macs = (ROWS * COLS * tokens) as f64;
        print!(" {:7.1} GMAC/s", macs / many / 1e9);
    }
    println!();
}

/// Seconds for one product, the best over `rounds` passes over all copies.
fn seconds(
    set: &Kernels,
    (layout, kind): (Layout, Kind),
    bytes: &[u8],
    tokens: usize,
    rounds: usize,
) -> f64 {
    let activations = Activations::new(tokens);
    let row_scales = vec![0.5; ROWS];
    let group_scales = vec![f16::from_f32(0.5); ROWS * COLS.div_ceil(64)];
    let scales = match layout {
        Layout::I8 => Scales::Rows(&row_scales),
        Layout::I4 => Scales::Groups {
            size: 64,
            values: &group_scales,
        },
        _ if kind == Kind::Groups => Scales::Groups {
            size: SIGN_GROUP,
            values: &group_scales[..ROWS * COLS.div_ceil(SIGN_GROUP)],
        },
        Layout::T2 | Layout::T5 | Layout::B1 => Scales::Tensor(0.5),
        _ => Scales::None,
    };
    let copies: Vec<MatrixRef<'_>> = bytes
        .chunks_exact(ROWS * layout.row_bytes(COLS).expect("small"))
        .map(|bytes| MatrixRef::new(layout, ROWS, COLS, bytes, scales).expect("well formed"))
        .collect();
    let copies = &copies[..if tokens > 4 { 1 } else { copies.len() }];
    let mut out = vec![0.0; tokens * ROWS];
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        for w in copies {
            for first in (0..ROWS).step_by(PART) {
                let out = &mut out[first..];
                let mut tile = TileMut::strided(out, tokens, PART, ROWS);
                let start = Instant::now();
                set.matmul(
                    w,
                    first..first + PART,
                    activations.input(layout, kind),
                    &mut tile,
                );
                best = best.min(start.elapsed().as_secs_f64() * (ROWS / PART) as f64);
            }
        }
    }
    check(
        &copies[copies.len() - 1],
        activations.input(layout, kind),
        &out,
    );
    best
}

/// Compares the first rows with the scalar set.
fn check(w: &MatrixRef<'_>, x: Input<'_>, out: &[f32]) {
    let mut expected = vec![0.0; x.tokens() * 8];
    let mut tile = TileMut::whole(&mut expected, x.tokens(), 8);
    Kernels::available()[0].matmul(w, 0..8, x, &mut tile);
    for (found, expected) in out.chunks(ROWS).zip(expected.chunks(8)) {
        assert!(
            found
                .iter()
                .zip(expected)
                .all(|(a, b)| a.to_bits() == b.to_bits()),
            "{w:?}"
        );
    }
}
