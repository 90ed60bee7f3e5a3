//! Code of other crates, over data that nobody has vouched for.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic on this thread now is caught and reported as an error, so that a panic hook need not print it.
pub fn in_guard() -> bool {
    GUARDED.get()
}

/// Runs `work`; the error is the message of its panic. What it has changed must not be used after that.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let outer = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    done.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("it fails").to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(guarded(|| 1), Ok(1));
        assert_eq!(guarded(|| -> u8 { panic!("no {}", 1) }), Err("no 1".into()));
        assert_eq!(
            guarded(|| (in_guard(), guarded(in_guard), in_guard())),
            Ok((true, Ok(true), true))
        );
        assert!(!in_guard());
    }
}
