//! Which stages stay in memory, and which are streamed.
//!
//! Steps go through all weights in the same order, again and again. A cache that drops what was used longest ago would miss
//! every time, so a fixed part stays and only the rest is read for every token. The streamed stages are spread evenly between
//! the others, so that the disk has something to do while those are computed.

/// For each stage, whether it is streamed: as little as possible, so that the others together with the two that are in memory
/// while one is computed and the next one read take at most `budget` bytes. All where not even that is enough.
pub(super) fn streamed(sizes: &[u64], budget: u64) -> Vec<bool> {
    let total: u64 = sizes.iter().sum();
    if total <= budget {
        return vec![false; sizes.len()];
    }
    let layers = sizes.len().saturating_sub(1);
    let choices = [false, true].into_iter().filter_map(|head| {
        let choices = (0..=layers).map(|count| spread(layers, count, head));
        choices
            .filter(|choice| choice.contains(&true))
            .find(|choice| resident(sizes, choice) <= budget)
    });
    choices
        .min_by_key(|choice| bytes_of(sizes, choice))
        .unwrap_or_else(|| vec![true; sizes.len()])
}

/// `count` of the layers, evenly, and the head or not.
fn spread(layers: usize, count: usize, head: bool) -> Vec<bool> {
    let layer = |i| (i + 1) * count / layers.max(1) > i * count / layers.max(1);
    (0..layers).map(layer).chain([head]).collect()
}

/// Bytes of the stages that are streamed.
pub(super) fn bytes_of(sizes: &[u64], streamed: &[bool]) -> u64 {
    let of = |(size, streamed): (&u64, &bool)| if *streamed { *size } else { 0 };
    sizes.iter().zip(streamed).map(of).sum()
}

/// Most bytes in memory at one time.
fn resident(sizes: &[u64], streamed: &[bool]) -> u64 {
    let total: u64 = sizes.iter().sum();
    let passing: Vec<u64> = sizes
        .iter()
        .zip(streamed)
        .filter(|(_, streamed)| **streamed)
        .map(|(size, _)| *size)
        .collect();
    let next = passing.iter().cycle().skip(1);
    let pairs = passing.iter().zip(next).map(|(a, b)| a + b);
    let pairs = if passing.len() == 1 {
        passing[0]
    } else {
        pairs.max().unwrap_or(0)
    };
    total - passing.iter().sum::<u64>() + pairs
}

/// For each stage the next one, in the order of steps without end, that is streamed.
pub(super) fn next_streamed(streamed: &[bool]) -> Vec<Option<usize>> {
    let stages = streamed.len();
    let next = |stage| {
        (stage + 1..=stage + stages)
            .map(|next| next % stages)
            .find(|&next| streamed[next])
    };
    (0..stages).map(next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_streamed_where_all_fits() {
        assert_eq!(streamed(&[10, 10, 10, 30], 60), [false; 4]);
    }

    #[test]
    fn what_stays_and_what_passes_fit_the_budget() {
        let sizes = [10u64, 10, 10, 10, 10, 10, 10, 10, 25];
        for budget in 30..105 {
            let choice = streamed(&sizes, budget);
            assert!(resident(&sizes, &choice) <= budget, "{budget}: {choice:?}");
            let more = streamed(&sizes, budget + 10);
            assert!(bytes_of(&sizes, &more) <= bytes_of(&sizes, &choice));
        }
        assert_eq!(streamed(&sizes, 19), [true; 9]);
    }

    #[test]
    fn streamed_layers_are_spread() {
        let choice = streamed(&[10, 10, 10, 10, 10, 10, 10, 10, 10], 70);
        assert_eq!(
            choice,
            [false, true, false, true, false, true, false, true, false]
        );
    }

    #[test]
    fn the_next_streamed_stage_may_be_in_the_next_step() {
        assert_eq!(
            next_streamed(&[false, true, false, true]),
            [Some(1), Some(3), Some(3), Some(1)]
        );
        assert_eq!(next_streamed(&[false, true]), [Some(1), Some(1)]);
        assert_eq!(next_streamed(&[false, false]), [None, None]);
    }
}
