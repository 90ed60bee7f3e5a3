//! Flags that decide what the key/value cache keeps.

use clap::Args;
use onebit_model::KvOptions;

/// Flags that decide what the key/value cache keeps.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct KeepArgs {
    /// Attend to the last W positions only, beside the sinks; keys and values of no others are kept
    #[arg(long, value_name = "W", value_parser = clap::value_parser!(u32).range(1..), help_heading = "Engine")]
    window: Option<u32>,
    /// First positions to keep: seen beside --window, and at 8 bits where --kv has fewer [default: 4]
    #[arg(long, alias = "kv-sinks", value_name = "S", value_parser = clap::value_parser!(u32).range(0..=KvOptions::MAX_SINKS as i64), help_heading = "Engine")]
    sinks: Option<u32>,
    /// Last positions to keep at 8 bits where --kv has fewer [default: 32]
    #[arg(long, value_name = "R", help_heading = "Engine")]
    kv_recent: Option<u32>,
}

impl KeepArgs {
    /// `options` with what the flags say.
    pub fn apply(&self, options: KvOptions) -> KvOptions {
        let or = |flag: Option<u32>, default| flag.map_or(default, |n| n as usize);
        KvOptions {
            window: self.window.map(|n| n as usize).or(options.window),
            sinks: or(self.sinks, options.sinks),
            recent: or(self.kv_recent, options.recent),
            ..options
        }
    }
}
