//! `bench kernels`.

use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Args;
use onebit_kernels::{Executor, Kernels};
use onebit_runtime::{Pool, default_threads};
use serde_json::json;

use super::attention::{self, Attention};
use super::bar::Bar;
use super::cases::{BATCHES, DECODE, PREFILL};
use super::job::Job;
use super::machine;
use super::series::Series;
use super::system::Monitor;
use super::work::{MANY_TOKENS, Weights, Work};

#[derive(Debug, Args)]
pub(super) struct KernelsArgs {
    /// Kernel set (default: the best of this CPU)
    #[arg(long, value_name = "NAME")]
    kernels: Option<String>,
    /// Threads (default: as for a model)
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Rounds; each runs every kernel twice and times the second run
    #[arg(long, value_name = "N", default_value_t = 7)]
    rounds: usize,
    /// Size of the weights, or of the keys and values; more than the CPU's caches hold
    #[arg(long, value_name = "N", default_value_t = 320)]
    mib: usize,
    /// Only kernels whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Only what the CPU does at best, no kernels
    #[arg(long, conflicts_with = "only")]
    limits: bool,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What the CPU does at best, and how long that took.
struct Limit {
    name: &'static str,
    amount: f64,
    /// How often a run does it.
    rounds: usize,
    times: Series,
}

/// One kernel.
struct Row<'a> {
    kind: &'static str,
    job: Box<dyn Job + 'a>,
    times: Series,
    /// Those of reading all bytes beside it; none where multiplying is what takes time.
    memory: Series,
    /// Those of reading the same bytes in the same parts; none where that says nothing.
    reads: Series,
}

/// Measures and prints.
pub(super) fn run(args: &KernelsArgs) -> anyhow::Result<()> {
    ensure!(args.rounds > 0, "--rounds must be at least 1");
    ensure!(
        (1..=1 << 16).contains(&args.mib),
        "--mib must be in 1..=65536"
    );
    let kernels = match &args.kernels {
        Some(name) => Kernels::by_name(name)?,
        None => Kernels::best(),
    };
    let pool = Pool::new(args.threads.unwrap_or_else(default_threads)).context("no threads")?;
    let weights = Weights::random(args.mib << 20)?;
    let mut limits = limits(&weights, kernels, pool.threads());
    let mut rows = match args.limits {
        true => Vec::new(),
        false => rows(args, &weights, kernels, pool.threads())?,
    };
    ensure!(
        args.limits || !rows.is_empty(),
        "no kernel has this in its name"
    );
    let mut bar = Bar::new("rounds", args.rounds as u64 + 1);
    let monitor = Monitor::start();
    for round in 0..=args.rounds {
        bar.next("");
        for row in &mut rows {
            let (mut times, mut reads) = (Series::default(), Series::default());
            let mut memory = Series::default();
            // Once for what ran before: after tiles, or sums in registers alone, a core is slower for some milliseconds. The few
            // matrices of many tokens would stay in a cache.
            let few = row.job.tokens() <= MANY_TOKENS;
            if few {
                row.job.run(kernels, &pool);
            }
            times.time(|| row.job.run(kernels, &pool));
            let mut read = row.job.read(kernels, &pool);
            reads.time(|| read &= row.job.read(kernels, &pool));
            if few {
                memory.time(|| read_all(&weights, kernels, &pool));
            }
            // The first round faults pages in and wakes the threads.
            if round > 0 {
                row.times.add(times);
                row.memory.add(memory);
                if read {
                    row.reads.add(reads);
                }
            }
        }
        for (which, limit) in limits.iter_mut().enumerate() {
            measure_limit(limit, which, &weights, kernels, &pool);
        }
    }
    bar.finish();
    let machine = machine::watched(monitor, None);
    match args.json {
        true => print_json(kernels, &pool, &weights, &limits, &rows, machine),
        false => {
            print_table(kernels, &pool, &weights, &limits, &rows);
            println!();
            let ran = format!("kernels {}, {} threads", kernels.name(), pool.threads());
            machine::print(&machine, &ran)?;
        }
    }
    Ok(())
}

