//! Buffers for the products, and the products themselves on a pool of threads.

use std::ops::Range;

use anyhow::Context;
use memmap2::MmapMut;
use onebit_format::{Layout, MatrixRef, Scales};
use onebit_kernels::{
    AlignedVec, BitRows, Claims, Cuts, Executor, F32Rows, Grid, I8GroupRows, I8Rows, Input,
    Kernels, Tiles, padded_stride,
};
use onebit_runtime::Pool;

use super::cases::{Activations, Case, Reads};
use super::job::Job;
use crate::synth::Random;

/// Parts per thread, as the model cuts its products.
const PARTS_PER_THREAD: usize = 4;
/// Tokens up to which a job goes through all matrices.
pub(super) const MANY_TOKENS: usize = 16;
/// Matrices that more tokens are multiplied with, one after the other as in a model: how threads begin, and what is in no cache then,
/// counts less.
const MANY_MATRICES: usize = 4;
/// Tokens up to which reading weights takes most of the time.
const FEW_TOKENS: usize = 4;
/// Columns of an atom of a matrix stored transposed.
const STRIP: usize = 256;

/// Bytes that are used as the weights of every layout, those of groups of columns among them, and scales of rows.
pub(super) struct Weights {
    bytes: MmapMut,
    rows: Vec<f32>,
}

impl Weights {
    /// At least `len` random bytes. Read as floats of 16 or 32 bits they are small and normal, and so are a softmax's weights
    /// where they are the scales of its keys: numbers below the normal ones take some CPUs a hundred cycles each.
    ///
    /// They are in huge pages where the system has them, as those of a packed file.
    pub(super) fn random(len: usize) -> anyhow::Result<Self> {
        let mut bytes =
            MmapMut::map_anon(len.next_multiple_of(64)).context("no memory for the weights")?;
        #[cfg(target_os = "linux")]
        let _ = bytes.advise(memmap2::Advice::HugePage);
        let mut random = Random::new(5);
        for word in bytes.as_chunks_mut::<8>().0 {
            let bits = random.bits() & 0x03ff_03ff_03ff_03ff | 0x3000_3000_3000_3000;
            *word = bits.to_le_bytes();
        }
        Ok(Self {
            rows: vec![0.01; len / 64],
            bytes,
        })
    }

    /// All bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As many matrices of the case's shape as there is room for, or one with fewer rows.
    fn matrices(&self, case: &Case) -> anyhow::Result<Vec<MatrixRef<'_>>> {
        let layout = case.layout;
        let grouped = layout == Layout::I4 || case.group > 0;
        let band_bytes = layout.stored_band_bytes(case.cols, grouped);
        let band_bytes = band_bytes.context("shape overflows")?;
        let rows = case
            .rows
            .min(self.bytes.len() / band_bytes * layout.atom_rows());
        let size = layout
            .stored_len(rows, case.cols, grouped)
            .context("shape overflows")?;
        let matrices = self.bytes.chunks_exact(size).enumerate().map(|(i, bytes)| {
            let scales = self.scales(case, rows, i)?;
            Ok(MatrixRef::new(case.layout, rows, case.cols, bytes, scales)?)
        });
        matrices.collect()
    }

    /// Those of matrix `index`: each has its own, so that they come from memory too.
    fn scales(&self, case: &Case, rows: usize, index: usize) -> anyhow::Result<Scales<'_>> {
        let group = match case.layout {
            Layout::I4 => case.layout.group().expect("4-bit layouts have groups"),
            _ => case.group,
        };
        Ok(match case.layout {
            layout if layout.is_float() => Scales::None,
            _ if group > 0 => Scales::Groups { size: group },
            Layout::I8 => Scales::Rows(&self.rows[index * rows..][..rows]),
            _ => Scales::Tensor(0.02),
        })
    }
}

/// The part of `bytes` that belongs to some of `all` rows.
fn share_of<'a>(bytes: &'a [u8], rows: &Range<usize>, all: usize) -> &'a [u8] {
    let at = |row: usize| bytes.len() / 64 * row / all * 64;
    &bytes[at(rows.start)..at(rows.end)]
}

