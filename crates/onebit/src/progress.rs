//! A progress bar on stderr, drawn only on a terminal.

use crate::interrupt;
use indicatif::{ProgressBar, ProgressStyle};
use onebit_convert::Progress;
use std::sync::atomic::{AtomicBool, Ordering};

/// Shows how far a conversion is, and ends it on Ctrl-C.
#[derive(Debug)]
pub struct ConversionBar {
    bar: Option<ProgressBar>,
    interrupt: &'static AtomicBool,
}

impl ConversionBar {
    /// A bar for one conversion.
    ///
    /// # Errors
    /// Where Ctrl-C cannot be heard.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            bar: None,
            interrupt: interrupt::install()?,
        })
    }
}

impl ConversionBar {
    fn start(&mut self, template: &str, bytes: u64) {
        self.clear();
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bar = Some(ProgressBar::new(bytes).with_style(style));
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Progress for ConversionBar {
    fn begin(&mut self, _tensors: usize, bytes: u64) {
        self.start(
            "converting {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {wide_msg}",
            bytes,
        );
    }

    fn begin_verify(&mut self, _tokens: usize, bytes: u64) {
        self.start(
            "verifying  {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {wide_msg}",
            bytes,
        );
    }

    fn advance(&mut self, tensor: &str, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_message(tensor.to_owned());
            bar.inc(bytes);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }
}

impl Drop for ConversionBar {
    fn drop(&mut self) {
        self.clear();
    }
}
