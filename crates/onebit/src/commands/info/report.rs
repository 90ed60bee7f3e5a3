//! What `onebit info` prints.

use super::InfoArgs;
use crate::exit;
use crate::source::Source;
use onebit_format::{GenerationDefaults, Layout, Provenance, TensorKind};
use onebit_kernels::Kernels;
use onebit_model::{Model, ModelSpec};
use onebit_runtime::{
    BudgetSource, MemoryKind, MemoryParts, MemoryPlan, SessionOptions, TextFiles, largest_contexts,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// The object of `--json`.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    pub(super) model: String,
    pub(super) file_bytes: u64,
    pub(super) format_version: u32,
    pub(super) spec: &'a ModelSpec,
    pub(super) generation: &'a GenerationDefaults,
    pub(super) tokenizer: bool,
    pub(super) chat_template: bool,
    /// Number and bytes of the tensors by the name of their layout; what is no matrix under its own name.
    pub(super) layouts: BTreeMap<&'static str, Sum>,
    /// Number of matrices by what they were trained to be multiplied with.
    pub(super) activations: BTreeMap<&'static str, usize>,
    pub(super) tensors: Vec<Tensor<'a>>,
    pub(super) kernels: KernelReport,
    pub(super) memory: MemoryReport,
    pub(super) provenance: &'a Provenance,
    /// Present with `--check`: every tensor has the hash that was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hashes: Option<&'static str>,
}

/// Several tensors.
#[derive(Default, Serialize)]
pub(super) struct Sum {
    pub(super) tensors: usize,
    pub(super) bytes: usize,
}

/// One tensor of the file.
#[derive(Serialize)]
pub(super) struct Tensor<'a> {
    name: &'a str,
    layout: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    shape: Option<[usize; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    activation: Option<&'static str>,
    bytes: usize,
}

/// The kernel sets of this machine.
#[derive(Serialize)]
pub(super) struct KernelReport {
    pub(super) chosen: &'static str,
    pub(super) available: Vec<&'static str>,
    pub(super) unavailable: BTreeMap<&'static str, String>,
}

/// The memory of one session with everything in use, in bytes.
#[derive(Serialize)]
pub(super) struct MemoryReport {
    pub(super) ctx: usize,
    pub(super) kv: &'static str,
    pub(super) plan: MemoryPlan,
    pub(super) file: u64,
    pub(super) anon: u64,
    pub(super) total: u64,
    pub(super) limit: Limit,
    /// Positions that fit the limit, by the type of keys and values; beyond what the model was made for, too.
    pub(super) largest_contexts: BTreeMap<&'static str, Option<usize>>,
}

/// What the process may have in memory.
#[derive(Serialize)]
pub(super) struct Limit {
    pub(super) bytes: u64,
    pub(super) source: &'static str,
}

impl<'a> Report<'a> {
    pub(super) fn new(source: &Source, model: &'a Model, args: &InfoArgs) -> anyhow::Result<Self> {
        let file = model.file();
        let meta = file.meta();
        let text = TextFiles::from_packed(file).ok();
        let tensors: Vec<Tensor<'_>> = file
            .tensor_sizes()
            .map(|(name, kind, bytes)| Tensor::new(model, name, kind, bytes))
            .collect();
        let mut layouts: BTreeMap<&'static str, Sum> = BTreeMap::new();
        for tensor in &tensors {
            let sum = layouts.entry(tensor.layout).or_default();
            sum.tensors += 1;
            sum.bytes += tensor.bytes;
        }
        let mut activations = BTreeMap::new();
        for mode in tensors.iter().filter_map(|tensor| tensor.activation) {
            *activations.entry(mode).or_default() += 1;
        }
        Ok(Self {
            model: source.to_string(),
            file_bytes: file.file_len(),
            format_version: meta.format_version,
            spec: model.spec(),
            generation: &meta.generation,
            tokenizer: text.is_some(),
            chat_template: text.is_some_and(|text| text.chat_template().is_some()),
            layouts,
            activations,
            tensors,
            kernels: KernelReport::new(),
            memory: MemoryReport::new(model, args)?,
            provenance: &meta.provenance,
            hashes: args.check.then_some("ok"),
        })
    }
}

impl<'a> Tensor<'a> {
    fn new(model: &'a Model, name: &'a str, kind: TensorKind, bytes: usize) -> Self {
        let layout = match kind {
            TensorKind::Matrix(layout) => Layout::name(layout),
            TensorKind::Scales => "scales",
            TensorKind::Vector => "vector",
            TensorKind::Blob => "text",
            _ => "other",
        };
        let matrix = model.file().meta().matrices.get(name);
        Self {
            name,
            layout,
            shape: matrix.map(|matrix| [matrix.rows, matrix.cols]),
            activation: matrix.map(|matrix| matrix.activation.name()),
            bytes,
        }
    }
}

impl KernelReport {
    fn new() -> Self {
        let why = |name: &&'static str| Some((*name, Kernels::why_unavailable(name)?));
        Self {
            chosen: Kernels::best().name(),
            available: Kernels::available().iter().map(|set| set.name()).collect(),
            unavailable: Kernels::all_names().iter().filter_map(why).collect(),
        }
    }
}

impl MemoryReport {
    fn new(model: &Model, args: &InfoArgs) -> anyhow::Result<Self> {
        let kv = args.kv.known()?;
        let defaults = SessionOptions {
            kv: args.keep.apply(kv.into()),
            ..SessionOptions::new(model.spec()).batch_of(Kernels::best())
        };
        let options = args
            .ctx_size
            .map_or(defaults, |context| defaults.context(context, model.spec()));
        let budget = args.memory.budget();
        let parts = MemoryParts::of_model(model);
        let plan = parts.plan(&options).map_err(|e| {
            exit::too_large(format!("a context of {} positions: {e}", options.context))
        })?;
        Ok(Self {
            ctx: options.context,
            kv: kv.name(),
            file: plan.of_kind(MemoryKind::File),
            anon: plan.of_kind(MemoryKind::Anonymous),
            total: plan.total(),
            plan,
            limit: Limit {
                bytes: budget.resident,
                source: match budget.source {
                    BudgetSource::Asked => "asked for",
                    BudgetSource::Cgroup => "control group",
                    BudgetSource::Machine => "free memory",
                    _ => "unknown",
                },
            },
            largest_contexts: largest_contexts(&parts, &options, &budget)
                .into_iter()
                .map(|(kind, context)| (kind.name(), context))
                .collect(),
        })
    }
}
