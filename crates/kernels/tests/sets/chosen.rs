//! The kernel sets to test: all that this machine can run, or those that a variable names.

use std::io::Write;
use std::sync::OnceLock;

use onebit_kernels::Kernels;

/// Names sets, separated by commas, without which a test fails.
const REQUIRE: &str = "ONEBIT_REQUIRE_KERNELS";

/// Names the only sets to test, separated by commas. They are required too.
const ONLY: &str = "ONEBIT_ONLY_KERNELS";

/// The sets to test, worst first. What is left out is named on standard error, once and past the test harness.
///
/// # Panics
/// When a set that a variable names cannot be tested.
pub(crate) fn sets() -> &'static [&'static Kernels] {
    static CHOSEN: OnceLock<Vec<&'static Kernels>> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        named(REQUIRE);
        let only = named(ONLY);
        let wanted = |set: &&&Kernels| only.is_empty() || only.contains(&set.name());
        let chosen: Vec<_> = Kernels::available()
            .iter()
            .filter(wanted)
            .copied()
            .collect();
        for name in Kernels::all_names() {
            if !chosen.iter().any(|set| set.name() == *name) {
                let reason = Kernels::why_unavailable(name).unwrap_or(format!("not in {ONLY}"));
                // Not by `eprintln`, which the harness keeps to itself when a test passes.
                let line = format!("kernel set {name} is not tested: {reason}\n");
                std::io::stderr().write_all(line.as_bytes()).ok();
            }
        }
        chosen
    })
}

/// The sets that a variable names, all of which this machine must be able to run.
fn named(variable: &str) -> Vec<&'static str> {
    let list = std::env::var(variable).unwrap_or_default();
    let names = list.split(',').filter(|name| !name.is_empty());
    let name = |name| match Kernels::by_name(name) {
        Ok(set) => set.name(),
        Err(error) => panic!("required by {variable}: {error}"),
    };
    names.map(name).collect()
}
