//! The products that `bench kernels` times.

use onebit_format::{Layout, SIGN_GROUP};

/// What the weights are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activations {
    /// int8, one scale per token.
    Int8,
    /// int8, one scale per 128 columns.
    Int8Groups,
    /// Signs, one bit each.
    Bits,
    Float,
}

/// Which weights are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    All,
    /// This percentage of the rows, by a list.
    Rows(usize),
    /// The rows of a matrix stored transposed whose inputs are not zero, this percentage.
    Inputs(usize),
}

/// One product.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) layout: Layout,
    /// Columns that share a scale, 0 where the layout's own kind of scale applies.
    pub(super) group: usize,
    pub(super) activations: Activations,
    pub(super) reads: Reads,
    /// Rows and columns as they are stored.
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) tokens: usize,
}

impl Case {
    const fn decode(layout: Layout, rows: usize, cols: usize) -> Self {
        Self {
            layout,
            group: 0,
            activations: Activations::Int8,
            reads: Reads::All,
            rows,
            cols,
            tokens: 1,
        }
    }

    const fn reads(mut self, reads: Reads) -> Self {
        self.reads = reads;
        self
    }

    const fn with(mut self, activations: Activations) -> Self {
        self.activations = activations;
        self
    }

    const fn grouped(mut self) -> Self {
        self.group = SIGN_GROUP;
        self
    }

    const fn batch(mut self, tokens: usize) -> Self {
        self.tokens = tokens;
        self
    }

    /// Columns of the activations.
    pub(super) fn inputs(&self) -> usize {
        match self.reads {
            Reads::Inputs(_) => self.rows,
            _ => self.cols,
        }
    }

    /// What the table calls it.
    pub(super) fn name(&self) -> String {
        let mut name = self.layout.name().to_owned();
        if self.group > 0 {
            name += &format!(" groups of {}", self.group);
        }
        name += match self.activations {
            Activations::Int8 => " x int8",
            Activations::Int8Groups => " x int8 groups",
            Activations::Bits => " x signs",
            Activations::Float => " x f32",
        };
        match self.reads {
            Reads::All => {}
            Reads::Rows(share) => name += &format!(", {share} % of rows"),
            Reads::Inputs(share) => name += &format!(", {share} % of inputs"),
        }
        name
    }

    /// Whether threads take shares of the inputs, as a model's do for one token.
    pub(super) fn shared(&self) -> bool {
        matches!(self.reads, Reads::Inputs(_)) && self.tokens == 1
    }
}

/// One token: bound by memory.
pub(super) const DECODE: &[Case] = &[
    Case::decode(Layout::T2, 6912, 2560),
    Case::decode(Layout::T2, 2560, 6912),
    Case::decode(Layout::T2, 6912, 2560).reads(Reads::Rows(50)),
    Case::decode(Layout::T2, 6912, 2560).reads(Reads::Rows(20)),
    Case::decode(Layout::T2, 6912, 2560).reads(Reads::Inputs(100)),
    Case::decode(Layout::T2, 6912, 2560).reads(Reads::Inputs(50)),
    Case::decode(Layout::T2, 6912, 2560).reads(Reads::Inputs(20)),
    Case::decode(Layout::T5, 6912, 2560),
    Case::decode(Layout::T5, 6912, 2560).reads(Reads::Rows(50)),
    Case::decode(Layout::T5R5, 6912, 2560),
    Case::decode(Layout::T5, 5460, 2048),
    Case::decode(Layout::T5R5, 5460, 2048),
    Case::decode(Layout::T2, 6144, 2048).grouped(),
    Case::decode(Layout::T2R16, 6912, 2560),
    Case::decode(Layout::T2R16, 6144, 2048)
        .grouped()
        .with(Activations::Int8Groups),
    Case::decode(Layout::B1, 5632, 2048),
    Case::decode(Layout::B1, 5632, 2048).with(Activations::Bits),
    Case::decode(Layout::B1, 6144, 2048)
        .grouped()
        .with(Activations::Int8Groups),
    Case::decode(Layout::B1R64, 5632, 2048),
    Case::decode(Layout::B1R64, 14336, 4096),
    Case::decode(Layout::B1R64, 6144, 2048)
        .grouped()
        .with(Activations::Int8Groups),
    Case::decode(Layout::I8, 128256, 2560),
    Case::decode(Layout::I4, 128256, 2560),
    Case::decode(Layout::F16, 5632, 2048).with(Activations::Float),
    Case::decode(Layout::BF16, 5632, 2048).with(Activations::Float),
    Case::decode(Layout::F32, 5632, 2048).with(Activations::Float),
];

/// Several tokens: from memory-bound to compute-bound.
pub(super) const BATCHES: &[Case] = &[
    Case::decode(Layout::T2, 6912, 2560).batch(2),
    Case::decode(Layout::T2, 6912, 2560).batch(4),
    Case::decode(Layout::T2, 6912, 2560).batch(8),
    Case::decode(Layout::T2, 6912, 2560).batch(16),
    Case::decode(Layout::T5, 6912, 2560).batch(4),
    Case::decode(Layout::T5R5, 6912, 2560).batch(4),
    Case::decode(Layout::T2R16, 6144, 2048)
        .grouped()
        .with(Activations::Int8Groups)
        .batch(4),
    Case::decode(Layout::B1R64, 6144, 2048)
        .grouped()
        .with(Activations::Int8Groups)
        .batch(4),
];

/// Many tokens: bound by multiplication.
pub(super) const PREFILL: &[Case] = &[
    Case::decode(Layout::T2, 6912, 2560).batch(512),
    Case::decode(Layout::T2, 2560, 6912).batch(512),
    Case::decode(Layout::T5, 6912, 2560).batch(512),
    Case::decode(Layout::T5R5, 6912, 2560).batch(512),
    Case::decode(Layout::T2, 6912, 2560)
        .reads(Reads::Inputs(50))
        .batch(512),
    Case::decode(Layout::T2, 6144, 2048).grouped().batch(128),
    Case::decode(Layout::T2R16, 6144, 2048)
        .grouped()
        .with(Activations::Int8Groups)
        .batch(128),
    Case::decode(Layout::B1, 5632, 2048).batch(128),
    Case::decode(Layout::B1, 5632, 2048)
        .with(Activations::Bits)
        .batch(128),
    Case::decode(Layout::B1R64, 6144, 2048)
        .grouped()
        .with(Activations::Int8Groups)
        .batch(128),
    Case::decode(Layout::I8, 6912, 2560).batch(128),
    Case::decode(Layout::I4, 6912, 2560).batch(128),
    Case::decode(Layout::F16, 5632, 2048)
        .with(Activations::Float)
        .batch(64),
];
