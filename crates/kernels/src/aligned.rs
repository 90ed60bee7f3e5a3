//! Buffers that start on a cache line.

use std::fmt;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;

/// One cache line, where every buffer starts.
const LINE: usize = 64;

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
pub struct AlignedVec<T> {
    /// A line more than the elements take: only allocations without a demand on alignment come
    /// zeroed from the operating system itself instead of being written to.
    memory: Box<[u8]>,
    /// Where the elements start in `memory`.
    start: usize,
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
                size_of::<T>() > 0 && LINE.is_multiple_of(size_of::<T>()),
                "T must divide a line"
            )
        };
        let bytes = len.checked_mul(size_of::<T>())?;
        let memory: Box<[u8]> = bytemuck::try_zeroed_slice_box(bytes.checked_add(LINE)?).ok()?;
        let address = memory.as_ptr().addr();
        Some(Self {
            start: address.next_multiple_of(LINE) - address,
            memory,
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

impl<T: Pod> Clone for AlignedVec<T> {
    fn clone(&self) -> Self {
        Self::from_slice(self)
    }
}

impl<T: Pod> Deref for AlignedVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.memory[self.start..][..self.len * size_of::<T>()])
    }
}

impl<T: Pod> DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.memory[self.start..][..self.len * size_of::<T>()])
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

    #[test]
    fn buffers_start_on_a_line_and_copies_do_too() {
        for len in [0, 1, 3, 64, 1000] {
            let mut v = AlignedVec::<u16>::zeroed(len);
            v.iter_mut().zip(1..).for_each(|(x, i)| *x = i);
            let copy = v.clone();
            assert!(v.iter().copied().eq((1..).take(len)));
            assert_eq!(v[..], copy[..]);
            assert_eq!(v.as_ptr().addr() % LINE, 0);
            assert_eq!(copy.as_ptr().addr() % LINE, 0);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn untouched_pages_take_no_memory() {
        let resident = || {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        let before = resident();
        let v = AlignedVec::<u8>::zeroed(512 << 20);
        assert!(resident() < before + (128 << 20));
        drop(v);
    }
}
