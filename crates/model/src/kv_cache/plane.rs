//! Rows of all kv heads of one layer.

use std::io::{self, Read, Write};

use onebit_kernels::{AlignedVec, KV_BLOCK, Kernels, KvSide, KvType, KvView, KvViewMut};

use super::options::LayerShape;

/// The keys, or the values, of one layer.
#[derive(Clone)]
pub(crate) struct Side {
    main: Plane,
    exact: Option<Exact>,
}

/// Int8 rows that stand in for some of fewer bits.
#[derive(Clone)]
struct Exact {
    first: Option<Plane>,
    recent: Plane,
    reach: usize,
}

impl Side {
    pub(crate) fn new(
        kind: KvType,
        kv_heads: usize,
        head_dim: usize,
        shape: &LayerShape,
    ) -> Option<Self> {
        let plane = |kind, slots, order| Plane::new(kind, kv_heads, head_dim, slots, order);
        let order = if shape.pinned {
            Order::Pinned
        } else {
            Order::Ring
        };
        let exact = match kind.is_packed() {
            true => Some(Exact {
                first: match shape.first {
                    0 => None,
                    rows => Some(plane(KvType::Q8, rows, Order::First)?),
                },
                recent: plane(KvType::Q8, shape.recent, Order::Ring)?,
                reach: shape.reach,
            }),
            false => None,
        };
        Some(Self {
            main: plane(kind, shape.slots, order)?,
            exact,
        })
    }

    /// Bytes that [`new`](Self::new) would reserve, `None` on overflow.
    pub(crate) fn bytes(
        kind: KvType,
        kv_heads: usize,
        head_dim: usize,
        shape: &LayerShape,
    ) -> Option<usize> {
        let exact = match kind.is_packed() {
            true => shape.recent.checked_add(shape.first)?,
            false => 0,
        };
        let main = shape.slots.checked_mul(kind.row_bytes(head_dim))?;
        let exact = exact.checked_mul(KvType::Q8.row_bytes(head_dim))?;
        main.checked_add(exact)?.checked_mul(kv_heads)
    }

    pub(crate) fn kind(&self) -> KvType {
        self.main.kind
    }

    /// What the kernels see of one kv head.
    pub(crate) fn head(&self, kv_head: usize) -> KvSide<'_> {
        let side = KvSide::from(self.main.head(kv_head));
        match &self.exact {
            Some(exact) => {
                let first = exact.first.as_ref().map(|plane| plane.head(kv_head));
                side.with_exact(first, exact.recent.head(kv_head), exact.reach)
            }
            None => side,
        }
    }

    /// Stores the rows of one position, `kv_heads * head_dim` numbers.
    pub(crate) fn store(&mut self, kernels: &Kernels, position: usize, rows: &[f32]) {
        self.main.store(kernels, position, rows);
        if let Some(exact) = &mut self.exact {
            exact.recent.store(kernels, position, rows);
            if let Some(first) = exact.first.as_mut().filter(|first| position < first.slots) {
                first.store(kernels, position, rows);
            }
        }
    }

    /// Everything with rows: all of them, then those of the first positions and of the last ones.
    pub(super) fn planes(&self) -> impl Iterator<Item = &Plane> {
        let exact = self.exact.iter();
        let exact = exact.flat_map(|exact| exact.first.iter().chain([&exact.recent]));
        std::iter::once(&self.main).chain(exact)
    }

    /// The same, to be changed.
    pub(super) fn planes_mut(&mut self) -> impl Iterator<Item = &mut Plane> {
        let exact = self.exact.iter_mut();
        let exact = exact.flat_map(|exact| exact.first.iter_mut().chain([&mut exact.recent]));
        std::iter::once(&mut self.main).chain(exact)
    }

    /// A copy of the rows of the first `len` positions, those that are still there.
    pub(crate) fn fork(&self, len: usize) -> Self {
        let exact = self.exact.as_ref().map(|exact| Exact {
            first: exact.first.as_ref().map(|plane| plane.fork(len)),
            recent: exact.recent.fork(len),
            reach: exact.reach,
        });
        Self {
            main: self.main.fork(len),
            exact,
        }
    }
}

/// Which slots positions have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Those of a ring.
    Ring,
    /// Those of a ring beside the first block, which stays.
    Pinned,
    /// There are only the first positions.
    First,
}

