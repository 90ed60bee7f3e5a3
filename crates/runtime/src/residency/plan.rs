//! Which stages stay in memory, and which are streamed.
//!
//! Steps go through all weights in the same order, again and again. A cache that drops what was used longest ago would miss
//! every time, so a fixed part stays and only the rest is read for every token. The streamed stages are spread evenly between
//! the others, so that the disk has something to do while those are computed.

/// A choice of what stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// For each stage, whether it is streamed.
    pub(super) streamed: Vec<bool>,
    /// For each stage the next one, in the order of steps without end, that is streamed.
    pub(super) next: Vec<Option<usize>>,
    /// Bytes that are streamed.
    pub(super) bytes: u64,
    /// Bytes in memory at most: what stays, and two streamed stages: one is computed while the next one is read.
    pub(super) resident: u64,
}

/// The choices for stages of these sizes, those that stream less first, and those that take less memory last.
pub(super) fn choices(sizes: &[u64]) -> Vec<Choice> {
    let layers = sizes.len().saturating_sub(1);
    let all = [false, true]
        .into_iter()
        .flat_map(|head| (0..=layers).map(move |count| spread(layers, count, head)));
    let mut all: Vec<Choice> = all.map(|streamed| Choice::new(sizes, streamed)).collect();
    all.sort_by_key(|choice| (choice.bytes, choice.resident));
    let mut least = u64::MAX;
    all.retain(|choice| {
        let useful = choice.resident < least;
        least = least.min(choice.resident);
        useful
    });
    all
}

/// The first of `choices` that fits in `room` bytes, else the smallest.
pub(super) fn choose(choices: &[Choice], room: u64) -> usize {
    let fits = choices.iter().position(|choice| choice.resident <= room);
    fits.unwrap_or(choices.len() - 1)
}

impl Choice {
    fn new(sizes: &[u64], streamed: Vec<bool>) -> Self {
        Self {
            next: next_streamed(&streamed),
            bytes: bytes_of(sizes, &streamed),
            resident: resident(sizes, &streamed),
            streamed,
        }
    }
}

/// `count` of the layers, evenly, and the head or not.
fn spread(layers: usize, count: usize, head: bool) -> Vec<bool> {
    let layer = |i| (i + 1) * count / layers.max(1) > i * count / layers.max(1);
    (0..layers).map(layer).chain([head]).collect()
}

/// Bytes of the stages that are streamed.
fn bytes_of(sizes: &[u64], streamed: &[bool]) -> u64 {
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
fn next_streamed(streamed: &[bool]) -> Vec<Option<usize>> {
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

    fn streamed(sizes: &[u64], room: u64) -> Choice {
        let choices = choices(sizes);
        choices[choose(&choices, room)].clone()
    }

    #[test]
    fn nothing_is_streamed_where_all_fits() {
        assert_eq!(streamed(&[10, 10, 10, 30], 60).streamed, [false; 4]);
    }

    #[test]
    fn what_stays_and_what_passes_fit_the_room() {
        let sizes = [10u64, 10, 10, 10, 10, 10, 10, 10, 25];
        for room in 35..105 {
            let (choice, more) = (streamed(&sizes, room), streamed(&sizes, room + 10));
            assert!(choice.resident <= room, "{room}: {choice:?}");
            assert!(more.bytes <= choice.bytes);
        }
        let least = streamed(&sizes, 0);
        assert!(least.resident <= 35, "{least:?}");
    }

    #[test]
    fn streamed_layers_are_spread() {
        let choice = streamed(&[10, 10, 10, 10, 10, 10, 10, 10, 10], 70);
        assert_eq!(
            choice.streamed,
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
