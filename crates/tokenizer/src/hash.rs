//! The hashes that say in which bucket an entry lies. They are part of the format.

/// 2^64 divided by the golden ratio, an odd number.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// Offset basis and prime of FNV-1a with 64 bits.
const FNV: [u64; 2] = [0xcbf2_9ce4_8422_2325, 0x0000_0100_0000_01b3];

/// The bucket, of `buckets`, of a token: FNV-1a of its bytes, mixed.
pub(crate) fn of_text(text: &str, buckets: u32) -> u32 {
    let hash = text
        .bytes()
        .fold(FNV[0], |h, byte| (h ^ u64::from(byte)).wrapping_mul(FNV[1]));
    bucket(hash, buckets)
}

/// The bucket, of `buckets`, of a pair of ids.
pub(crate) fn of_pair(left: u32, right: u32, buckets: u32) -> u32 {
    bucket(u64::from(left) << 32 | u64::from(right), buckets)
}

fn bucket(value: u64, buckets: u32) -> u32 {
    let mixed = value.wrapping_mul(GOLDEN);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(GOLDEN);
    // The upper half as a fraction of 1, times the number of buckets.
    (((mixed >> 32) * u64::from(buckets)) >> 32) as u32
}