/// Rows of all kv heads, one head after the other.
#[derive(Clone)]
pub(super) struct Plane {
    kind: KvType,
    head_dim: usize,
    slots: usize,
    order: Order,
    data: AlignedVec<u8>,
}

impl Plane {
    fn new(
        kind: KvType,
        kv_heads: usize,
        head_dim: usize,
        slots: usize,
        order: Order,
    ) -> Option<Self> {
        let data = AlignedVec::try_zeroed(kv_heads * slots * kind.row_bytes(head_dim))?;
        Some(Self {
            kind,
            head_dim,
            slots,
            order,
            data,
        })
    }

    fn head_bytes(&self) -> usize {
        self.slots * self.kind.row_bytes(self.head_dim)
    }

    fn head(&self, kv_head: usize) -> KvView<'_> {
        let bytes = self.head_bytes();
        let data = &self.data[kv_head * bytes..][..bytes];
        let ring = || KvView::new(self.kind, data, self.slots, self.head_dim);
        match self.order {
            Order::Ring => ring(),
            Order::Pinned => ring().pinned(),
            Order::First => KvView::first_rows(self.kind, data, self.slots, self.head_dim),
        }
    }

    fn store(&mut self, kernels: &Kernels, position: usize, rows: &[f32]) {
        let head_bytes = self.head_bytes();
        let heads = self.data.chunks_exact_mut(head_bytes);
        for (head, x) in heads.zip(rows.chunks_exact(self.head_dim)) {
            let (kind, slots, d) = (self.kind, self.slots, self.head_dim);
            let mut view = match self.order {
                Order::Ring => KvViewMut::new(kind, head, slots, d),
                Order::Pinned => KvViewMut::new(kind, head, slots, d).pinned(),
                Order::First => KvViewMut::first_rows(kind, head, slots, d),
            };
            kernels.store_kv(&mut view, position, x);
        }
    }

    /// Slots that `len` positions can have touched.
    fn used(&self, len: usize) -> usize {
        len.next_multiple_of(KV_BLOCK).min(self.slots)
    }

    /// Bytes of the codes and of the scales of one slot.
    fn slot_bytes(&self) -> [usize; 2] {
        let row = self.kind.stride(self.head_dim);
        [row, self.kind.row_bytes(self.head_dim) - row]
    }

    /// Bytes of all heads' slots that `len` positions can have touched.
    pub(super) fn used_bytes(&self, len: usize) -> usize {
        let heads = self.data.len() / self.head_bytes();
        heads * self.used(len) * self.kind.row_bytes(self.head_dim)
    }

    /// Writes these slots.
    pub(super) fn write(&self, len: usize, out: &mut impl Write) -> io::Result<()> {
        let [row, scale] = self.slot_bytes();
        let used = self.used(len);
        for head in self.data.chunks_exact(self.head_bytes()) {
            let (rows, scales) = head.split_at(self.slots * row);
            out.write_all(&rows[..used * row])?;
            out.write_all(&scales[..used * scale])?;
        }
        Ok(())
    }

    /// Reads what [`write`](Self::write) wrote, also from a plane of another number of slots.
    pub(super) fn read(&mut self, len: usize, input: &mut impl Read) -> io::Result<()> {
        let [row, scale] = self.slot_bytes();
        let (used, slots, head_bytes) = (self.used(len), self.slots, self.head_bytes());
        for head in self.data.chunks_exact_mut(head_bytes) {
            let (rows, scales) = head.split_at_mut(slots * row);
            input.read_exact(&mut rows[..used * row])?;
            input.read_exact(&mut scales[..used * scale])?;
        }
        Ok(())
    }

    fn fork(&self, len: usize) -> Self {
        let mut data = AlignedVec::zeroed(self.data.len());
        let head_bytes = self.head_bytes();
        let used = self.used(len);
        let [row, scale] = self.slot_bytes();
        for (to, from) in data
            .chunks_exact_mut(head_bytes)
            .zip(self.data.chunks_exact(head_bytes))
        {
            let (to_rows, to_scales) = to.split_at_mut(self.slots * row);
            let (rows, scales) = from.split_at(self.slots * row);
            to_rows[..used * row].copy_from_slice(&rows[..used * row]);
            to_scales[..used * scale].copy_from_slice(&scales[..used * scale]);
        }
        Self { data, ..*self }
    }
}
