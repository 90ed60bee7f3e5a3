//! From the flags to threads and memory in their places.

use crate::cli::{Load, Numa, ThreadArgs};
use crate::exit;
use crate::note;
use onebit_runtime::{
    CpuList, MAX_THREADS, NumaNode, Pool, RuntimeError, allowed_cpus, default_threads, run_on,
};
use std::io::{self, ErrorKind};

/// The threads that were asked for, before there are any.
#[derive(Debug)]
pub(crate) enum Threads {
    /// So many, wherever the system puts them.
    Free(usize),
    /// One on each of these CPUs.
    Pinned(CpuList),
}

impl Threads {
    /// Binds this thread and its memory as the flags say, before there is anything of the model in memory.
    ///
    /// # Errors
    /// Exit code 2 for CPUs and nodes that are not there, 4 where the system cannot place anything.
    pub(crate) fn place(args: &ThreadArgs, load: Load) -> anyhow::Result<Self> {
        let pinned = args.cpus.as_ref().map(|cpus| choose(cpus, args.threads));
        let pinned = pinned.transpose()?;
        if let Some(Numa::Bind(id)) = args.numa {
            bind(id, pinned.is_none(), load)?;
        }
        let free = || Self::Free(args.threads.unwrap_or_else(default_threads));
        Ok(pinned.map_or_else(free, Self::Pinned))
    }

    /// Starts them.
    ///
    /// # Errors
    /// Where the system refuses.
    pub(crate) fn start(&self) -> Result<Pool, RuntimeError> {
        match self {
            Self::Free(threads) => Pool::new(*threads),
            Self::Pinned(cpus) => Pool::pinned(cpus),
        }
        .map_err(RuntimeError::Threads)
    }
}

/// The first of `cpus`, as many as there are threads to be.
fn choose(cpus: &CpuList, threads: Option<usize>) -> anyhow::Result<CpuList> {
    let count = cpus.cpus().len();
    let Some(allowed) = allowed_cpus() else {
        return Err(unsupported("--cpus"));
    };
    if let Some(cpu) = cpus.first_not_in(allowed.cpus()) {
        return Err(exit::request(format!(
            "--cpus {cpus}: CPU {cpu} is not available here; those that are: {allowed}"
        )));
    }
    match threads {
        Some(threads) if threads > count => Err(exit::request(format!(
            "-t {threads} is more than the CPUs of --cpus {cpus}: each thread needs one of its own"
        ))),
        None if count > MAX_THREADS => Err(exit::request(format!(
            "--cpus lists {count} CPUs, and at most {MAX_THREADS} threads are possible"
        ))),
        threads => Ok(cpus.first(threads.unwrap_or(count))),
    }
}

/// Binds memory, and with `threads` the threads too, to a node.
fn bind(id: usize, threads: bool, load: Load) -> anyhow::Result<()> {
    let nodes = NumaNode::all();
    let Some(node) = nodes.iter().find(|node| node.id == id) else {
        return Err(match nodes.is_empty() {
            true => unsupported("--numa"),
            false => exit::request(format!(
                "--numa bind:{id}: there is no such node with memory; those that are: {}",
                numbers(&nodes)
            )),
        });
    };
    if threads {
        let allowed = allowed_cpus();
        let usable = |cpu: &&usize| {
            let allowed = allowed.as_ref();
            allowed.is_none_or(|allowed| allowed.cpus().contains(cpu))
        };
        let cpus = node.cpus.iter().flat_map(CpuList::cpus).filter(usable);
        let cpus: Vec<usize> = cpus.copied().collect();
        if cpus.is_empty() {
            return Err(exit::request(format!(
                "--numa bind:{id}: this process may use no CPU of that node; --cpus names others"
            )));
        }
        run_on(&cpus).map_err(|error| refused(id, &error))?;
    }
    node.bind_memory().map_err(|error| refused(id, &error))?;
    if nodes.len() > 1 && load != Load::Heap {
        note!(
            "note: --numa does not move pages of mapped weights that are in the cache of files already; --load heap reads them into node {id}"
        );
    }
    Ok(())
}

fn numbers(nodes: &[NumaNode]) -> String {
    let ids: Vec<String> = nodes.iter().map(|node| node.id.to_string()).collect();
    ids.join(", ")
}

fn unsupported(flag: &str) -> anyhow::Error {
    exit::unsupported(format!("{flag} is not supported on this system"))
}

fn refused(id: usize, error: &io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::Unsupported => unsupported("--numa"),
        _ => exit::request(format!("--numa bind:{id}: the system refuses it: {error}")),
    }
}
