//! Byte pair merging: again and again the pair of lowest rank, and of those the leftmost, becomes one symbol.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A token and the bytes of the word that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Symbol {
    pub(crate) id: u32,
    pub(crate) len: usize,
}

/// Rank and result of a merge.
type Merge = (u32, u32);

/// No merge; this rank is none of a table.
const NONE: Merge = (u32::MAX, 0);
/// Symbols up to which comparing all ranks is faster than a heap.
const SHORT: usize = 32;

/// Merges the symbols of a word. `lookup` knows rank and result for a pair of ids. For `n` symbols it is asked fewer
/// than `3 n` times, and the work is `n log n`.
pub(crate) fn merge(symbols: &mut Vec<Symbol>, lookup: impl Fn(u32, u32) -> Option<Merge>) {
    let lookup = |left: Symbol, right: Symbol| lookup(left.id, right.id).unwrap_or(NONE);
    match symbols.len() {
        0 | 1 => {}
        len if len <= SHORT => short(symbols, lookup),
        // The positions of a heap's entries have 32 bits; a longer word does not fit in memory with what it needs.
        len if len < u32::MAX as usize => long(symbols, lookup),
        _ => {}
    }
}

fn short(symbols: &mut Vec<Symbol>, lookup: impl Fn(Symbol, Symbol) -> Merge) {
    // Element i belongs to symbols i and i + 1.
    let mut pairs = [NONE; SHORT];
    let mut count = symbols.len() - 1;
    for (pair, of) in pairs.iter_mut().zip(symbols.windows(2)) {
        *pair = lookup(of[0], of[1]);
    }
    // The first of equal ranks.
    while let Some((at, &(rank, new))) = pairs[..count]
        .iter()
        .enumerate()
        .min_by_key(|(_, pair)| pair.0)
        && rank != NONE.0
    {
        let right = symbols.remove(at + 1);
        symbols[at].id = new;
        symbols[at].len += right.len;
        pairs.copy_within(at + 1..count, at);
        count -= 1;
        if at < count {
            pairs[at] = lookup(symbols[at], symbols[at + 1]);
        }
        if at > 0 {
            pairs[at - 1] = lookup(symbols[at - 1], symbols[at]);
        }
    }
}

/// A symbol in a list, with the merge it has with the next one.
struct Node {
    symbol: Symbol,
    pair: Merge,
    prev: u32,
    next: u32,
}

/// No node.
const END: u32 = u32::MAX;

fn long(symbols: &mut Vec<Symbol>, lookup: impl Fn(Symbol, Symbol) -> Merge) {
    let last = symbols.len() - 1;
    let mut nodes: Vec<Node> = (symbols.iter().zip(0u32..))
        .map(|(&symbol, at)| Node {
            symbol,
            pair: symbols
                .get(at as usize + 1)
                .map_or(NONE, |&next| lookup(symbol, next)),
            prev: at.wrapping_sub(1),
            next: if at as usize == last { END } else { at + 1 },
        })
        .collect();
    let entry = |pair: Merge, at: u32| (pair != NONE).then_some(Reverse((pair.0, at, pair.1)));
    let first = nodes
        .iter()
        .zip(0..)
        .filter_map(|(node, at)| entry(node.pair, at));
    let mut heap: BinaryHeap<_> = first.collect();
    while let Some(Reverse((rank, at, new))) = heap.pop() {
        let node = &nodes[at as usize];
        // Entries whose pair is no more.
        if node.pair != (rank, new) || node.next == END {
            continue;
        }
        let (prev, gone) = (node.prev, node.next);
        let right = &mut nodes[gone as usize];
        let (len, next) = (right.symbol.len, right.next);
        right.pair = NONE;
        let node = &mut nodes[at as usize];
        node.symbol.id = new;
        node.symbol.len += len;
        node.next = next;
        let symbol = node.symbol;
        let mut pair = NONE;
        if next != END {
            nodes[next as usize].prev = at;
            pair = lookup(symbol, nodes[next as usize].symbol);
            heap.extend(entry(pair, at));
        }
        nodes[at as usize].pair = pair;
        if prev != END {
            let before = &mut nodes[prev as usize];
            before.pair = lookup(before.symbol, symbol);
            heap.extend(entry(before.pair, prev));
        }
    }
    symbols.clear();
    let mut at = 0;
    while let Some(node) = nodes.get(at as usize) {
        symbols.push(node.symbol);
        at = node.next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    fn symbols(ids: &[u32]) -> Vec<Symbol> {
        ids.iter().map(|&id| Symbol { id, len: 1 }).collect()
    }

    #[test]
    fn a_long_word_takes_few_look_ups() {
        // Powers of two of one letter, as in the vocabularies that have runs of spaces.
        let count = 1 << 20;
        let asked = Cell::new(0usize);
        let lookup = |left: u32, right: u32| {
            asked.set(asked.get() + 1);
            (left == right && left < 7).then_some((left, left + 1))
        };
        let mut word = symbols(&vec![0; count + 3]);
        merge(&mut word, lookup);
        assert_eq!(word.len(), count / 128 + 2);
        assert_eq!(word[0], Symbol { id: 7, len: 128 });
        assert_eq!(
            word.iter().map(|symbol| symbol.len).sum::<usize>(),
            count + 3
        );
        assert!(asked.get() < 3 * (count + 3), "{} look-ups", asked.get());
    }

    #[test]
    fn every_table_comes_to_an_end() {
        // A result that is one of its parts, and one that makes the same pair again.
        for lookup in [
            |_, _| Some((0, 5)),
            |left, right: u32| Some((9, left ^ right)),
            |_, _| Some((u32::MAX, 1)),
        ] {
            for len in [0, 1, 2, 31, 32, 33, 1000] {
                let mut word = symbols(&vec![5; len]);
                merge(&mut word, lookup);
                assert_eq!(word.iter().map(|symbol| symbol.len).sum::<usize>(), len);
            }
        }
    }

    proptest! {
        #[test]
        fn the_heap_does_what_comparing_all_does(
            ids in prop::collection::vec(0u32..4, 2..SHORT), seeds in prop::collection::vec(0u32..40, 256),
        ) {
            // Results are new tokens, as those of texts that grow are; ranks are unique.
            let lookup = |left: Symbol, right: Symbol| {
                let place = (left.id * 16 + right.id) as usize;
                match seeds.get(place) {
                    Some(&seed) if left.id.max(right.id) < 12 && seed < 12 => {
                        (seed * 256 + place as u32, left.id.max(right.id) + 1 + seed % 3)
                    }
                    _ => NONE,
                }
            };
            let (mut a, mut b) = (symbols(&ids), symbols(&ids));
            short(&mut a, lookup);
            long(&mut b, lookup);
            prop_assert_eq!(a, b);
        }
    }
}
