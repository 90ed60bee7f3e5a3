//! `onebit info --shape`: the memory of a model that is not there.

use super::InfoArgs;
use crate::exit::Code;
use crate::stdout;
use anyhow::Context;
use onebit_format::Layout;
use onebit_kernels::Kernels;
use onebit_model::ModelSpec;
use onebit_runtime::{Encoding, MemoryParts, MemoryPlan, SessionOptions, Shape, format_size};
use serde::Serialize;
use std::fmt::{Display, Formatter};

/// The object of `--json`.
#[derive(Serialize)]
struct Report<'a> {
    shape: &'a str,
    spec: &'a ModelSpec,
    ctx: usize,
    batch: usize,
    kv: &'static str,
    plans: Vec<Column>,
}

/// One way to store the weights.
#[derive(Serialize)]
struct Column {
    name: &'static str,
    /// Layout of the decoder's matrices.
    weights: &'static str,
    /// Layout of embedding and head.
    tables: &'static str,
    /// Bytes of all weights.
    weight_bytes: u64,
    total: u64,
    plan: MemoryPlan,
}

/// Plans the shape, as it is published or in every way to store it.
pub(super) fn run(name: &str, args: &InfoArgs) -> anyhow::Result<Code> {
    let shape = Shape::named(name).context("a shape of the command line")?;
    let kv = args.kv.known()?;
    let defaults = SessionOptions {
        kv: args.keep.apply(kv.into()),
        ..SessionOptions::new(&shape.spec).batch_of(Kernels::best())
    };
    let options = args
        .ctx_size
        .map_or(defaults, |context| defaults.context(context, &shape.spec));
    let ways = if args.compare {
        vec![
            ("FP16", Layout::F16, Layout::F16),
            ("4-bit", Layout::I4, Layout::I4),
            ("ternary t2", Layout::T2, shape.keep),
            ("ternary dense", Layout::T5, shape.keep),
            ("binary", Layout::B1, shape.keep),
        ]
    } else {
        vec![("published", shape.linear, shape.keep)]
    };
    let column = |(name, linear, table): (&'static str, Layout, Layout)| {
        Column::new(name, &shape, shape.encoding(linear, table), &options)
    };
    let report = Report {
        shape: name,
        spec: &shape.spec,
        ctx: options.context,
        batch: options.batch.min(options.context),
        kv: kv.name(),
        plans: ways.into_iter().map(column).collect::<Result<_, _>>()?,
    };
    match args.json {
        true => stdout::json(&report)?,
        false => stdout::print(&report.to_string())?,
    }
    Ok(Code::Success)
}

impl Column {
    fn new(
        name: &'static str,
        shape: &Shape,
        encoding: Encoding,
        options: &SessionOptions,
    ) -> anyhow::Result<Self> {
        let plan = MemoryParts::of_shape(shape, &encoding)?.plan(options)?;
        let weights = ["layers", "embeddings", "head"];
        Ok(Self {
            name,
            weights: match encoding.linear {
                // Each matrix in the smaller of the two, as `b1` stands for the one that fits.
                Layout::T5 => "dense",
                layout => layout.name(),
            },
            tables: encoding.table.name(),
            weight_bytes: weights.iter().map(|item| plan.bytes(item)).sum(),
            total: plan.total(),
            plan,
        })
    }

    /// Bytes of what is neither weights nor the session's.
    fn rest(&self) -> u64 {
        let rest = [
            "header and texts",
            "tokenizer",
            "program",
            "heap and stacks",
        ];
        rest.iter().map(|item| self.plan.bytes(item)).sum()
    }
}

impl Display for Report<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Self {
            shape,
            ctx,
            batch,
            kv,
            ..
        } = self;
        writeln!(
            f,
            "{shape} with {ctx} positions, kv {kv}, batches of {batch}"
        )?;
        let mut row = |title: &str, value: &dyn Fn(&Column) -> String| {
            write!(f, "  {title:18}")?;
            for column in &self.plans {
                write!(f, " {:>14}", value(column))?;
            }
            writeln!(f)
        };
        row("", &|column| column.name.to_owned())?;
        row("layers as", &|column| column.weights.to_owned())?;
        row("tables as", &|column| column.tables.to_owned())?;
        row("weights", &|column| format_size(column.weight_bytes))?;
        for name in ["layers", "embeddings", "head"] {
            let title = format!("  {name}");
            row(&title, &|column| format_size(column.plan.bytes(name)))?;
        }
        row("activations", &|column| {
            format_size(column.plan.bytes("scratch"))
        })?;
        row("kv cache", &|column| {
            format_size(column.plan.bytes("kv cache"))
        })?;
        row("tokenizer, program", &|column| format_size(column.rest()))?;
        row("resident", &|column| format_size(column.total))
    }
}
