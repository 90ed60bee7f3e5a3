//! What the system says of the machine and of other load, each `None` where it does not.

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks at temperatures and frequencies.
const PERIOD: Duration = Duration::from_millis(500);
/// The kernel's unit of CPU time, fixed for programs.
const TICKS: f64 = 100.0;

/// The name of the CPU.
pub(super) fn cpu_model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let names = ["model name", "Model", "Hardware"];
    names.iter().find_map(|name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches(['\t', ' ', ':']).to_owned())
    })
}

/// The frequency governors of the CPUs, each once.
pub(super) fn governors() -> Option<String> {
    let mut all: Vec<String> = cpus("cpufreq/scaling_governor")
        .iter()
        .filter_map(|path| read(path))
        .collect();
    all.sort();
    all.dedup();
    (!all.is_empty()).then(|| all.join(", "))
}

/// The kernel's name and release.
pub(super) fn os() -> String {
    let release = read(Path::new("/proc/sys/kernel/osrelease"));
    format!(
        "{} {}",
        std::env::consts::OS,
        release.as_deref().unwrap_or("")
    )
    .trim()
    .to_owned()
}

fn read(path: &Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

fn number(path: &Path) -> Option<f64> {
    read(path)?.parse().ok()
}

fn children(folder: &str, prefix: &str, file: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    let mut paths: Vec<PathBuf> = named.map(|entry| entry.path().join(file)).collect();
    paths.sort();
    paths
}

fn cpus(file: &str) -> Vec<PathBuf> {
    children("/sys/devices/system/cpu", "cpu", file)
}

/// Meters of the energy that the CPU packages take.
#[derive(Clone, Debug)]
pub(crate) struct Rapl(Vec<(PathBuf, f64)>);

impl Rapl {
    /// Those of this machine; `None` where there are none, or they may not be read.
    pub(crate) fn find() -> Option<Self> {
        Self::below("/sys/class/powercap")
    }

    fn below(folder: &str) -> Option<Self> {
        // Parts of a package are named intel-rapl:0:1, and count in it.
        let packages = children(folder, "intel-rapl:", "")
            .into_iter()
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.matches(':').count() == 1
            });
        let meters: Vec<(PathBuf, f64)> = packages
            .filter_map(|path| {
                let meter = path.join("energy_uj");
                let first = number(&meter)?;
                Some((meter, first))
            })
            .collect();
        (!meters.is_empty()).then_some(Self(meters))
    }

    /// Joules since they were found; `None` where a meter has begun anew since.
    pub(crate) fn joules(&self) -> Option<f64> {
        let mut sum = 0.0;
        for (meter, first) in &self.0 {
            let now = number(meter)?;
            if now < *first {
                return None;
            }
            sum += (now - first) / 1e6;
        }
        Some(sum)
    }
}

/// CPU time that was used: by all, and by this process and its children that have ended, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct CpuTime {
    at: Instant,
    all: f64,
    own: f64,
}

impl CpuTime {
    /// Until now.
    pub(super) fn now() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/stat").ok()?;
        let own = std::fs::read_to_string("/proc/self/stat").ok()?;
        Some(Self {
            at: Instant::now(),
            all: busy(&stat)?,
            own: used(&own)?,
        })
    }

    /// CPUs that others kept busy on average since `self`, while this process and its children did what they did.
    pub(super) fn others_until(&self, end: &Self) -> f64 {
        let wall = end.at.duration_since(self.at).as_secs_f64();
        let others = (end.all - self.all) - (end.own - self.own);
        (others / wall.max(1.0 / TICKS)).max(0.0)
    }
}

/// Seconds that all CPUs together were not idle, from `/proc/stat`; time stolen by other machines counts.
fn busy(stat: &str) -> Option<f64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<f64> = line
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal; guests are in user.
    let at = |i: usize| fields.get(i).copied().unwrap_or(0.0);
    (fields.len() >= 4).then(|| (at(0) + at(1) + at(2) + at(5) + at(6) + at(7)) / TICKS)
}

/// Seconds of a process and of its children that have ended, from `/proc/PID/stat`.
fn used(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields = after_name.split_ascii_whitespace().skip(11).take(4);
    let ticks: Option<Vec<f64>> = fields.map(|field| field.parse().ok()).collect();
    ticks
        .filter(|ticks| ticks.len() == 4)
        .map(|ticks| ticks.iter().sum::<f64>() / TICKS)
}

/// Looks at temperatures and frequencies while something runs.
#[derive(Debug)]
pub(super) struct Monitor {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<[Range; 2]>,
    start: Option<CpuTime>,
}

/// Least and most that was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Range(f64, f64);

impl Range {
    const NOTHING: Self = Self(f64::INFINITY, f64::NEG_INFINITY);

    fn see(&mut self, value: f64) {
        (self.0, self.1) = (self.0.min(value), self.1.max(value));
    }

    fn json(&self) -> Value {
        match self.0 <= self.1 {
            true => json!({"min": self.0, "max": self.1}),
            false => Value::Null,
        }
    }
}

impl Monitor {
    /// Begins.
    pub(super) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let frequencies = cpus("cpufreq/scaling_cur_freq");
            let zones = children("/sys/class/thermal", "thermal_zone", "temp");
            let mut ranges = [Range::NOTHING; 2];
            while !seen.load(Ordering::Relaxed) {
                // In MHz and degrees Celsius.
                let khz = frequencies.iter().filter_map(|path| number(path));
                khz.for_each(|value| ranges[0].see(value / 1e3));
                let millidegrees = zones.iter().filter_map(|path| number(path));
                millidegrees.for_each(|value| ranges[1].see(value / 1e3));
                std::thread::park_timeout(PERIOD);
            }
            ranges
        });
        Self {
            stop,
            thread,
            start: CpuTime::now(),
        }
    }

    /// Ends, with what was seen.
    pub(super) fn finish(self) -> Value {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let [mhz, celsius] = self.thread.join().unwrap_or([Range::NOTHING; 2]);
        let others = self
            .start
            .zip(CpuTime::now())
            .map(|(start, end)| start.others_until(&end));
        json!({
            "mhz": mhz.json(),
            "celsius": celsius.json(),
            "other_load_cpus": others,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(busy("cpu  100 0 50 900 7 1 2 40 5 0\ncpu0 1\n"), Some(1.93));
        assert_eq!(busy("intr 5\n"), None);
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 100 200 30 40 20 0\n";
        assert_eq!(used(stat), Some(3.7));
        assert_eq!(used("12 (a) S 1"), None);
    }

    #[test]
    fn packages_are_counted_once() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, value: &str| {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join("energy_uj"), value).unwrap();
        };
        let below = folder.path().to_str().unwrap();
        assert!(Rapl::below(below).is_none());
        write("intel-rapl:0", "1000000\n");
        write("intel-rapl:0:0", "900000\n");
        write("intel-rapl:1", "0\n");
        let rapl = Rapl::below(below).unwrap();
        write("intel-rapl:0", "3500000\n");
        write("intel-rapl:1", "500000\n");
        assert_eq!(rapl.joules(), Some(3.0));
        write("intel-rapl:0", "5\n");
        assert_eq!(rapl.joules(), None);
    }

    #[test]
    fn what_others_do_is_not_negative() {
        if let (Some(a), Some(b)) = (CpuTime::now(), CpuTime::now()) {
            assert!(a.others_until(&b) >= 0.0);
        }
    }
}
