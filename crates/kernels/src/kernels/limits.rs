//! What products are measured against.

use super::Kernels;
use crate::body::limits::MULTIPLIED;

impl Kernels {
    /// Reads `bytes` as fast as the set can, which is what products of one token are measured
    /// against. Less than 256 bytes at the end may stay unread. The result only makes sure that the
    /// rest is not.
    pub fn read(&self, bytes: &[u8]) -> u64 {
        // SAFETY: the registry offers this set only on a CPU that has its features.
        unsafe { (self.read)(bytes) }
    }

    /// Multiplies the same bytes `rounds` times, as products of ternary (`ternary`) or
    /// int8 weights do, which is what products of many tokens are measured against: nothing but multiplying and adding
    /// on x86-64 (with `amx` tiles that are loaded from the second-level cache, as many as are multiplied), blocks of 4 rows and 4 tokens
    /// elsewhere. Returns the number of multiplications.
    pub fn multiply(&self, rounds: usize, ternary: bool) -> u64 {
        // SAFETY: the registry offers this set only on a CPU that has its features.
        std::hint::black_box(unsafe { (self.multiply)(rounds, ternary) });
        Self::multiplications(rounds, ternary)
    }

    /// The number of multiplications that [`multiply`](Kernels::multiply) does.
    pub fn multiplications(rounds: usize, ternary: bool) -> u64 {
        let planes = if ternary { 4 } else { 1 };
        rounds as u64 * planes * MULTIPLIED
    }
}
