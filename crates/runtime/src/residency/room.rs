//! How many bytes of weights there is room for.

use std::fs::File;

use onebit_model::{KvCache, Model, Workspace};

use crate::memory::Budget;
use crate::session::SessionOptions;

/// What is left for everything that nobody counts: the program's own pages, page tables, buffers of the system.
const MARGIN: u64 = 16 << 20;

/// How many bytes of weights may be in memory, now and as a session grows.
#[derive(Debug)]
pub struct Room(Kind);

#[derive(Debug)]
enum Kind {
    Fixed(u64),
    /// What `limit` leaves beside the process's own memory, which is counted as at least `floor`.
    Beside {
        limit: u64,
        floor: u64,
        memory: OwnMemory,
    },
}

impl Room {
    /// Always `bytes`.
    pub fn fixed(bytes: u64) -> Self {
        Self(Kind::Fixed(bytes))
    }

    /// What `budget` leaves beside the process's own memory, one session's scratch memory and the keys and values of
    /// one batch, with a margin. A cache that fills up takes from it. `None` where the system does not say how much memory
    /// there is.
    pub fn beside(model: &Model, options: &SessionOptions, budget: &Budget) -> Option<Self> {
        let batch = options.batch.min(options.context).max(1);
        let rows = options.logits_rows.clamp(1, batch);
        let spec = model.spec();
        let session = [
            KvCache::bytes(spec, options.kv, batch),
            Workspace::bytes(spec, model.input_forms(), batch, rows),
        ];
        let session: u64 = session
            .into_iter()
            .flatten()
            .map(|bytes| bytes as u64)
            .sum();
        let memory = OwnMemory::open()?;
        let own = memory.bytes()?;
        let available = budget.resident;
        Some(Self(Kind::Beside {
            limit: available.saturating_sub(MARGIN + available / 16),
            floor: own + session,
            memory,
        }))
    }

    /// Bytes of weights. Allocates nothing.
    pub fn bytes(&self) -> u64 {
        match &self.0 {
            Kind::Fixed(bytes) => *bytes,
            Kind::Beside {
                limit,
                floor,
                memory,
            } => limit.saturating_sub(memory.bytes().unwrap_or(0).max(*floor)),
        }
    }
}

/// Memory of this process that no file backs, as it changes.
#[derive(Debug)]
struct OwnMemory {
    statm: File,
    page: u64,
}

impl OwnMemory {
    #[cfg(unix)]
    fn open() -> Option<Self> {
        // SAFETY: the call reads a constant of the system.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        Some(Self {
            statm: File::open("/proc/self/statm").ok()?,
            page: u64::try_from(page).ok()?,
        })
    }

    #[cfg(not(unix))]
    fn open() -> Option<Self> {
        None
    }

    /// `None` where the system does not say.
    fn bytes(&self) -> Option<u64> {
        let mut text = [0; 128];
        let read = read_from_start(&self.statm, &mut text).ok()?;
        let text = std::str::from_utf8(&text[..read]).ok()?;
        let mut fields = text.split(' ').map(str::parse::<u64>);
        let (resident, shared) = (fields.nth(1)?.ok()?, fields.next()?.ok()?);
        resident.saturating_sub(shared).checked_mul(self.page)
    }
}

#[cfg(unix)]
fn read_from_start(file: &File, out: &mut [u8]) -> std::io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, out, 0)
}

#[cfg(not(unix))]
fn read_from_start(_file: &File, _out: &mut [u8]) -> std::io::Result<usize> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn own_memory_grows_with_what_is_touched() {
        let memory = OwnMemory::open().unwrap();
        let before = memory.bytes().unwrap();
        let touched = vec![1u8; 32 << 20];
        let after = memory.bytes().unwrap();
        assert!(after >= before + (16 << 20), "{before} {after}");
        assert_eq!(touched[1 << 20], 1);
    }
}
