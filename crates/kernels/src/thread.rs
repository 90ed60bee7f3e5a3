//! What a thread keeps from one call to the next.

use std::cell::{RefCell, RefMut};
use std::thread::LocalKey;

/// What this thread keeps under `key`, without a closure, which would lack the instructions of a kernel set.
///
/// # Panics
/// When it is in use.
pub(crate) fn local<T>(key: &'static LocalKey<RefCell<T>>) -> RefMut<'static, T> {
    const { assert!(!std::mem::needs_drop::<T>()) };
    let kept = key.with(std::ptr::from_ref);
    // SAFETY: what is local to a thread and has no destructor lives as long as the thread, which neither this reference nor
    // what it lends can leave.
    unsafe { &*kept }.borrow_mut()
}
