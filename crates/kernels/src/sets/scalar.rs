//! The portable set: arrays and plain loops, which the compiler turns into whatever the baseline of
//! the target offers.

use std::ops::{Add, Div, Mul, Sub};

use half::f16;

use super::{Set, Vector};

crate::sets::kernel_set!("scalar", Scalar, doc = "Asks nothing of the CPU.");

/// Proof of nothing: every CPU can run this set.
#[derive(Clone, Copy)]
pub(crate) struct Scalar(());

impl Scalar {
    /// # Safety
    /// None needed; unsafe because every set's constructor is.
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

/// 16 floats in memory or in whatever registers there are.
#[derive(Clone, Copy)]
pub(crate) struct Lanes([f32; 16]);

impl Lanes {
    #[inline(always)]
    fn map(mut self, f: impl Fn(f32) -> f32) -> Self {
        for x in &mut self.0 {
            *x = f(*x);
        }
        self
    }

    #[inline(always)]
    fn zip(mut self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        for (x, y) in self.0.iter_mut().zip(other.0) {
            *x = f(*x, y);
        }
        self
    }
}

impl Add for Lanes {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |x, y| x + y)
    }
}

impl Sub for Lanes {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |x, y| x - y)
    }
}

impl Mul for Lanes {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |x, y| x * y)
    }
}

impl Div for Lanes {
    type Output = Self;
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |x, y| x / y)
    }
}

/// Adding and subtracting 1.5 * 2^23 rounds a float below 2^22 to an integer, half to even.
const ROUND: f32 = 12_582_912.0;

impl Vector for Lanes {
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |x, y| if x > y { x } else { y })
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |x, y| if x < y { x } else { y })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.map(f32::abs)
    }

    #[inline(always)]
    fn mul_add(mut self, factor: Self, addend: Self) -> Self {
        for (x, (a, b)) in self.0.iter_mut().zip(factor.0.iter().zip(addend.0)) {
            *x = x.mul_add(*a, b);
        }
        self
    }

    #[inline(always)]
    fn shl23(self) -> Self {
        self.map(|x| f32::from_bits(x.to_bits() << 23))
    }

    #[inline(always)]
    fn tree_sum(self) -> f32 {
        let mut lanes = self.0;
        for half in [8, 4, 2, 1] {
            for l in 0..half {
                lanes[l] += lanes[l + half];
            }
        }
        lanes[0]
    }

    #[inline(always)]
    fn store(self, out: &mut [f32; 16]) {
        *out = self.0;
    }

    #[inline(always)]
    fn round_i8(self, out: &mut [i8; 16]) {
        for (q, x) in out.iter_mut().zip(self.0) {
            *q = (x + ROUND).to_bits() as i8;
        }
    }

    #[inline(always)]
    fn store_f16(self, out: &mut [u8; 32]) {
        for (h, x) in out.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *h = f16::from_f32_const(x).to_le_bytes();
        }
    }
}

/// The exact value of a binary16: the magnitude's bits moved into a float 2^112 too small, scaled
/// up; infinities and NaN get their exponent back by hand.
#[inline(always)]
fn f16_to_f32(half: u16) -> f32 {
    let magnitude = u32::from(half & 0x7fff) << 13;
    let sign = u32::from(half & 0x8000) << 16;
    let finite = f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23);
    let special = magnitude | 0x7f80_0000;
    let bits = if magnitude >= 0x0f80_0000 {
        special
    } else {
        finite.to_bits()
    };
    f32::from_bits(bits | sign)
}

impl Set for Scalar {
    type F = Lanes;
    type I = i32;
    const I8_BIAS: i32 = 0;
    const MANY_REGISTERS: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> Lanes {
        Lanes([x; 16])
    }

    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> Lanes {
        Lanes(*x)
    }

    #[inline(always)]
    fn load_f32(self, bytes: &[u8; 64]) -> Lanes {
        let mut lanes = [0.0; 16];
        for (x, b) in lanes.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *x = f32::from_le_bytes(*b);
        }
        Lanes(lanes)
    }

    #[inline(always)]
    fn load_f16(self, bytes: &[u8; 32]) -> Lanes {
        let mut lanes = [0.0; 16];
        for (x, b) in lanes.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *x = f16_to_f32(u16::from_le_bytes(*b));
        }
        Lanes(lanes)
    }

    #[inline(always)]
    fn load_bf16(self, bytes: &[u8; 32]) -> Lanes {
        let mut lanes = [0.0; 16];
        for (x, b) in lanes.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *x = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
        }
        Lanes(lanes)
    }

    #[inline(always)]
    fn prefetch(self, _line: *const u8) {}
    #[inline(always)]
    fn prefetch_early(self, _line: *const u8) {}

    #[inline(always)]
    fn zero_sums(self) -> i32 {
        0
    }

    #[inline(always)]
    fn sum(self, lanes: i32) -> i32 {
        lanes
    }

    #[inline(always)]
    fn t2<const R: usize, const T: usize>(
        self,
        acc: &mut [[i32; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 4]; T],
    ) {
        for r in 0..R {
            for t in 0..T {
                acc[r][t] = acc[r][t].wrapping_add(planes::<4, 2>(w[r], x[t]));
            }
        }
    }

    #[inline(always)]
    fn b1<const R: usize, const T: usize>(
        self,
        acc: &mut [[i32; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 8]; T],
    ) {
        for r in 0..R {
            for t in 0..T {
                acc[r][t] = acc[r][t].wrapping_add(planes::<8, 1>(w[r], x[t]));
            }
        }
    }

    #[inline(always)]
    fn i8<const R: usize, const T: usize>(
        self,
        acc: &mut [[i32; T]; R],
        w: [&[u8; 64]; R],
        x: [&[[i8; 64]; 1]; T],
    ) {
        for r in 0..R {
            for t in 0..T {
                let mut sum = 0;
                for (&w, &x) in w[r].iter().zip(&x[t][0]) {
                    sum += i32::from(w as i8) * i32::from(x);
                }
                acc[r][t] = acc[r][t].wrapping_add(sum);
            }
        }
    }

    #[inline(always)]
    fn i8_i16<const R: usize, const T: usize>(
        self,
        acc: &mut [[i32; T]; R],
        w: [&[u8; 32]; R],
        x: [&[i16; 32]; T],
    ) {
        for r in 0..R {
            for t in 0..T {
                for (&w, &x) in w[r].iter().zip(x[t]) {
                    acc[r][t] += i32::from(w as i8) * i32::from(x);
                }
            }
        }
    }
}

/// The sum of `code * x` over the `P` planes of codes of `BITS` bits in an atom. The products of
/// one byte sum to less than 2^11, so they are added as `i16`, which vectorizes better.
#[inline(always)]
fn planes<const P: usize, const BITS: u32>(w: &[u8; 64], x: &[[i8; 64]; P]) -> i32 {
    let mask = (1 << BITS) - 1;
    let mut sums = [0i16; 64];
    for (p, x) in x.iter().enumerate() {
        for j in 0..64 {
            let code = (w[j] >> (BITS * p as u32)) & mask;
            sums[j] += i16::from(code) * i16::from(x[j]);
        }
    }
    sums.iter().map(|&s| i32::from(s)).sum()
}
