//! A progress bar on stderr, drawn only on a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use onebit_convert::Progress;

/// Shows how far a conversion is.
#[derive(Debug, Default)]
pub struct ConversionBar {
    bar: Option<ProgressBar>,
}

impl Progress for ConversionBar {
    fn begin(&mut self, _tensors: usize, bytes: u64) {
        let style = ProgressStyle::with_template(
            "converting {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {wide_msg}",
        )
        .unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bar = Some(ProgressBar::new(bytes).with_style(style));
    }

    fn advance(&mut self, tensor: &str, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_message(tensor.to_owned());
            bar.inc(bytes);
        }
    }
}

impl Drop for ConversionBar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
