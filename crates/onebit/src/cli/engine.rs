//! Flags that decide how a model is loaded and computed.

use super::{HubArgs, KeepArgs, MemoryArgs, ThreadArgs};
use crate::exit;
use clap::{Args, ValueEnum};
use onebit_kernels::Kernels;
use onebit_model::{KvOptions, KvType, ModelSpec};
use onebit_runtime::{Open, SessionOptions};

/// How the weights get into memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Load {
    /// Map the file; weights are read when they are first needed.
    #[default]
    Mmap,
    /// Read the whole file into memory.
    Heap,
    /// Map the file, read all of it and lock it in memory.
    Mlock,
}

/// Arithmetic of the activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Activations {
    /// As the model was trained; int8 where ternary or binary weights were trained with floats.
    #[default]
    Auto,
    /// Float, where the model was trained with floats.
    F32,
    /// 8-bit integers: per token as trained, or per 128 numbers.
    Int8,
}

impl From<Activations> for onebit_model::Activations {
    fn from(activations: Activations) -> Self {
        match activations {
            Activations::Auto => Self::Auto,
            Activations::F32 => Self::F32,
            Activations::Int8 => Self::Int8,
        }
    }
}

/// A type of the key/value cache, by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvArg {
    /// A type that works.
    Known(KvType),
    /// The best type that fits in memory.
    Auto,
}

impl KvArg {
    /// The type, where it works.
    ///
    /// # Errors
    /// Exit code 2 for `auto`.
    pub fn known(self) -> anyhow::Result<KvType> {
        match self {
            Self::Known(kind) => Ok(kind),
            Self::Auto => Err(exit::request(
                "auto is for --kv of run, chat and score, without --kv-k and --kv-v; name a type here",
            )),
        }
    }
}

/// Reads a key/value cache type, aliases included.
///
/// # Errors
/// A message listing the known types.
pub fn parse_kv(text: &str) -> Result<KvArg, String> {
    if let Some(known) = KvType::from_name(text) {
        return Ok(KvArg::Known(known));
    }
    Ok(match text {
        "q8_0" | "int8" => KvArg::Known(KvType::Q8),
        "q4_0" | "int4" => KvArg::Known(KvType::Q4),
        "int2" => KvArg::Known(KvType::Q2),
        "int1" => KvArg::Known(KvType::B1),
        "auto" => KvArg::Auto,
        _ => return Err("known types are f32, f16, q8, q4, q2 and b1".to_owned()),
    })
}

/// A context on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextArg {
    /// So many positions; 0 is the model's own maximum.
    Positions(usize),
    /// As many as fit in memory, up to the model's own maximum.
    Auto,
}

fn parse_context(text: &str) -> Result<ContextArg, String> {
    match text {
        "auto" => Ok(ContextArg::Auto),
        _ => text
            .parse()
            .map(ContextArg::Positions)
            .map_err(|_| "neither a whole number nor auto".to_owned()),
    }
}

