//! From the engine flags to a session that fits in memory.

use crate::cli::{EngineArgs, Load};
use crate::exit;
use crate::note;
use crate::source::Source;
use onebit_kernels::Kernels;
use onebit_model::Model;
use onebit_runtime::{
    Budget, BudgetSource, DoesNotFit, MemoryParts, RuntimeError, SessionOptions, fit, format_size,
};

/// Refuses a file that would have to be read into memory whole and is larger than all memory there is for it.
///
/// # Errors
/// Exit code 5.
pub(crate) fn check_heap(source: &Source, load: Load, budget: &Budget) -> anyhow::Result<()> {
    let Source::Packed(path) = source else {
        return Ok(());
    };
    let size = std::fs::metadata(path).map_or(0, |meta| meta.len());
    if load == Load::Heap && size > budget.resident {
        return Err(exit::too_large(format!(
            "{source} takes {} in memory, and there are {} ({}); --load mmap needs no memory of its own for it",
            format_size(size),
            format_size(budget.resident),
            limit_name(budget)
        )));
    }
    Ok(())
}

/// What the plan of a session follows from.
pub(crate) fn parts(model: &Model, streams: bool, one_pass: bool) -> MemoryParts {
    let mut parts = MemoryParts::of_model(model);
    if streams {
        parts = parts.streamed();
    }
    if one_pass {
        parts = parts.one_pass();
    }
    parts
}

/// The session that the flags ask for, with what they leave open chosen so that it fits.
///
/// # Errors
/// Exit code 5 where nothing does, with the nearest settings that would.
pub(crate) fn session(
    model: &Model,
    args: &EngineArgs,
    kernels: &Kernels,
    budget: &Budget,
) -> anyhow::Result<SessionOptions> {
    let parts = parts(model, args.stream(), args.one_pass);
    let (asked, open) = args.session(model.spec(), kernels)?;
    match fit(&parts, &asked, open, budget) {
        Ok(chosen) => {
            if open.kv || open.context || chosen != asked {
                tell(&parts, &chosen, budget)?;
            }
            Ok(chosen)
        }
        Err(RuntimeError::DoesNotFit(refusal)) => {
            let is_left_to_us = open.kv || open.context;
            let plan = parts.plan(&asked)?;
            if budget.source == BudgetSource::Asked || is_left_to_us || !budget.holds_own(&plan) {
                return Err(exit::too_large(explain(&refusal)));
            }
            note!(
                "note: {} are planned and {} are free: the system will drop weights and read them again",
                format_size(plan.total()),
                format_size(budget.resident)
            );
            Ok(asked)
        }
        Err(error) => Err(error.into()),
    }
}

/// Says what was chosen.
fn tell(parts: &MemoryParts, chosen: &SessionOptions, budget: &Budget) -> anyhow::Result<()> {
    note!(
        "{}: {} planned of {} ({})",
        flags(chosen),
        format_size(parts.plan(chosen)?.total()),
        format_size(budget.resident),
        limit_name(budget)
    );
    Ok(())
}

/// What does not fit, and what would, in flags.
fn explain(refusal: &DoesNotFit) -> String {
    let limit = limit_name(&refusal.budget);
    let fits = refusal.nearest.iter().map(flags);
    let more = |bytes| {
        format!(
            "--memory-limit {}M",
            Budget::least(bytes).div_ceil(1_000_000)
        )
    };
    let all: Vec<String> = fits.chain([more(refusal.needed)]).collect();
    let would = match refusal.nearest.is_empty() {
        true => format!(
            "; the smallest settings take {}; as asked: ",
            more(refusal.least)
        ),
        false => "; what would fit: ".to_owned(),
    };
    format!("{refusal} ({limit}){would}{}", all.join(", or "))
}

fn limit_name(budget: &Budget) -> &'static str {
    match budget.source {
        BudgetSource::Asked => "--memory-limit",
        BudgetSource::Cgroup => "left by the control group",
        _ => "free on this machine",
    }
}

/// Settings as flags.
fn flags(options: &SessionOptions) -> String {
    let SessionOptions {
        kv, context, batch, ..
    } = options;
    let (keys, values) = (kv.keys, kv.values);
    let kv = if keys == values {
        format!("--kv {}", keys.name())
    } else {
        format!("--kv-k {} --kv-v {}", keys.name(), values.name())
    };
    format!("-c {context} {kv} -b {batch}")
}
