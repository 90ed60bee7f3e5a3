//! A progress bar on stderr, drawn only on a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of steps, each with a name.
#[derive(Debug)]
pub(super) struct Bar {
    bar: ProgressBar,
    started: bool,
}

impl Bar {
    /// A bar of so many steps.
    pub(super) fn new(what: &'static str, steps: u64) -> Self {
        let style = ProgressStyle::with_template(
            "{prefix} {bar:30} {pos}/{len} {elapsed_precise} {wide_msg}",
        );
        let bar = ProgressBar::new(steps)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_prefix(what);
        Self {
            bar,
            started: false,
        }
    }

    /// The step before, if any, is done; this one begins.
    pub(super) fn next(&mut self, name: &str) {
        if std::mem::replace(&mut self.started, true) {
            self.bar.inc(1);
        }
        self.bar.set_message(name.to_owned());
        self.bar.tick();
    }

    /// All steps are done.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
