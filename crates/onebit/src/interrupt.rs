//! Ctrl-C as a flag that long work looks at, with a second one that leaves at once.

use crate::exit::Code;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);
/// Whether Ctrl-C was what set the flag: who else sets it has not pressed it once.
static PRESSED: AtomicBool = AtomicBool::new(false);

/// Turns Ctrl-C into the flag returned here; asked again, gives the same flag. A second Ctrl-C before the flag is
/// cleared ends the process.
///
/// # Errors
/// Where the system does not let Ctrl-C be handled.
pub fn install() -> anyhow::Result<&'static AtomicBool> {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    let handle = || {
        let pressed = PRESSED.swap(true, Ordering::SeqCst);
        if REQUESTED.swap(true, Ordering::SeqCst) && pressed {
            std::process::exit(Code::Interrupted as i32);
        }
    };
    let installed = INSTALLED.get_or_init(|| ctrlc::set_handler(handle).map_err(|e| e.to_string()));
    match installed {
        Ok(()) => Ok(&REQUESTED),
        Err(message) => anyhow::bail!("cannot handle Ctrl-C: {message}"),
    }
}