/// Activations of a case in every form.
struct Inputs {
    tokens: usize,
    stride: usize,
    codes: AlignedVec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
    multipliers: Vec<f32>,
    group_sums: Vec<i32>,
    bits: AlignedVec<u8>,
    floats: Vec<f32>,
}

impl Inputs {
    fn random(case: &Case, kernels: &Kernels) -> Self {
        let (tokens, len) = (case.tokens, case.inputs());
        let stride = padded_stride(len);
        let mut random = Random::new(7);
        let mut floats = vec![0.0; tokens * stride];
        let mut inputs = Self {
            tokens,
            stride,
            codes: AlignedVec::zeroed(tokens * stride),
            scales: vec![0.0; tokens],
            sums: vec![0; tokens],
            multipliers: vec![1.0; tokens * len.div_ceil(128)],
            group_sums: vec![0; tokens * len.div_ceil(128)],
            bits: AlignedVec::zeroed(tokens * stride),
            floats: Vec::new(),
        };
        for t in 0..tokens {
            let row = &mut floats[t * stride..][..len];
            random.fill(row);
            if let Reads::Inputs(share) = case.reads {
                row.iter_mut().for_each(|x| {
                    if random.below(100) >= share {
                        *x = 0.0;
                    }
                });
            }
            let codes = &mut inputs.codes[t * stride..][..stride];
            let quant = kernels.quantize_i8(row, codes);
            (inputs.scales[t], inputs.sums[t]) = (quant.scale, quant.sum);
            let groups = inputs.group_sums.chunks_mut(len.div_ceil(128)).nth(t);
            for (sum, group) in groups.into_iter().flatten().zip(codes.chunks(128)) {
                *sum = group.iter().map(|x| i32::from(*x)).sum();
            }
            let bits = &mut inputs.bits[t * stride..][..stride];
            kernels.quantize_bits(row, bits);
        }
        inputs.floats = floats;
        inputs
    }

    fn int8(&self) -> I8Rows<'_> {
        I8Rows::new(&self.codes, self.stride, &self.scales, &self.sums)
    }

    fn input(&self, case: &Case) -> Input<'_> {
        match case.activations {
            Activations::Int8 => Input::I8(self.int8()),
            Activations::Int8Groups => {
                let groups = self.multipliers.len() / self.tokens;
                Input::I8Groups(I8GroupRows::new(
                    &self.codes,
                    self.stride,
                    &self.multipliers,
                    &self.group_sums,
                    groups,
                ))
            }
            Activations::Bits => Input::Bits(BitRows::new(&self.bits, self.stride, &self.scales)),
            Activations::Float => Input::F32(F32Rows::new(&self.floats, self.stride, self.tokens)),
        }
    }
}

/// A case ready to run.
pub(super) struct Work<'a> {
    case: Case,
    matrices: Vec<MatrixRef<'a>>,
    inputs: Inputs,
    list: Vec<u32>,
    out: AlignedVec<f32>,
    claims: Claims,
}

impl<'a> Work<'a> {
    pub(super) fn new(
        case: Case,
        weights: &'a Weights,
        kernels: &Kernels,
        threads: usize,
    ) -> anyhow::Result<Self> {
        let mut matrices = weights.matrices(&case)?;
        if case.tokens > MANY_TOKENS {
            matrices.truncate(MANY_MATRICES);
        }
        let rows = matrices[0].rows();
        let outputs = match case.reads {
            Reads::Inputs(_) => case.cols,
            _ => rows,
        };
        let mut random = Random::new(9);
        let list = match case.reads {
            Reads::Rows(share) => (0..rows as u32)
                .filter(|_| random.below(100) < share)
                .collect(),
            _ => Vec::new(),
        };
        Ok(Self {
            inputs: Inputs::random(&case, kernels),
            list,
            out: AlignedVec::zeroed(outputs * if case.shared() { threads } else { case.tokens }),
            claims: Claims::new(1024),
            matrices,
            case,
        })
    }

