//! Nodes of memory and the CPUs near them.

use std::io;
use std::path::Path;

use super::affinity::CpuList;

/// A part of the machine's memory with the CPUs that reach it first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumaNode {
    /// Its number.
    pub id: usize,
    /// Its CPUs; a node may have none.
    pub cpus: Option<CpuList>,
}

impl NumaNode {
    /// The nodes that have memory, in order; none where the system does not say.
    pub fn all() -> Vec<Self> {
        Self::all_below(Path::new("/sys/devices/system/node"))
    }

    /// The same from the topology in the folder `root`.
    pub fn all_below(root: &Path) -> Vec<Self> {
        let list = |path: &str| {
            let text = std::fs::read_to_string(root.join(path)).ok()?;
            CpuList::parse(&text).ok()
        };
        let nodes = list("has_memory").or_else(|| list("online"));
        let node = |&id: &usize| Self {
            id,
            cpus: list(&format!("node{id}/cpulist")),
        };
        let mut nodes: Vec<Self> = nodes.iter().flat_map(CpuList::cpus).map(node).collect();
        nodes.sort_unstable_by_key(|node| node.id);
        nodes
    }

    /// Takes all memory that the calling thread, and those it starts from now on, touch first from this node. Pages in the cache
    /// of files stay where they are.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::Unsupported`] where it has no such policy.
    #[cfg(target_os = "linux")]
    pub fn bind_memory(&self) -> io::Result<()> {
        const BITS: usize = libc::c_ulong::BITS as usize;
        let mut mask = [0 as libc::c_ulong; 1024 / BITS];
        let word = mask.get_mut(self.id / BITS);
        *word.ok_or(io::ErrorKind::InvalidInput)? |= 1 << (self.id % BITS);
        // The system reads one bit less than it is told.
        let bits = BITS * mask.len() + 1;
        // SAFETY: the call reads as many bits as are named, rounded up to bytes and less one, from a pointer valid for
        // these, and keeps nothing.
        let failed = unsafe {
            libc::syscall(
                libc::SYS_set_mempolicy,
                libc::MPOL_BIND as libc::c_long,
                mask.as_ptr(),
                bits as libc::c_ulong,
            )
        };
        match failed {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// There is no such policy here.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(target_os = "linux"))]
    pub fn bind_memory(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    fn nodes(files: &[(&str, &str)]) -> Vec<(usize, Option<String>)> {
        let all = NumaNode::all_below(topology(files).path());
        let show = |node: NumaNode| (node.id, node.cpus.map(|cpus| cpus.to_string()));
        all.into_iter().map(show).collect()
    }

    #[test]
    fn nodes_of_a_topology() {
        let two = nodes(&[
            ("online", "0-2\n"),
            ("has_memory", "0,2\n"),
            ("node0/cpulist", "0-3,8-11\n"),
            ("node1/cpulist", "4-7\n"),
            ("node2/cpulist", "\n"),
        ]);
        // The second has no memory, the third no CPUs.
        assert_eq!(two, [(0, Some("0-3,8-11".into())), (2, None)]);
        let old = nodes(&[("online", "0\n"), ("node0/cpulist", "0-1\n")]);
        assert_eq!(old, [(0, Some("0-1".into()))]);
        assert_eq!(nodes(&[]), []);
        assert_eq!(nodes(&[("online", "everything")]), []);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_comes_from_the_node_asked_for() {
        let Some(node) = NumaNode::all().into_iter().next() else {
            eprintln!("skipped: the system shows no nodes");
            return;
        };
        let policy = move || {
            node.bind_memory()?;
            let touched = vec![1u8; 16 << 20];
            let maps = std::fs::read_to_string("/proc/thread-self/numa_maps");
            assert_eq!(touched[1 << 20], 1);
            maps.map(|maps| (node.id, maps))
        };
        // The policy of this thread only: other tests keep theirs.
        match std::thread::spawn(policy).join().unwrap() {
            Ok((id, maps)) => {
                let bound = format!(" bind:{id} ");
                assert!(maps.contains(&bound), "{maps}");
            }
            Err(error) => eprintln!("skipped: {error}"),
        }
        let absurd = NumaNode {
            id: 1 << 20,
            cpus: None,
        };
        assert!(absurd.bind_memory().is_err());
    }
}
