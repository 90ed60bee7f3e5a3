//! Activations as matrix products take them: one row per token.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tells activations from all others that this process has had: what was made of some can be used again for those of the
/// same number. They cannot change while anything of that number is borrowed from them, and no number comes twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(u64);

impl Id {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// The activations of one or several tokens.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Quantized to int8 (or fewer values) per token; for integer layouts.
    I8(I8Rows<'a>),
    /// Quantized to int8 per group of 128 columns; for ternary and binary layouts.
    I8Groups(I8GroupRows<'a>),
    /// Signs, a bit each, with one scale per token; for the binary layout.
    Bits(BitRows<'a>),
    /// Floats; for float layouts.
    F32(F32Rows<'a>),
}

impl Input<'_> {
    /// How many tokens there are.
    pub fn tokens(&self) -> usize {
        match self {
            Input::I8(x) => x.tokens(),
            Input::I8Groups(x) => x.tokens(),
            Input::Bits(x) => x.tokens(),
            Input::F32(x) => x.tokens(),
        }
    }

    /// Bytes from the activations of a token to those of the next.
    pub fn row_bytes(&self) -> usize {
        match self {
            Input::I8(x) => x.stride,
            Input::I8Groups(x) => x.stride,
            Input::Bits(x) => x.stride,
            Input::F32(x) => x.stride * size_of::<f32>(),
        }
    }

    /// Those of some tokens.
    ///
    /// # Panics
    /// When they are not all there.
    pub fn some(&self, tokens: Range<usize>) -> Self {
        if tokens == (0..self.tokens()) {
            return *self;
        }
        match self {
            Input::I8(x) => Input::I8(x.some(tokens)),
            Input::I8Groups(x) => Input::I8Groups(x.some(tokens)),
            Input::Bits(x) => Input::Bits(x.some(tokens)),
            Input::F32(x) => Input::F32(x.some(tokens)),
        }
    }
}

/// The stride of [`I8Rows`] and [`F32Rows`] that fits `cols` columns in every layout: a multiple of
/// 512 with room for whole atoms of 320 columns too.
pub const fn padded_stride(cols: usize) -> usize {
    cols.next_multiple_of(320).next_multiple_of(512)
}

/// Quantized activations: codes, and per token the scale and the sum of the codes that
/// [`Kernels::quantize_i8`](crate::Kernels::quantize_i8) returned.
///
/// A row must be zero from the matrix's last column up to the layout's padded columns;
/// [`padded_stride`] suits every layout.
#[derive(Clone, Copy, Debug)]
pub struct I8Rows<'a> {
    data: &'a [i8],
    stride: usize,
    scale: &'a [f32],
    sum: &'a [i32],
    id: Id,
}

impl<'a> I8Rows<'a> {
    /// As many tokens as there are scales, row `t` of the codes starting at `t * stride`.
    ///
    /// # Panics
    /// When `data` holds fewer than `scale.len() * stride` codes or `sum` is not as long as `scale`.
    pub fn new(data: &'a [i8], stride: usize, scale: &'a [f32], sum: &'a [i32]) -> Self {
        let needed = scale
            .len()
            .checked_mul(stride)
            .expect("activation size overflows");
        assert!(
            needed <= data.len(),
            "{needed} int8 activations in {}",
            data.len()
        );
        assert_eq!(scale.len(), sum.len(), "one scale and one sum per token");
        Self {
            data,
            stride,
            scale,
            sum,
            id: Id::new(),
        }
    }

    /// Those of some tokens.
    fn some(&self, tokens: Range<usize>) -> Self {
        let data = &self.data[tokens.start * self.stride..];
        let (scale, sum) = (&self.scale[tokens.clone()], &self.sum[tokens]);
        Self::new(data, self.stride, scale, sum)
    }

    /// The number of these activations.
    pub(crate) fn id(&self) -> Id {
        self.id
    }

    /// How many tokens there are.
    pub fn tokens(&self) -> usize {
        self.scale.len()
    }

    /// Codes from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The codes of token `t`, [`stride`](I8Rows::stride) long.
    ///
    /// # Panics
    /// When `t` is not below [`tokens`](I8Rows::tokens).
    #[inline]
    pub fn row(&self, t: usize) -> &'a [i8] {
        assert!(t < self.tokens(), "token {t} of {}", self.tokens());
        &self.data[t * self.stride..][..self.stride]
    }

    /// The codes from the first of token `t` to the end of the last token.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn rows_from(&self, t: usize) -> &'a [i8] {
        &self.data[t * self.stride..self.tokens() * self.stride]
    }

