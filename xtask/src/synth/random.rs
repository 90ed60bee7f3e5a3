//! Seeded random numbers, fast rather than good.

/// A generator of the xorshift family.
pub(crate) struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.bits()) * limit as u128) >> 64) as usize
    }

    /// Fills `values` with numbers in -1..1.
    pub(crate) fn fill(&mut self, values: &mut [f32]) {
        for pair in values.chunks_mut(2) {
            let bits = self.bits();
            let unit = |bits: u64| (bits >> 8) as f32 / (1 << 23) as f32 - 1.0;
            pair[0] = unit(bits >> 32);
            if let Some(second) = pair.get_mut(1) {
                *second = unit(bits & 0xffff_ffff);
            }
        }
    }

    /// Fills `codes` with -1, 0 and 1, each as likely as the others.
    pub(crate) fn fill_ternary(&mut self, codes: &mut [i8]) {
        for chunk in codes.chunks_mut(16) {
            let mut bits = self.bits();
            for code in chunk {
                // Four bits leave a sixteenth for a second try, taken from the upper half.
                let mut draw = bits & 15;
                bits = bits.rotate_right(4);
                if draw == 15 {
                    draw = self.bits() % 15;
                }
                *code = (draw / 5) as i8 - 1;
            }
        }
    }

    /// Fills `codes` with -1 and 1.
    pub(crate) fn fill_binary(&mut self, codes: &mut [i8]) {
        for chunk in codes.chunks_mut(64) {
            let bits = self.bits();
            for (place, code) in chunk.iter_mut().enumerate() {
                *code = (bits >> place & 1) as i8 * 2 - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_equally_likely() {
        let mut codes = vec![0; 300_000];
        Random::new(1).fill_ternary(&mut codes);
        for code in -1..=1 {
            let count = codes.iter().filter(|c| **c == code).count();
            assert!((98_000..102_000).contains(&count), "{code}: {count}");
        }
        let mut values = vec![0.0; 10_001];
        Random::new(2).fill(&mut values);
        assert!(values.iter().all(|x| (-1.0..1.0).contains(x)));
        assert!(values.iter().sum::<f32>().abs() < 300.0);
    }
}
