//! What kernels are measured against runs on every set, and does what it says.

use onebit_kernels::Kernels;

use crate::chosen::sets;
use crate::common::Random;

#[test]
fn reading_sees_every_word() {
    let bytes = Random(3).bytes(4 * 64 * 9);
    let words = bytes
        .as_chunks()
        .0
        .iter()
        .map(|word| u64::from_ne_bytes(*word));
    let expected = words.fold(0, |all, word| all ^ word);
    for set in sets() {
        assert_eq!(set.read(&bytes), expected, "{}", set.name());
    }
}

#[test]
fn multiplying_counts_planes() {
    for set in sets() {
        for (ternary, planes) in [(true, 4), (false, 1)] {
            let counted = set.multiply(3, ternary);
            assert_eq!(counted, 3 * planes * 4 * 4 * 64, "{}", set.name());
            assert_eq!(counted, Kernels::multiplications(3, ternary));
        }
    }
}
