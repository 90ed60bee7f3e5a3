//! What attention reads: queries, and views of the key and value cache.

/// Positions per block of [`Kernels::attend`](crate::Kernels::attend). Blocks lie at multiples of
/// this in absolute positions.
pub const KV_BLOCK: usize = 64;

/// How keys or values are stored.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvType {
    /// IEEE binary32.
    F32,
    /// IEEE binary16; larger values are stored as +-65504.
    F16,
}

impl KvType {
    /// Every type this version knows.
    pub const ALL: &'static [KvType] = &[KvType::F32, KvType::F16];

    /// The name people type on a command line.
    pub fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
        }
    }

    /// The type with this [`name`](KvType::name).
    pub fn from_name(name: &str) -> Option<KvType> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Bytes of one key or value of `head_dim` elements.
    pub fn row_bytes(self, head_dim: usize) -> usize {
        match self {
            KvType::F32 => 4 * head_dim,
            KvType::F16 => 2 * head_dim,
        }
    }
}

/// The keys, or the values, of one kv head: a ring of slots, position `p` in slot `p % slots`.
#[derive(Clone, Copy, Debug)]
pub struct KvView<'a> {
    pub(crate) kind: KvType,
    pub(crate) data: &'a [u8],
    pub(crate) slots: usize,
    pub(crate) row_bytes: usize,
}

impl<'a> KvView<'a> {
    /// Views `slots` rows of `kind.row_bytes(head_dim)` bytes, as
    /// [`Kernels::store_kv`](crate::Kernels::store_kv) wrote them.
    ///
    /// # Panics
    /// When `data` is shorter than that, or there are no slots.
    pub fn new(kind: KvType, data: &'a [u8], slots: usize, head_dim: usize) -> Self {
        let row_bytes = kind.row_bytes(head_dim);
        let needed = slots.checked_mul(row_bytes).expect("cache size overflows");
        assert!(slots > 0, "a cache without slots");
        assert!(
            needed <= data.len(),
            "{slots} slots take {needed} bytes, got {}",
            data.len()
        );
        Self {
            kind,
            data,
            slots,
            row_bytes,
        }
    }

    /// How the rows are stored.
    pub fn kind(&self) -> KvType {
        self.kind
    }

    /// Rows in the ring.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// The bytes of the row of `position`.
    pub(crate) fn row(&self, position: usize) -> &'a [u8] {
        &self.data[position % self.slots * self.row_bytes..][..self.row_bytes]
    }
}

/// One query position of the query heads that share a kv head, and what it attends to.
#[derive(Clone, Copy, Debug)]
pub struct Attend<'a> {
    /// The queries, `heads * head_dim` values, one head after the other.
    pub q: &'a [f32],
    /// Elements of one head.
    pub head_dim: usize,
    /// The keys of the kv head.
    pub keys: KvView<'a>,
    /// The values of the kv head; as many slots as there are keys is usual but not required.
    pub values: KvView<'a>,
    /// The first position attended to.
    pub first: usize,
    /// The last position attended to, inclusive.
    pub last: usize,
    /// Multiplier of the scores, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
}

impl Attend<'_> {
    /// How many query heads there are.
    pub fn heads(&self) -> usize {
        self.q.len() / self.head_dim
    }

    /// # Panics
    /// When sizes do not fit each other or the positions do not fit the rings.
    pub(crate) fn check(&self, out: &[f32]) {
        let d = self.head_dim;
        assert!(d > 0, "heads of 0 elements");
        assert!(
            self.q.len().is_multiple_of(d),
            "{} query elements, heads of {d}",
            self.q.len()
        );
        assert_eq!(out.len(), self.q.len(), "attention output and queries");
        assert!(
            self.first <= self.last,
            "positions {}..={}",
            self.first,
            self.last
        );
        for view in [&self.keys, &self.values] {
            assert_eq!(
                view.row_bytes,
                view.kind.row_bytes(d),
                "cache rows of another head size"
            );
            assert!(
                self.last - self.first < view.slots,
                "more positions than slots"
            );
        }
    }
}
