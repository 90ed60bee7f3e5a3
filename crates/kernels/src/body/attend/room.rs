//! The rows of a block, as they are or unpacked to int8.

use super::requests::Requests;
use crate::body::packed::{from_bf16, unpack, widening};
use crate::kv::{Attend, KV_BLOCK, KvBlock, KvExact, KvSide, MAX_PACKED_HEAD_DIM};

/// Bytes past the last row that unpacking may write.
const SLACK: usize = 128;

/// A block of unpacked rows.
pub(super) struct Room {
    codes: [u8; KV_BLOCK * MAX_PACKED_HEAD_DIM + SLACK],
    scales: [f32; KV_BLOCK],
}

/// Room for keys and values, where they need it.
pub(super) struct Rooms([Option<Room>; 2]);

impl Rooms {
    /// None yet: a room that is moved is copied, there or not.
    pub(super) const NONE: Self = Self([const { None }; 2]);

    /// Makes what rooms are needed.
    #[inline(always)]
    pub(super) fn open(&mut self, a: &Attend<'_>) {
        for (room, side) in self.0.iter_mut().zip([&a.keys, &a.values]) {
            if side.kind().is_packed() {
                *room = Some(Room {
                    codes: [0; KV_BLOCK * MAX_PACKED_HEAD_DIM + SLACK],
                    scales: [0.0; KV_BLOCK],
                });
            }
        }
    }
}

/// Where queries that read the same rows find them.
pub(super) struct Sources<'a> {
    pub(super) a: &'a Attend<'a>,
    /// Position of one of the queries.
    pub(super) query: usize,
    /// The position after the last one that any of them sees.
    pub(super) end: usize,
}

impl<'a> Sources<'a> {
    /// The keys and values of a block.
    #[inline(always)]
    pub(super) fn blocks<'r>(&self, block: usize, rooms: &'r mut Rooms) -> [KvBlock<'r>; 2]
    where
        'a: 'r,
    {
        let sides = [&self.a.keys, &self.a.values];
        let mut rows = [sides[0].rows.block(block), sides[1].rows.block(block)];
        for (i, room) in rooms.0.iter_mut().enumerate() {
            if let Some(room) = room {
                rows[i] = self.unpacked(sides[i], block, room);
            }
        }
        rows
    }

    /// The rows of a block, unpacked into `room`.
    #[inline(always)]
    fn unpacked<'r>(&self, side: &KvSide<'a>, block: usize, room: &'r mut Room) -> KvBlock<'r> {
        let rows = side.rows.block(block);
        let start = block * KV_BLOCK;
        let end = (self.end - start).min(KV_BLOCK);
        let d = self.a.head_dim;
        let (first, recent) = match &side.exact {
            Some(exact) => {
                let recent = exact.from(self.query).saturating_sub(start).min(end);
                (first_rows(exact, block).min(recent), recent)
            }
            None => (0, end),
        };
        let bits = side.kind().bits();
        let narrow = 1.0 / f32::from(widening(bits));
        let packed = &rows.rows[first * rows.stride..recent * rows.stride];
        unpack(bits, packed, d, &mut room.codes[first * d..]);
        let stored = &rows.raw_scales.as_chunks().0[first..recent];
        for (scale, stored) in room.scales[first..recent].iter_mut().zip(stored) {
            *scale = from_bf16(u16::from_ne_bytes(*stored)) * narrow;
        }
        // Unpacking writes past a row, so the rows after it come after it.
        if let Some(exact) = &side.exact {
            copy(exact.recent.block(block), recent..end, d, room);
            if let Some(rows) = &exact.first {
                copy(rows.block(0), 0..first, d, room);
            }
        }
        KvBlock {
            rows: &room.codes[..KV_BLOCK * d],
            stride: d,
            scales: Some(&room.scales),
            raw_scales: &[],
        }
    }

    /// What to ask for while a block is at work: the next one, where some query sees it.
    #[inline(always)]
    pub(super) fn ahead(&self, block: usize) -> Requests {
        match (block + 1) * KV_BLOCK < self.end {
            true => Requests::of(
                &self.a.keys.rows.block(block + 1),
                &self.a.values.rows.block(block + 1),
            ),
            false => Requests::NONE,
        }
    }
}

/// How many of the block's rows are first rows.
#[inline(always)]
fn first_rows(exact: &KvExact<'_>, block: usize) -> usize {
    match (block, &exact.first) {
        (0, Some(rows)) => rows.slots(),
        _ => 0,
    }
}

/// Copies int8 rows with their scales.
#[inline(always)]
fn copy(from: KvBlock<'_>, rows: std::ops::Range<usize>, d: usize, room: &mut Room) {
    let bytes = rows.start * d..rows.end * d;
    room.codes[bytes.clone()].copy_from_slice(&from.rows[bytes]);
    let scales = from.raw_scales.as_chunks::<4>().0;
    for j in rows {
        room.scales[j] = f32::from_ne_bytes(scales[j]);
    }
}