    /// The scale of token `t`: codes are values times this.
    ///
    /// # Panics
    /// When `t` is not below [`tokens`](I8Rows::tokens).
    pub fn scale(&self, t: usize) -> f32 {
        self.scale[t]
    }

    /// The sum of the codes of token `t`.
    ///
    /// # Panics
    /// When `t` is not below [`tokens`](I8Rows::tokens).
    pub fn sum(&self, t: usize) -> i32 {
        self.sum[t]
    }
}

/// Activations quantized per group of [`SIGN_GROUP`](onebit_format::SIGN_GROUP) columns: codes, and
/// for each token and group the multiplier and the sum of the codes that [`Kernels::quantize_i8_groups`] wrote.
///
/// A row must be zero from the matrix's last column up to the layout's padded columns;
/// [`padded_stride`] suits every layout.
///
/// [`Kernels::quantize_i8_groups`]: crate::Kernels::quantize_i8_groups
#[derive(Clone, Copy, Debug)]
pub struct I8GroupRows<'a> {
    data: &'a [i8],
    stride: usize,
    multipliers: &'a [f32],
    sums: &'a [i32],
    groups: usize,
    id: Id,
}

impl<'a> I8GroupRows<'a> {
    /// `multipliers.len() / groups` tokens, row `t` of the codes starting at `t * stride`, its multipliers and sums at
    /// `t * groups`.
    ///
    /// # Panics
    /// When `groups` does not divide the multipliers, there is not one sum for each, or `data` holds too few codes for
    /// the tokens.
    pub fn new(
        data: &'a [i8],
        stride: usize,
        multipliers: &'a [f32],
        sums: &'a [i32],
        groups: usize,
    ) -> Self {
        assert!(
            groups > 0 && multipliers.len().is_multiple_of(groups),
            "{} multipliers in rows of {groups}",
            multipliers.len()
        );
        assert_eq!(sums.len(), multipliers.len(), "sums and multipliers");
        let needed = (multipliers.len() / groups)
            .checked_mul(stride)
            .expect("activation size overflows");
        assert!(
            needed <= data.len(),
            "{needed} int8 activations in {}",
            data.len()
        );
        Self {
            data,
            stride,
            multipliers,
            sums,
            groups,
            id: Id::new(),
        }
    }

    /// Those of some tokens.
    fn some(&self, tokens: Range<usize>) -> Self {
        let data = &self.data[tokens.start * self.stride..];
        let groups = tokens.start * self.groups..tokens.end * self.groups;
        let (multipliers, sums) = (&self.multipliers[groups.clone()], &self.sums[groups]);
        Self::new(data, self.stride, multipliers, sums, self.groups)
    }

    /// The number of these activations.
    pub(crate) fn id(&self) -> Id {
        self.id
    }

    /// How many tokens there are.
    pub fn tokens(&self) -> usize {
        self.multipliers.len() / self.groups
    }

    /// Codes from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Groups per token.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// The codes of token `t`, [`stride`](I8GroupRows::stride) long.
    ///
    /// # Panics
    /// When `t` is not below [`tokens`](I8GroupRows::tokens).
    #[inline]
    pub fn row(&self, t: usize) -> &'a [i8] {
        assert!(t < self.tokens(), "token {t} of {}", self.tokens());
        &self.data[t * self.stride..][..self.stride]
    }

    /// The codes from the first of token `t` to the end of the last token.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn rows_from(&self, t: usize) -> &'a [i8] {
        &self.data[t * self.stride..self.tokens() * self.stride]
    }

    /// The multipliers of token `t`: values are codes times these.
    ///
    /// # Panics
    /// When `t` is not below [`tokens`](I8GroupRows::tokens).
    #[inline]
    pub fn multipliers(&self, t: usize) -> &'a [f32] {
        &self.multipliers[t * self.groups..][..self.groups]
    }

    /// The sums of the codes of each group of token `t`.
    ///
    /// # Panics
    /// When `t` is not below [`tokens`](I8GroupRows::tokens).
    #[inline]
    pub fn sums(&self, t: usize) -> &'a [i32] {
        &self.sums[t * self.groups..][..self.groups]
    }
}

