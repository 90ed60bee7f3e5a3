//! Memory that notices what runs past the end of a buffer, and buffers that end where their memory does.
//!
//! Elsewhere than under AddressSanitizer, every allocation of these tests ends where a page begins that nobody may touch: the
//! first byte read or written past it ends the process, whatever instruction did it, inline assembly and masked loads included,
//! under an emulator too. AddressSanitizer looks before a buffer as well and at what was freed, but only where the compiler put
//! its checks.

use std::ops::Deref;

/// Bytes of a weight matrix or a cache: aligned for `f32`, and to 64 bytes where they are whole atoms and end at a guard page.
pub(crate) struct Bytes(Box<[u32]>);

impl Bytes {
    /// # Panics
    /// When `len` is not a multiple of 4.
    pub(crate) fn filled(len: usize, byte: u8) -> Self {
        assert!(len.is_multiple_of(4), "{len} bytes are no whole words");
        Self(vec![u32::from_ne_bytes([byte; 4]); len / 4].into())
    }

    pub(crate) fn zeroed(len: usize) -> Self {
        Self::filled(len, 0)
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl std::ops::DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

/// Elements that start `skew` elements into their memory and end with it.
///
/// Memory that ends at a page, whole lines of it, would start on a line: there, unless `skew` is 0, it goes on to the end of the
/// line.
pub(crate) struct Skewed<T> {
    memory: Box<[T]>,
    skew: usize,
    len: usize,
}

impl<T: bytemuck::Pod> Skewed<T> {
    pub(crate) fn new(skew: usize, values: &[T]) -> Self {
        let len = skew + values.len();
        let room = match skew {
            _ if cfg!(address_sanitizer) => len,
            0 => len,
            _ => len.next_multiple_of(64 / size_of::<T>()),
        };
        let mut memory = vec![T::zeroed(); room].into_boxed_slice();
        memory[skew..len].copy_from_slice(values);
        let values = Self {
            memory,
            skew,
            len: len - skew,
        };
        if room == len {
            assert_exact(&values);
        }
        values
    }
}

impl<T> Deref for Skewed<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.memory[self.skew..][..self.len]
    }
}

/// Fails unless the values end where their allocation does.
#[track_caller]
pub(crate) fn assert_exact<T>(values: &[T]) {
    let end = values.as_ptr_range().end.cast::<u8>();
    assert!(
        values.is_empty() || ends_memory(end),
        "memory goes on after {} values",
        values.len()
    );
}

#[cfg(address_sanitizer)]
fn ends_memory(end: *const u8) -> bool {
    unsafe extern "C" {
        safe fn __sanitizer_get_allocated_begin(inside: *const u8) -> *const u8;
        safe fn __sanitizer_get_allocated_size(begin: *const u8) -> usize;
    }
    let begin = __sanitizer_get_allocated_begin(end.wrapping_sub(1));
    begin.wrapping_add(__sanitizer_get_allocated_size(begin)) == end
}

#[cfg(all(unix, not(address_sanitizer)))]
fn ends_memory(end: *const u8) -> bool {
    end.addr().is_multiple_of(guard::UNIT)
}

/// Nobody looks.
#[cfg(all(not(unix), not(address_sanitizer)))]
fn ends_memory(_: *const u8) -> bool {
    true
}

#[cfg(all(unix, not(address_sanitizer)))]
#[path = "guard.rs"]
mod guard;

#[cfg(unix)]
#[test]
fn buffers_end_where_their_memory_does() {
    for len in [1, 63, 64, 4096, UNIT_AND_MORE] {
        let values = vec![1u8; len];
        assert_exact(&values);
        assert_exact(&Bytes::filled(4 * len, 1));
        assert_exact(&Skewed::new(0, &values[..len / 64 * 64]));
        let mut roomy = Vec::with_capacity(2 * len + 64);
        roomy.extend_from_slice(&values);
        assert!(!ends_memory(roomy.as_ptr_range().end), "{len}");
    }
}

#[cfg(unix)]
const UNIT_AND_MORE: usize = (64 << 10) + 77;

#[test]
fn skewed_values_start_there() {
    for skew in [0, 1, 63] {
        let values = Skewed::new(skew, &[7u8; 128]);
        assert_eq!(values[..], [7; 128]);
        assert!(values.as_ptr().addr().wrapping_sub(skew).is_multiple_of(16));
    }
    assert_eq!(Skewed::new(3, &[0.5f32; 5])[..], [0.5; 5]);
}
