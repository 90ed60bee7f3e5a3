//! Inputs that the benches share.
//!
//! Every bench compares its work with an expected result before it is timed, so
//! `cargo test -p onebit-benches --benches`, which runs each once, is a test.

use std::path::PathBuf;

use half::f16;
use onebit_format::{Layout, MatrixRef, Scales, pack};
use onebit_kernels::{AlignedVec, F32Rows, I8Rows, Input, Kernels, padded_stride};

/// Reproducible numbers in 0..2^32.
pub fn noise(seed: u32) -> impl Iterator<Item = u32> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state ^ (state >> 15)
    })
}

/// `len` ternary codes in -1..=1.
pub fn ternary_codes(len: usize) -> Vec<i8> {
    noise(7)
        .take(len)
        .map(|bits| (bits % 3) as i8 - 1)
        .collect()
}

/// `len` floats in -1..1.
pub fn floats(len: usize) -> Vec<f32> {
    let unit = |bits: u32| (bits >> 8) as f32 / (1 << 23) as f32 - 1.0;
    noise(11).take(len).map(unit).collect()
}

/// A packed matrix of random weights with its scales.
pub struct Matrix {
    layout: Layout,
    rows: usize,
    cols: usize,
    bytes: AlignedVec<u8>,
    row_scales: Vec<f32>,
}

impl Matrix {
    /// Random weights of `rows` x `cols`, packed in `layout`.
    pub fn random(layout: Layout, rows: usize, cols: usize) -> Self {
        let size = layout.byte_len(rows, cols).expect("sizes of a bench fit");
        let band_bytes = layout.band_bytes(cols).expect("sizes of a bench fit");
        let mut matrix = Self {
            layout,
            rows,
            cols,
            bytes: AlignedVec::zeroed(size),
            row_scales: vec![0.0; rows],
        };
        let (codes, values) = (ternary_codes(cols * rows), floats(cols * rows));
        let mut scales = vec![f16::ZERO; rows * cols.div_ceil(64)];
        let groups = cols.div_ceil(64);
        if layout.is_ternary() {
            pack::code_rows(layout, &codes, cols, &mut matrix.bytes);
            return matrix;
        }
        if layout.is_binary() {
            let signs: Vec<i8> = codes.iter().map(|&c| if c < 0 { -1 } else { 1 }).collect();
            pack::code_rows(layout, &signs, cols, &mut matrix.bytes);
            return matrix;
        }
        for r in 0..rows {
            let out = &mut matrix.bytes[r * band_bytes..][..band_bytes];
            let values = &values[r * cols..][..cols];
            match layout {
                Layout::I8 => matrix.row_scales[r] = pack::quantize_i8_row(values, out),
                Layout::I4 => {
                    pack::quantize_i4_row(values, out, &mut scales[r * groups..][..groups]);
                }
                Layout::F16 => pack::f16_row(values, out).expect("finite"),
                Layout::BF16 => pack::bf16_row(values, out).expect("finite"),
                Layout::F32 => pack::f32_row(values, out).expect("finite"),
                _ => unreachable!("a layout the benches do not know"),
            }
        }
        if layout == Layout::I4 {
            let stored = pack::with_scales(layout, cols, &matrix.bytes, &scales);
            matrix.bytes = AlignedVec::zeroed(stored.len());
            matrix.bytes.copy_from_slice(&stored);
        }
        matrix
    }

    /// The matrix as the kernels take it.
    pub fn view(&self) -> MatrixRef<'_> {
        let scales = match self.layout {
            layout if layout.is_ternary() || layout.is_binary() => Scales::Tensor(0.02),
            Layout::I8 => Scales::Rows(&self.row_scales),
            Layout::I4 => Scales::Groups { size: 64 },
            _ => Scales::None,
        };
        MatrixRef::new(self.layout, self.rows, self.cols, &self.bytes, scales).expect("consistent")
    }

    /// Bytes of the weights.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Activations of some tokens, as floats and quantized.
pub struct Activations {
    stride: usize,
    tokens: usize,
    floats: AlignedVec<f32>,
    codes: AlignedVec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
}

impl Activations {
    /// Random activations, `cols` for each of `tokens` tokens.
    pub fn random(tokens: usize, cols: usize) -> Self {
        let stride = padded_stride(cols);
        let mut x = Self {
            stride,
            tokens,
            floats: AlignedVec::zeroed(tokens * stride),
            codes: AlignedVec::zeroed(tokens * stride),
            scales: Vec::new(),
            sums: Vec::new(),
        };
        let values = floats(tokens * cols);
        for t in 0..tokens {
            let row = &values[t * cols..][..cols];
            x.floats[t * stride..][..cols].copy_from_slice(row);
            let quant = Kernels::best().quantize_i8(row, &mut x.codes[t * stride..][..stride]);
            x.scales.push(quant.scale);
            x.sums.push(quant.sum);
        }
        x
    }

    /// The form that products with `layout` take.
    pub fn input(&self, layout: Layout) -> Input<'_> {
        if layout.is_float() {
            Input::F32(F32Rows::new(&self.floats, self.stride, self.tokens))
        } else {
            Input::I8(I8Rows::new(
                &self.codes,
                self.stride,
                &self.scales,
                &self.sums,
            ))
        }
    }
}

/// The folder of the demo model.
pub fn demo_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures/demo")
}
