//! The processors that are emulated.

use anyhow::{Context, bail};

/// A processor of QEMU and the kernel sets it must offer.
#[derive(Debug)]
pub(super) struct Cpu {
    /// Its name here.
    pub(super) name: &'static str,
    /// The argument of `qemu-aarch64 -cpu`.
    pub(super) qemu: &'static str,
    /// Kernel sets that it must be able to run.
    pub(super) sets: &'static [&'static str],
    /// Whether `--quick` takes it.
    quick: bool,
}

impl Cpu {
    /// The sets that `other` does not have.
    pub(super) fn beyond(&self, other: &Cpu) -> Vec<&'static str> {
        let new = |set: &&&str| !other.sets.contains(*set);
        self.sets.iter().filter(new).copied().collect()
    }
}

const ALL_SETS: &[&str] = &["neon", "neon-dotprod", "neon-i8mm", "sve2"];

/// Worst first.
static CPUS: &[Cpu] = &[
    Cpu {
        name: "cortex-a72",
        qemu: "cortex-a72",
        sets: &["neon"],
        quick: true,
    },
    // The processor of a Raspberry Pi 5.
    Cpu {
        name: "cortex-a76",
        qemu: "cortex-a76",
        sets: &["neon", "neon-dotprod"],
        quick: false,
    },
    // SVE of 512 bits, but the first one, without matrix products of bytes.
    Cpu {
        name: "a64fx",
        qemu: "a64fx",
        sets: &["neon"],
        quick: false,
    },
    Cpu {
        name: "sve128",
        qemu: "max,sve128=on",
        sets: ALL_SETS,
        quick: false,
    },
    Cpu {
        name: "sve256",
        qemu: "max,sve256=on",
        sets: ALL_SETS,
        quick: true,
    },
    Cpu {
        name: "sve512",
        qemu: "max,sve512=on",
        sets: ALL_SETS,
        quick: false,
    },
];

/// Those called `names`, or all, or the quick ones.
pub(super) fn choose(names: &[String], quick: bool) -> anyhow::Result<Vec<&'static Cpu>> {
    if names.is_empty() {
        return Ok(CPUS.iter().filter(|cpu| cpu.quick || !quick).collect());
    }
    let find = |name: &String| {
        CPUS.iter().find(|cpu| cpu.name == name).with_context(|| {
            let known: Vec<&str> = CPUS.iter().map(|cpu| cpu.name).collect();
            format!("unknown CPU {name:?}; known CPUs: {}", known.join(", "))
        })
    };
    names.iter().map(find).collect()
}

/// The sets of this architecture that a comma-separated list names.
pub(super) fn required(list: &str) -> Vec<&'static str> {
    let named = |set: &&&str| list.split(',').any(|name| name.trim() == **set);
    ALL_SETS.iter().filter(named).copied().collect()
}

/// Fails when a required set runs on none of `cpus`.
pub(super) fn demand(required: &[&str], cpus: &[&Cpu]) -> anyhow::Result<()> {
    for set in required {
        if !cpus.iter().any(|cpu| cpu.sets.contains(set)) {
            bail!("kernel set {set} is required, and none of the chosen CPUs has it");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_chosen_by_name() {
        let names = |names: &[&str], quick| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            choose(&names, quick).map(|cpus| cpus.iter().map(|cpu| cpu.name).collect::<Vec<_>>())
        };
        assert_eq!(
            names(&["sve512", "a64fx"], true).unwrap(),
            ["sve512", "a64fx"]
        );
        assert_eq!(names(&[], true).unwrap(), ["cortex-a72", "sve256"]);
        assert_eq!(names(&[], false).unwrap().len(), CPUS.len());
        let error = names(&["z80"], false).unwrap_err().to_string();
        assert!(error.contains("\"z80\"; known CPUs: cortex-a72"), "{error}");
    }

    #[test]
    fn quick_tests_every_set_on_some_cpu() {
        let [first, second] = choose(&[], true).unwrap()[..] else {
            panic!("two CPUs")
        };
        let tested = [first.sets.to_vec(), second.beyond(first)].concat();
        assert_eq!(tested, ALL_SETS);
    }

    #[test]
    fn a_required_set_needs_a_cpu() {
        assert_eq!(required("avx2, sve2,neon"), ["neon", "sve2"]);
        let quick = choose(&[], true).unwrap();
        demand(&["neon", "sve2"], &quick).unwrap();
        let error = demand(&["sve2"], &quick[..1]).unwrap_err().to_string();
        assert!(error.contains("kernel set sve2 is required"), "{error}");
    }
}