/// Signs of activations in the bit order of [`Layout::B1`](onebit_format::Layout::B1): bit `p` of
/// byte `j` of an atom is column `64p + j`, 1 for +1 and 0 for -1. Whatever lies past the matrix's
/// last column takes no part.
#[derive(Clone, Copy, Debug)]
pub struct BitRows<'a> {
    data: &'a [u8],
    stride: usize,
    scale: &'a [f32],
}

impl<'a> BitRows<'a> {
    /// As many tokens as there are scales, row `t` starting at byte `t * stride`.
    ///
    /// # Panics
    /// When `data` holds fewer than `scale.len() * stride` bytes.
    pub fn new(data: &'a [u8], stride: usize, scale: &'a [f32]) -> Self {
        let needed = scale
            .len()
            .checked_mul(stride)
            .expect("activation size overflows");
        assert!(
            needed <= data.len(),
            "{needed} bytes of signs in {}",
            data.len()
        );
        Self {
            data,
            stride,
            scale,
        }
    }

    /// Those of some tokens.
    fn some(&self, tokens: Range<usize>) -> Self {
        let data = &self.data[tokens.start * self.stride..];
        Self::new(data, self.stride, &self.scale[tokens])
    }

    /// How many tokens there are.
    pub fn tokens(&self) -> usize {
        self.scale.len()
    }

    /// Bytes from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The bits of token `t`, [`stride`](BitRows::stride) bytes.
    ///
    /// # Panics
    /// When `t` is not below [`tokens`](BitRows::tokens).
    pub fn row(&self, t: usize) -> &'a [u8] {
        assert!(t < self.tokens(), "token {t} of {}", self.tokens());
        &self.data[t * self.stride..][..self.stride]
    }

    /// The scale of token `t`: signs are values times this.
    ///
    /// # Panics
    /// When `t` is not below [`tokens`](BitRows::tokens).
    pub fn scale(&self, t: usize) -> f32 {
        self.scale[t]
    }
}

/// Float activations. A row must be zero from the matrix's last column up to the layout's padded
/// columns; [`padded_stride`] suits every layout.
#[derive(Clone, Copy, Debug)]
pub struct F32Rows<'a> {
    data: &'a [f32],
    stride: usize,
    tokens: usize,
}

impl<'a> F32Rows<'a> {
    /// `tokens` rows, row `t` starting at `t * stride`.
    ///
    /// # Panics
    /// When `data` holds fewer than `tokens * stride` values.
    pub fn new(data: &'a [f32], stride: usize, tokens: usize) -> Self {
        let needed = tokens
            .checked_mul(stride)
            .expect("activation size overflows");
        assert!(
            needed <= data.len(),
            "{needed} f32 activations in {}",
            data.len()
        );
        Self {
            data,
            stride,
            tokens,
        }
    }

    /// Those of some tokens.
    fn some(&self, tokens: Range<usize>) -> Self {
        assert!(
            tokens.start <= tokens.end && tokens.end <= self.tokens,
            "tokens {tokens:?} of {}",
            self.tokens
        );
        let data = &self.data[tokens.start * self.stride..];
        Self::new(data, self.stride, tokens.len())
    }

    /// How many tokens there are.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Values from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The values of token `t`, [`stride`](F32Rows::stride) long.
    ///
    /// # Panics
    /// When `t` is not below [`tokens`](F32Rows::tokens).
    pub fn row(&self, t: usize) -> &'a [f32] {
        assert!(t < self.tokens, "token {t} of {}", self.tokens);
        &self.data[t * self.stride..][..self.stride]
    }
}

/// What [`Kernels::quantize_i8`](crate::Kernels::quantize_i8) and its kin say about a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowQuant {
    /// Codes are values times this: `127 / max(absmax, 1e-5)` for int8. NaN when the row held an
    /// infinity or NaN.
    pub scale: f32,
    /// The sum of the codes.
    pub sum: i32,
}
