//! The tables in place. Whatever they hold, a look-up ends and stays within them.

use crate::hash;
use crate::layout::{Header, MAX_BUCKET, Places};

/// The tables of one tokenizer.
#[derive(Clone, Copy)]
pub(crate) struct Tables<'a> {
    starts: &'a [u8],
    token_buckets: &'a [u8],
    token_ids: &'a [u8],
    merge_buckets: &'a [u8],
    merges: &'a [u8],
    text: &'a [u8],
    tokens: u32,
    merge_count: u32,
}

impl<'a> Tables<'a> {
    /// The tables at their places. Where bytes are missing, the table is empty.
    pub(crate) fn new(bytes: &'a [u8], header: &Header, places: &Places) -> Self {
        let table = |place: &std::ops::Range<usize>| bytes.get(place.clone()).unwrap_or_default();
        Self {
            starts: table(&places.starts),
            token_buckets: table(&places.token_buckets),
            token_ids: table(&places.token_ids),
            merge_buckets: table(&places.merge_buckets),
            merges: table(&places.merges),
            text: table(&places.text),
            tokens: header.tokens,
            merge_count: header.merges,
        }
    }

    /// The text of a token. Ids without one have none.
    pub(crate) fn text(&self, id: u32) -> Option<&'a str> {
        let [start, end] = bounds(self.starts, id)?;
        let text = self.text.get(start..end)?;
        std::str::from_utf8(text)
            .ok()
            .filter(|text| !text.is_empty())
    }

    /// The id of a token.
    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        if self.tokens == 0 {
            return None;
        }
        let bucket = hash::of_text(text, self.tokens);
        let mut ids = entries(self.token_buckets, self.token_ids, bucket)?.map(|[id]| id);
        ids.find(|&id| {
            let found = bounds(self.starts, id).and_then(|[start, end]| self.text.get(start..end));
            found == Some(text.as_bytes()) && !text.is_empty()
        })
    }

    /// Rank and result of the merge of two tokens.
    pub(crate) fn merge(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        if self.merge_count == 0 {
            return None;
        }
        let bucket = hash::of_pair(left, right, self.merge_count);
        let mut merges = entries(self.merge_buckets, self.merges, bucket)?;
        let [_, _, rank, new] = merges.find(|[l, r, _, _]| [*l, *r] == [left, right])?;
        Some((rank, new))
    }
}

/// Element `index` of a table of integers, and the one after it.
fn bounds(table: &[u8], index: u32) -> Option<[usize; 2]> {
    let at = (index as usize).checked_mul(4)?;
    let pair: &[u8] = table.get(at..at.checked_add(8)?)?;
    Some(words(pair).map(|word| word as usize))
}

/// The entries of a bucket, each of `N` integers; no more than a written bucket can have.
fn entries<'a, const N: usize>(
    buckets: &[u8],
    table: &'a [u8],
    bucket: u32,
) -> Option<impl Iterator<Item = [u32; N]> + use<'a, N>> {
    let [start, end] = bounds(buckets, bucket)?;
    let range = start.checked_mul(4 * N)?..end.checked_mul(4 * N)?;
    let found = table.get(range)?.chunks_exact(4 * N);
    Some(found.take(MAX_BUCKET).map(words))
}

/// Integers, of which the bytes hold as many.
fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    words
}
