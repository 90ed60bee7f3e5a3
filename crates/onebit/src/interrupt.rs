//! Ctrl-C as a flag that a generation looks at, with a second one that leaves at once.

use crate::exit::Code;
use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Turns Ctrl-C into the flag returned here. A second Ctrl-C before the flag was cleared ends the process.
pub fn install() -> anyhow::Result<&'static AtomicBool> {
    ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::SeqCst) {
            std::process::exit(Code::Interrupted as i32);
        }
    })?;
    Ok(&REQUESTED)
}