/// How long multiplying takes at least, in seconds: what a set prepares for it does not count then.
const MULTIPLY_SECONDS: f64 = 0.01;

/// Rounds of multiplication that take a thread at least [`MULTIPLY_SECONDS`].
fn rounds(kernels: &Kernels, ternary: bool) -> usize {
    let mut rounds = 1 << 12;
    loop {
        let start = Instant::now();
        kernels.multiply(rounds, ternary);
        if start.elapsed().as_secs_f64() > MULTIPLY_SECONDS / 2.0 {
            return 2 * rounds;
        }
        rounds *= 2;
    }
}

fn limits(weights: &Weights, kernels: &Kernels, threads: usize) -> [Limit; 3] {
    let limit = |name, amount, rounds| Limit {
        name,
        amount,
        rounds,
        times: Series::default(),
    };
    let products = |name, ternary| {
        let rounds = rounds(kernels, ternary);
        let per_thread = Kernels::multiplications(rounds, ternary);
        limit(name, 2.0 * (per_thread * threads as u64) as f64, rounds)
    };
    [
        limit("memory read", weights.bytes().len() as f64, 1),
        products("multiplying ternary x int8", true),
        products("multiplying int8 x int8", false),
    ]
}

fn measure_limit(
    limit: &mut Limit,
    which: usize,
    weights: &Weights,
    kernels: &Kernels,
    pool: &Pool,
) {
    let rounds = limit.rounds;
    let run = || match which {
        0 => read_all(weights, kernels, pool),
        _ => pool.run(pool.threads(), &|_| {
            kernels.multiply(rounds, which == 1);
        }),
    };
    // Once for what ran before, as for the kernels.
    run();
    limit.times.time(run);
}

/// Reads all bytes on all threads. In large parts: a new part costs a few lines that were not prefetched.
fn read_all(weights: &Weights, kernels: &Kernels, pool: &Pool) {
    let part = weights.bytes().len().div_ceil(4 * pool.threads());
    let parts: Vec<&[u8]> = weights.bytes().chunks(part).collect();
    pool.run(parts.len(), &|i| {
        std::hint::black_box(kernels.read(parts[i]));
    });
}

fn rows<'a>(
    args: &KernelsArgs,
    weights: &'a Weights,
    kernels: &Kernels,
    threads: usize,
) -> anyhow::Result<Vec<Row<'a>>> {
    let groups = [
        ("decode", DECODE, attention::DECODE),
        ("batch", BATCHES, &[][..]),
        ("prefill", PREFILL, attention::PREFILL),
    ];
    let wanted = |kind: &str, name: &str| {
        let name = format!("{kind} {name}");
        args.only.as_ref().is_none_or(|text| name.contains(text))
    };
    let mut rows = Vec::new();
    let row = |kind, job| Row {
        kind,
        job,
        times: Series::default(),
        memory: Series::default(),
        reads: Series::default(),
    };
    for (kind, products, attention) in groups {
        for case in products.iter().filter(|case| wanted(kind, &case.name())) {
            let work = Work::new(*case, weights, kernels, threads)?;
            rows.push(row(kind, Box::new(work) as Box<dyn Job + 'a>));
        }
        for case in attention.iter().filter(|case| wanted(kind, &case.name())) {
            rows.push(row(kind, Box::new(Attention::new(*case, weights))));
        }
    }
    Ok(rows)
}

impl Limit {
    /// Per second, in the middle of the runs, as for the kernels that are compared with it.
    fn rate(&self) -> f64 {
        self.amount / self.times.median()
    }
}

impl Row<'_> {
    fn bytes_per_second(&self) -> f64 {
        self.job.bytes() / self.times.median()
    }

    /// Of the speed of reading memory: beside this kernel, because it changes from second to second, and with what ran before.
    fn memory_share(&self, weights: &Weights, memory: &Limit) -> f64 {
        let rate = match self.memory.is_empty() {
            true => memory.rate(),
            false => weights.bytes().len() as f64 / self.memory.median(),
        };
        self.bytes_per_second() / rate
    }

    /// Of the speed of reading the same bytes in the same parts.
    fn reading_share(&self) -> Option<f64> {
        let reads = &self.reads;
        (!reads.is_empty()).then(|| reads.median() / self.times.median())
    }

    fn operations_per_second(&self) -> f64 {
        2.0 * self.job.products() / self.times.median()
    }
}

