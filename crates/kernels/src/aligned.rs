//! Buffers that start on a cache line.

use std::fmt;
use std::ops::{Deref, DerefMut};

use bytemuck::{Pod, Zeroable};

/// One cache line; the unit of allocation of [`AlignedVec`].
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A zeroed buffer of fixed length whose first element lies on a 64-byte boundary.
///
/// The memory comes zeroed from the allocator, so for large buffers the operating system provides
/// the pages only when they are first written.
///
/// ```
/// let mut v = onebit_kernels::AlignedVec::<f32>::zeroed(5);
/// v[4] = 1.0;
/// assert_eq!(&v[..], &[0.0, 0.0, 0.0, 0.0, 1.0]);
/// assert_eq!(v.as_ptr() as usize % 64, 0);
/// ```
#[derive(Clone)]
pub struct AlignedVec<T> {
    lines: Box<[Line]>,
    len: usize,
    element: std::marker::PhantomData<T>,
}

impl<T: Pod> AlignedVec<T> {
    /// A buffer of `len` zeroed elements.
    ///
    /// # Panics
    /// When memory does not suffice.
    pub fn zeroed(len: usize) -> Self {
        Self::try_zeroed(len).unwrap_or_else(|| panic!("no memory for a buffer of {len} elements"))
    }

    /// A buffer of `len` zeroed elements, `None` when memory does not suffice.
    pub fn try_zeroed(len: usize) -> Option<Self> {
        const {
            assert!(
                size_of::<T>() > 0 && 64 % size_of::<T>() == 0,
                "T must divide a line"
            )
        };
        let bytes = len.checked_mul(size_of::<T>())?;
        let lines = bytemuck::try_zeroed_slice_box(bytes.div_ceil(size_of::<Line>())).ok()?;
        Some(Self {
            lines,
            len,
            element: std::marker::PhantomData,
        })
    }

    /// A buffer that holds a copy of `values`.
    pub fn from_slice(values: &[T]) -> Self {
        let mut v = Self::zeroed(values.len());
        v.copy_from_slice(values);
        v
    }
}

impl<T: Pod> Deref for AlignedVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl<T: Pod> DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for AlignedVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_sizes_are_refused() {
        for len in [usize::MAX, usize::MAX / 4, isize::MAX as usize / 4] {
            assert!(AlignedVec::<f32>::try_zeroed(len).is_none());
        }
        assert_eq!(AlignedVec::<f32>::try_zeroed(0).map(|v| v.len()), Some(0));
    }
}
