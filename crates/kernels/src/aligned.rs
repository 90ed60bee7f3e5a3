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
    /// When the size in bytes overflows, or the size of `T` does not divide 64.
    pub fn zeroed(len: usize) -> Self {
        const {
            assert!(
                size_of::<T>() > 0 && 64 % size_of::<T>() == 0,
                "T must divide a line"
            )
        };
        let bytes = len
            .checked_mul(size_of::<T>())
            .expect("buffer size overflows");
        let lines = bytemuck::zeroed_slice_box(bytes.div_ceil(size_of::<Line>()));
        Self {
            lines,
            len,
            element: std::marker::PhantomData,
        }
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
