//! What attention reads: the types of a key and value cache, views of it, and queries.

mod attend;
mod view;

pub use attend::{Attend, KvSide};
pub(crate) use attend::{KvExact, MAX_HEAD_DIM};
pub(crate) use view::KvBlock;
pub use view::{KvView, KvViewMut};

/// Positions per block of [`Kernels::attend`](crate::Kernels::attend). Blocks lie at multiples of
/// this in absolute positions.
pub const KV_BLOCK: usize = 64;

/// Positions per span: what [`Kernels::attend_span`](crate::Kernels::attend_span) computes on its
/// own. Spans lie at multiples of this in absolute positions.
pub const KV_SPAN: usize = 512;

/// Query positions that read the same rows at 8 bits, where a cache has [fewer](KvType::is_packed):
/// they lie at multiples of this.
pub const KV_GROUP: usize = 16;

/// Widest head whose rows can have fewer than 8 bits a number.
pub const MAX_PACKED_HEAD_DIM: usize = 256;

/// How keys or values are stored.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvType {
    /// IEEE binary32.
    F32,
    /// IEEE binary16; larger values are stored as +-65504.
    F16,
    /// Int8 with one `f32` scale per row: `x = code * scale`, `|code| <= 127`.
    Q8,
    /// The odd numbers from -15 to 15 with one bfloat16 scale per row, `absmax / 15`.
    Q4,
    /// -3, -1, 1 and 3 with one bfloat16 scale per row: the four levels that are best for a normal
    /// distribution (Max, 1960), 0.498 times the root mean square apart from 0.
    Q2,
    /// Signs with one bfloat16 scale per row, the mean magnitude.
    B1,
}

impl KvType {
    /// Every type this version knows, from large to small.
    pub const ALL: &'static [KvType] = &[
        KvType::F32,
        KvType::F16,
        KvType::Q8,
        KvType::Q4,
        KvType::Q2,
        KvType::B1,
    ];

    /// The name people type on a command line.
    pub fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
            KvType::Q8 => "q8",
            KvType::Q4 => "q4",
            KvType::Q2 => "q2",
            KvType::B1 => "b1",
        }
    }

    /// The type with this [`name`](KvType::name).
    pub fn from_name(name: &str) -> Option<KvType> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Bits of one number.
    pub fn bits(self) -> usize {
        match self {
            KvType::F32 => 32,
            KvType::F16 => 16,
            KvType::Q8 => 8,
            KvType::Q4 => 4,
            KvType::Q2 => 2,
            KvType::B1 => 1,
        }
    }

    /// Whether a number has fewer than 8 bits. Such rows are meant to be
    /// [rotated](crate::Kernels::rotate), and heads have at most [`MAX_PACKED_HEAD_DIM`] elements.
    pub fn is_packed(self) -> bool {
        self.bits() < 8
    }

    /// Bytes of one key or value of `head_dim` elements, its scale included.
    pub fn row_bytes(self, head_dim: usize) -> usize {
        self.stride(head_dim) + self.scale_bytes()
    }

    /// Bytes from one row to the next: those of its elements, without a scale.
    pub fn stride(self, head_dim: usize) -> usize {
        (head_dim * self.bits()).div_ceil(8)
    }

    /// Bytes of the scale of a row.
    pub(crate) fn scale_bytes(self) -> usize {
        match self {
            KvType::F32 | KvType::F16 => 0,
            KvType::Q8 => size_of::<f32>(),
            KvType::Q4 | KvType::Q2 | KvType::B1 => size_of::<u16>(),
        }
    }
}