fn print_table(
    kernels: &Kernels,
    pool: &Pool,
    weights: &Weights,
    limits: &[Limit; 3],
    rows: &[Row<'_>],
) {
    let [memory, ternary, int8] = limits;
    let peak = ternary.rate().max(int8.rate());
    println!(
        "random weights of real shapes, kernels {}, threads {}\n",
        kernels.name(),
        pool.threads()
    );
    println!("{:<32} {:>10} {:>8}", "limit", "median", "spread");
    println!(
        "{:<32} {:>5.1} GB/s {:>6.0} %",
        memory.name,
        memory.rate() / 1e9,
        memory.times.spread() * 100.0
    );
    for limit in [ternary, int8] {
        println!(
            "{:<32} {:>5.0} GOPS {:>6.0} %",
            limit.name,
            limit.rate() / 1e9,
            limit.times.spread() * 100.0
        );
    }
    println!(
        "\n{:<8} {:<38} {:>13} {:>6} {:>9} {:>7} {:>7} {:>7} {:>8} {:>7} {:>7}",
        "",
        "kernel",
        "rows x cols",
        "tokens",
        "ms",
        "spread",
        "GB/s",
        "share",
        "in parts",
        "GOPS",
        "share"
    );
    for row in rows {
        let [rows, cols] = row.job.shape();
        let (bytes, operations) = (row.bytes_per_second(), row.operations_per_second());
        println!(
            "{:<8} {:<38} {:>13} {:>6} {:>9.2} {:>5.0} % {:>7.1} {:>5.0} % {:>8} {:>7.0} {:>5.0} %",
            row.kind,
            row.job.name(),
            format!("{rows}x{cols}"),
            row.job.tokens(),
            row.times.median() * 1e3,
            row.times.spread() * 100.0,
            bytes / 1e9,
            row.memory_share(weights, memory) * 100.0,
            row.reading_share()
                .map_or("-".into(), |share| format!("{:.0} %", share * 100.0)),
            operations / 1e9,
            operations / peak * 100.0
        );
    }
}

fn print_json(
    kernels: &Kernels,
    pool: &Pool,
    weights: &Weights,
    limits: &[Limit; 3],
    rows: &[Row<'_>],
    machine: serde_json::Value,
) {
    let [memory, ternary, int8] = limits;
    let peak = ternary.rate().max(int8.rate());
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "kind": row.kind,
                "kernel": row.job.name(),
                "rows": row.job.shape()[0],
                "cols": row.job.shape()[1],
                "tokens": row.job.tokens(),
                "seconds": row.times.median(),
                "spread": row.times.spread(),
                "bytes_per_second": row.bytes_per_second(),
                "memory_share": row.memory_share(weights, memory),
                "reading_share": row.reading_share(),
                "operations_per_second": row.operations_per_second(),
                "peak_share": row.operations_per_second() / peak,
            })
        })
        .collect();
    let report = json!({
        "machine": machine,
        "kernels": kernels.name(),
        "threads": pool.threads(),
        "weights": "random",
        "limits": {
            "read_bytes_per_second": memory.rate(),
            "ternary_operations_per_second": ternary.rate(),
            "int8_operations_per_second": int8.rate(),
        },
        "rows": rows,
    });
    println!("{report}");
}