/// Flags that decide how a model is loaded and computed.
#[derive(Clone, Debug, Args)]
pub struct EngineArgs {
    /// Positions to keep; 0 is the model's own maximum, auto what fits in memory [default: 2048, or the model's maximum if smaller]
    #[arg(short, long, value_name = "N", value_parser = parse_context, help_heading = "Engine")]
    pub ctx_size: Option<ContextArg>,
    /// Which threads compute, and where.
    #[command(flatten)]
    pub threads: ThreadArgs,
    /// Prompt tokens computed at once [default: 128, with amx 512, or less where memory is short]
    #[arg(short, long, value_name = "N", value_parser = positive, help_heading = "Engine")]
    pub batch_size: Option<usize>,
    /// Type of the key/value cache: f32, f16, q8, q4, q2, b1, or auto for the best that fits in memory [default: f16]
    #[arg(long, alias = "kv-cache-dtype", value_name = "TYPE", value_parser = parse_kv, help_heading = "Engine")]
    pub kv: Option<KvArg>,
    /// Type of the keys, where it differs from --kv
    #[arg(long, alias = "cache-type-k", value_name = "TYPE", value_parser = parse_kv, help_heading = "Engine")]
    pub kv_k: Option<KvArg>,
    /// Type of the values, where it differs from --kv
    #[arg(long, alias = "cache-type-v", value_name = "TYPE", value_parser = parse_kv, help_heading = "Engine")]
    pub kv_v: Option<KvArg>,
    /// What the cache keeps.
    #[command(flatten)]
    pub keep: KeepArgs,
    /// How the weights get into memory [default: mmap]
    #[arg(long, value_name = "HOW", conflicts_with_all = ["mmap", "no_mmap", "mlock"], help_heading = "Engine")]
    load: Option<Load>,
    /// The same as --load mmap
    #[arg(long, hide = true, conflicts_with_all = ["no_mmap", "mlock"])]
    mmap: bool,
    /// The same as --load heap
    #[arg(long, hide = true, conflicts_with = "mlock")]
    no_mmap: bool,
    /// The same as --load mlock
    #[arg(long, hide = true)]
    mlock: bool,
    /// Let weights that do not fit in memory pass through it: read each layer before it is computed, give it back after.
    /// How much stays follows from the memory that the cgroup or the machine has for this process
    #[arg(long, conflicts_with_all = ["no_mmap", "mlock"], help_heading = "Engine")]
    stream: bool,
    /// Force a kernel set; `onebit info` lists them
    #[arg(long, value_name = "NAME", help_heading = "Engine")]
    pub kernels: Option<String>,
    /// Arithmetic of the activations
    #[arg(
        long,
        value_name = "HOW",
        default_value = "auto",
        help_heading = "Engine"
    )]
    pub activations: Activations,
    /// Rows of logits kept at once.
    #[arg(skip = 1usize)]
    pub logits_rows: usize,
    /// Whether keys and values are given up after each layer.
    #[arg(skip)]
    pub one_pass: bool,
    /// How much memory may be taken.
    #[command(flatten)]
    pub memory: MemoryArgs,
    /// Where a model of the hub comes from.
    #[command(flatten)]
    pub hub: HubArgs,
}

impl EngineArgs {
    /// How to load the weights.
    pub fn load(&self) -> Load {
        match (self.load, self.no_mmap, self.mlock) {
            (Some(load), ..) => load,
            (None, true, _) => Load::Heap,
            (None, _, true) => Load::Mlock,
            (None, false, false) => Load::Mmap,
        }
    }

    /// Whether weights pass through less memory than they take.
    pub fn stream(&self) -> bool {
        self.stream
    }

    /// Most rows of a step: where logits of all are wanted, as many as logits are kept of.
    fn most_rows(&self) -> usize {
        match self.logits_rows == 1 || self.one_pass {
            true => usize::MAX,
            false => self.logits_rows,
        }
    }

    /// The session asked for, and what of it may be made smaller where memory is short.
    ///
    /// # Errors
    /// As [`KvArg::known`].
    pub fn session(
        &self,
        spec: &ModelSpec,
        kernels: &Kernels,
    ) -> anyhow::Result<(SessionOptions, Open)> {
        let is_auto = self.kv == Some(KvArg::Auto);
        let open = Open {
            kv: is_auto && self.kv_k.is_none() && self.kv_v.is_none(),
            context: self.ctx_size == Some(ContextArg::Auto),
            batch: self.batch_size.is_none(),
        };
        let both = match self.kv {
            Some(kv) if !open.kv => kv,
            _ => KvArg::Known(KvType::F16),
        };
        let defaults = SessionOptions::new(spec).batch_of(kernels);
        let options = SessionOptions {
            batch: self
                .batch_size
                .unwrap_or(defaults.batch)
                .min(self.most_rows()),
            logits_rows: self.logits_rows,
            kv: self.keep.apply(KvOptions::new(
                self.kv_k.unwrap_or(both).known()?,
                self.kv_v.unwrap_or(both).known()?,
            )),
            ..defaults
        };
        let options = match self.ctx_size {
            Some(ContextArg::Positions(context)) => options.context(context, spec),
            Some(ContextArg::Auto) => options.context(0, spec),
            None => options,
        };
        Ok((options, open))
    }

    /// Refuses flags that contradict each other.
    ///
    /// # Errors
    /// Exit code 2, naming them.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.stream && self.load() != Load::Mmap {
            return Err(exit::request(
                "--stream goes with --load mmap: weights that are copied or locked cannot be given back",
            ));
        }
        Ok(())
    }
}

/// A whole number of at least 1.
pub(super) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(n) => Ok(n),
        Err(_) => Err("not a whole number".to_owned()),
    }
}
