//! An allocator whose every allocation ends at a page that nobody may touch.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// What regions are made of, and at least the size of a guard: a multiple of every page size.
pub(super) const UNIT: usize = 64 << 10;

const SIZES: usize = usize::BITS as usize;

#[global_allocator]
static MEMORY: Guarded = Guarded {
    locked: AtomicBool::new(false),
    free: [const { AtomicPtr::new(null_mut()) }; SIZES],
};

/// Regions of `UNIT << n` bytes that end on a multiple of `UNIT`, each followed by a guard and never given back to the system.
/// An allocation takes the end of one.
struct Guarded {
    locked: AtomicBool,
    /// By `n`: the link of a free region.
    free: [AtomicPtr<Link>; SIZES],
}

/// The last word of a free region: the link of the next one.
struct Link(*mut Link);

impl Guarded {
    /// Runs `f` on the list of free regions of one size, alone.
    fn with<T>(&self, n: usize, f: impl FnOnce(&AtomicPtr<Link>) -> T) -> T {
        while self.locked.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        let result = f(&self.free[n]);
        self.locked.store(false, Ordering::Release);
        result
    }

    /// The end of a region, null where there is no memory.
    fn region(&self, n: usize) -> *mut u8 {
        let link = self.with(n, |free| {
            let link = free.load(Ordering::Relaxed);
            if !link.is_null() {
                // SAFETY: what is in the list is the last word of a region that nobody uses.
                free.store(unsafe { (*link).0 }, Ordering::Relaxed);
            }
            link
        });
        match link.is_null() {
            true => map(UNIT << n),
            false => link.wrapping_add(1).cast(),
        }
    }
}

// SAFETY: a region is in use by one allocation at most, is large enough for it, and lies where the alignment demands, since it
// ends on a multiple of every alignment that is not refused. The rest is the system's, told apart by where it ends. Nothing here
// allocates or panics.
unsafe impl GlobalAlloc for Guarded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (len, n) = place(layout);
        if layout.align() > UNIT {
            return null_mut();
        }
        if std::thread::panicking() {
            // SAFETY: what is demanded of the caller.
            return unsafe { unguarded(layout) };
        }
        match self.region(n) {
            end if end.is_null() => end,
            end => end.wrapping_sub(len),
        }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        let (len, n) = place(layout);
        let end = start.wrapping_add(len);
        if !end.addr().is_multiple_of(UNIT) {
            // SAFETY: what does not end where regions do came from there.
            return unsafe { System.dealloc(start, layout) };
        }
        let link = end.cast::<Link>().wrapping_sub(1);
        self.with(n, |free| {
            // SAFETY: the last word of the region, whose only user gives it back.
            unsafe { link.write(Link(free.load(Ordering::Relaxed))) };
            free.store(link, Ordering::Relaxed);
        });
    }
}

/// Memory without a guard, which does not end where regions do. A thread that panics gets it: to print where that happened takes
/// more allocations than a process may have regions.
///
/// # Safety
/// As of [`GlobalAlloc::alloc`].
unsafe fn unguarded(layout: Layout) -> *mut u8 {
    loop {
        // SAFETY: what is demanded of the caller.
        let start = unsafe { System.alloc(layout) };
        let end = start.wrapping_add(place(layout).0);
        if start.is_null() || !end.addr().is_multiple_of(UNIT) {
            return start;
        }
        // Kept, or the next attempt would find the same.
    }
}

/// How far before the end of a region an allocation starts, and which size of region it takes.
fn place(layout: Layout) -> (usize, usize) {
    let len = layout.pad_to_align().size();
    let units = len.div_ceil(UNIT).next_power_of_two();
    (len, units.trailing_zeros() as usize)
}

/// A new region of `len` bytes, by its end; null where there is no memory.
fn map(len: usize) -> *mut u8 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_NORESERVE;
    // SAFETY: new memory, at an address that the system chooses.
    let all = unsafe { libc::mmap(null_mut(), len + 2 * UNIT, libc::PROT_NONE, flags, -1, 0) };
    if all == libc::MAP_FAILED {
        return null_mut();
    }
    let start = all.wrapping_add(all.addr().next_multiple_of(UNIT) - all.addr());
    // SAFETY: within the memory just mapped, which nobody uses yet.
    match unsafe { libc::mprotect(start, len, libc::PROT_READ | libc::PROT_WRITE) } {
        0 => start.wrapping_add(len).cast(),
        _ => null_mut(),
    }
}
