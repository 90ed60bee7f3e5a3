//! Progress bars on stderr, drawn only on a terminal.

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

/// Shows how far a download is, says what a person who waits wants to know, and ends it on Ctrl-C.
#[cfg(feature = "hub")]
#[derive(Debug)]
pub struct DownloadBar {
    bar: Option<ProgressBar>,
    interrupt: &'static AtomicBool,
}

#[cfg(feature = "hub")]
impl DownloadBar {
    /// A bar for the files of one model.
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

#[cfg(feature = "hub")]
impl onebit_hub::Progress for DownloadBar {
    fn begin(&mut self, bytes: u64) {
        let style = ProgressStyle::with_template(
            "fetching {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} {wide_msg}",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar());
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.bar = Some(ProgressBar::new(bytes).with_style(style));
    }

    fn at(&mut self, file: &str, done: u64) {
        if let Some(bar) = &self.bar {
            if bar.message() != file {
                bar.set_message(file.to_owned());
            }
            bar.set_position(done);
        }
    }

    fn note(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| crate::note!("{text}")),
            None => crate::note!("{text}"),
        }
    }

    fn is_cancelled(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }
}

#[cfg(feature = "hub")]
impl Drop for DownloadBar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