    /// How the outputs of a product are cut, as in a model.
    fn cuts(&self, width: usize, pool: &Pool) -> Cuts<'static> {
        let step = match self.case.layout.atom_rows() {
            rows if rows.is_multiple_of(16) => rows,
            rows => 16 * rows,
        };
        let most = width.div_ceil(PARTS_PER_THREAD * pool.threads());
        let most = most.next_multiple_of(step);
        match self.case.reads {
            Reads::Inputs(_) => Cuts::Every(width.div_ceil(STRIP).div_ceil(pool.threads()) * STRIP),
            _ if self.case.tokens < FEW_TOKENS => Cuts::Even { most, step },
            _ => Cuts::Every(most),
        }
    }

    /// The same by shares of the inputs, one for each thread.
    fn run_shares(&mut self, kernels: &Kernels, pool: &Pool) {
        let (width, shares) = (self.case.cols, pool.threads());
        let grid = Grid {
            rows: shares,
            width,
            stride: width,
            tile_rows: 1,
            columns: Cuts::Every(width),
        };
        for w in &self.matrices {
            let x = self.inputs.int8();
            let sums = Tiles::new(&mut self.out, grid, &mut self.claims);
            pool.run(shares, &|share| {
                let mut sums = sums.claim(share, 0);
                kernels.matmul_transposed_share(w, 0..width, x, [share, shares], &mut sums);
            });
            let (product, others) = self.out.split_at_mut(width);
            kernels.join_shares(w, x, product, others);
        }
    }

    /// The share of the weights that is needed.
    fn share(&self) -> f64 {
        let w = &self.matrices[0];
        match self.case.reads {
            Reads::All => 1.0,
            Reads::Rows(_) => self.list.len() as f64 / w.rows() as f64,
            Reads::Inputs(_) => {
                let codes = self.inputs.codes.iter().filter(|code| **code != 0).count();
                codes as f64 / (w.rows() * self.case.tokens) as f64
            }
        }
    }
}

impl Job for Work<'_> {
    fn name(&self) -> String {
        self.case.name()
    }

    fn shape(&self) -> [usize; 2] {
        [self.case.rows, self.case.cols]
    }

    fn tokens(&self) -> usize {
        self.case.tokens
    }

    fn bytes(&self) -> f64 {
        let w = &self.matrices[0];
        let scales = match w.scales() {
            Scales::Rows(values) => size_of_val(values),
            _ => 0,
        };
        (w.bytes().len() + scales) as f64 * self.share() * self.matrices.len() as f64
    }

    fn products(&self) -> f64 {
        let w = &self.matrices[0];
        (w.rows() * w.cols() * self.case.tokens) as f64 * self.share() * self.matrices.len() as f64
    }

    fn read(&self, kernels: &Kernels, pool: &Pool) -> bool {
        if !matches!(self.case.reads, Reads::All) || self.case.tokens > FEW_TOKENS {
            return false;
        }
        for w in &self.matrices {
            let cuts = self.cuts(w.rows(), pool);
            pool.run(cuts.parts(w.rows()), &|part| {
                let rows = cuts.part(part, w.rows());
                std::hint::black_box(kernels.read(share_of(w.bytes(), &rows, w.rows())));
            });
        }
        true
    }

    /// Multiplies all matrices, one after the other, each on all threads.
    fn run(&mut self, kernels: &Kernels, pool: &Pool) {
        if self.case.shared() {
            return self.run_shares(kernels, pool);
        }
        let input = self.inputs.input(&self.case);
        let width = match self.case.reads {
            Reads::Rows(_) => self.list.len(),
            _ => self.out.len() / self.case.tokens,
        };
        let grid = Grid {
            rows: self.case.tokens,
            width,
            stride: width,
            tile_rows: self.case.tokens,
            columns: self.cuts(width, pool),
        };
        for w in &self.matrices {
            let tiles = Tiles::new(&mut self.out, grid, &mut self.claims);
            pool.run(tiles.tile_columns(), &|part| {
                let (range, mut tile) = (tiles.columns_of(part), tiles.claim(0, part));
                match self.case.reads {
                    Reads::All => kernels.matmul(w, range, input, &mut tile),
                    Reads::Rows(_) => {
                        kernels.matmul_listed(w, &self.list[range], input, &mut tile);
                    }
                    Reads::Inputs(_) => {
                        kernels.matmul_transposed(w, range, self.inputs.int8(), &mut tile);
                    }
                }
            });
        }
    }
}
