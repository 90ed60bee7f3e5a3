//! The memory control group of this process: what it uses and may use together with its siblings.

use std::path::{Path, PathBuf};

/// The control group with the tightest memory limit around this process, or its own where none has a limit; in bytes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CgroupMemory {
    /// 1 or 2: the interface that says it.
    pub version: u8,
    /// Used now by all processes of the group, cached files included.
    pub current: u64,
    /// Most that may be used, if there is a limit.
    pub limit: Option<u64>,
    /// Cached files in `current`, which go before anything else does.
    pub reclaimable: u64,
}

impl CgroupMemory {
    /// Of this process; `None` where it is in no group that counts memory.
    pub fn read() -> Option<Self> {
        Self::read_below(Path::new("/"))
    }

    /// What may still be used, if there is a limit.
    pub fn left(&self) -> Option<u64> {
        let used = self.current.saturating_sub(self.reclaimable);
        Some(self.limit?.saturating_sub(used))
    }

    /// The same in a file system whose root is `root`.
    pub(super) fn read_below(root: &Path) -> Option<Self> {
        let read = |path| std::fs::read_to_string(root.join(path)).ok();
        let (groups, mounts) = (read("proc/self/cgroup")?, read("proc/self/mountinfo")?);
        [Interface::V1, Interface::V2].into_iter().find_map(|kind| {
            let group = kind.group(&groups)?;
            let mount = mounts.lines().find_map(|line| kind.mount(line))?;
            kind.tightest(root, &mount, group)
        })
    }
}

/// The two interfaces of the kernel; memory belongs to one of them.
#[derive(Clone, Copy)]
enum Interface {
    V1,
    V2,
}

/// Where a hierarchy of groups can be seen: the group `root` and those below it, in the folder `point`.
struct Mount<'t> {
    root: &'t str,
    point: PathBuf,
}

impl Interface {
    /// The path of this process's group, from `/proc/self/cgroup`.
    fn group(self, groups: &str) -> Option<&str> {
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let found = match self {
                Self::V1 => controllers.split(',').any(|name| name == "memory"),
                Self::V2 => number == "0" && controllers.is_empty(),
            };
            found.then_some(path)
        })
    }

    /// The mount of a line of `/proc/self/mountinfo`, if it is one of this interface.
    fn mount(self, line: &str) -> Option<Mount<'_>> {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?, place.next()?);
        let mut kind = kind.split(' ');
        let (name, options) = (kind.next()?, kind.nth(1)?);
        let found = match self {
            Self::V1 => name == "cgroup" && options.split(',').any(|option| option == "memory"),
            Self::V2 => name == "cgroup2",
        };
        // Spaces and the like are written as octal numbers.
        let point = PathBuf::from(point.replace("\\040", " "));
        found.then_some(Mount { root, point })
    }

    /// Looks at the group and at those around it.
    fn tightest(self, root: &Path, mount: &Mount<'_>, group: &str) -> Option<CgroupMemory> {
        let top = root.join(mount.point.strip_prefix("/").unwrap_or(&mount.point));
        // A container may see its own group as the root, and be told the path that others see.
        let below = Path::new(group).strip_prefix(mount.root);
        let own = below.map_or_else(|_| top.clone(), |below| top.join(below));
        let groups = own
            .ancestors()
            .take_while(|folder| folder.starts_with(&top));
        let mut all = groups.filter_map(|folder| self.read(folder));
        let own = all.next()?;
        Some(all.fold(own, |tightest, group| {
            let left = |group: &CgroupMemory| group.left().unwrap_or(u64::MAX);
            if left(&group) < left(&tightest) {
                group
            } else {
                tightest
            }
        }))
    }

    /// The numbers of one group; `None` where its folder has none.
    fn read(self, folder: &Path) -> Option<CgroupMemory> {
        let read = |name| std::fs::read_to_string(folder.join(name)).ok();
        let number = |name| read(name)?.trim().parse::<u64>().ok();
        let (version, current, limit, files) = match self {
            Self::V1 => (
                1,
                "memory.usage_in_bytes",
                "memory.limit_in_bytes",
                ["total_inactive_file", "total_active_file"],
            ),
            Self::V2 => (
                2,
                "memory.current",
                "memory.max",
                ["inactive_file", "active_file"],
            ),
        };
        let stat = read("memory.stat").unwrap_or_default();
        let cached = |name: &str| -> Option<u64> {
            let line = stat
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            line.trim().parse().ok()
        };
        Some(CgroupMemory {
            version,
            current: number(current)?,
            // Version 1 says "no limit" with a number that no machine has.
            limit: number(limit).filter(|limit| *limit < 1 << 62),
            reclaimable: files.iter().filter_map(|name| cached(name)).sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(tempfile::TempDir);

    impl Fake {
        fn new(cgroup: &str, mountinfo: &str) -> Self {
            let fake = Self(tempfile::tempdir().unwrap());
            fake.write("proc/self/cgroup", cgroup);
            fake.write("proc/self/mountinfo", mountinfo);
            fake
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn v1(&self, folder: &str, current: u64, limit: u64) {
            self.write(
                &format!("{folder}/memory.usage_in_bytes"),
                &format!("{current}\n"),
            );
            self.write(
                &format!("{folder}/memory.limit_in_bytes"),
                &format!("{limit}\n"),
            );
        }

        fn v2(&self, folder: &str, current: u64, limit: &str) {
            self.write(&format!("{folder}/memory.current"), &format!("{current}\n"));
            self.write(&format!("{folder}/memory.max"), &format!("{limit}\n"));
        }

        fn read(&self) -> Option<CgroupMemory> {
            CgroupMemory::read_below(self.0.path())
        }
    }

    const V1: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_first_interface_is_walked_up() {
        let fake = Fake::new("4:cpu,memory:/a/b\n0::/\n", V1);
        fake.v1("sys/fs/cgroup/memory", 9000, 9223372036854771712);
        fake.v1("sys/fs/cgroup/memory/a", 800, 1000);
        fake.write(
            "sys/fs/cgroup/memory/a/memory.stat",
            "cache 500\ninactive_file 1\ntotal_inactive_file 300\ntotal_active_file 50\n",
        );
        fake.v1("sys/fs/cgroup/memory/a/b", 700, 5000);
        let group = fake.read().unwrap();
        assert_eq!(
            (group.version, group.current, group.limit),
            (1, 800, Some(1000))
        );
        assert_eq!((group.reclaimable, group.left()), (350, Some(550)));
    }

    #[test]
    fn the_second_interface_may_show_a_part_of_the_tree() {
        let mounts = "30 24 0:26 /outer /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let fake = Fake::new("0::/outer/me\n", mounts);
        fake.v2("sys/fs/cgroup/me", 70, "max");
        assert_eq!(fake.read().unwrap().left(), None);
        fake.v2("sys/fs/cgroup", 75, "100");
        assert_eq!(fake.read().unwrap().left(), Some(25));
        fake.write("proc/self/cgroup", "0::/elsewhere\n");
        assert_eq!(fake.read().unwrap().current, 75);
    }

    #[test]
    fn systems_without_groups_have_none() {
        assert_eq!(Fake::new("", "").read(), None);
        assert_eq!(Fake::new("4:memory:/\n", V1).read(), None);
        assert_eq!(CgroupMemory::read_below(Path::new("/nonexistent")), None);
    }
}
