//! The pool under many tiny jobs, panics, oversubscription and several callers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use onebit_kernels::Executor;
use onebit_runtime::{MAX_THREADS, Pool};

/// Runs a job whose parts must each run exactly once.
fn check(pool: &Pool, parts: usize) {
    let counts: Vec<AtomicU32> = (0..parts).map(|_| AtomicU32::new(0)).collect();
    pool.run(parts, &|part| {
        counts[part].fetch_add(1, Ordering::Relaxed);
    });
    assert!(
        counts
            .iter()
            .all(|count| count.load(Ordering::Relaxed) == 1)
    );
}

#[test]
fn every_part_runs_once() {
    for threads in [0, 1, 2, 3, 8] {
        let pool = Pool::new(threads).unwrap();
        assert_eq!(pool.threads(), threads.max(1));
        for parts in [0, 1, 2, 3, 7, 8, 9, 1000] {
            check(&pool, parts);
        }
    }
}

#[test]
fn many_tiny_jobs_and_their_results_are_visible() {
    let pool = Pool::new(4).unwrap();
    let mut data = vec![0u64; 16];
    for round in 0..20_000 {
        let cells: Vec<AtomicUsize> = (0..16).map(|_| AtomicUsize::new(0)).collect();
        pool.run(16, &|part| {
            cells[part].store(part + round, Ordering::Relaxed)
        });
        for (part, (cell, sum)) in cells.into_iter().zip(&mut data).enumerate() {
            assert_eq!(cell.into_inner(), part + round);
            *sum += 1;
        }
    }
    assert!(data.iter().all(|&sum| sum == 20_000));
}

#[test]
fn parked_threads_wake_up() {
    let pool = Pool::new(3).unwrap();
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(1));
        check(&pool, 30);
    }
}

#[test]
fn all_threads_take_part_in_long_jobs() {
    let pool = Pool::new(3).unwrap();
    // Every part waits for the others: it ends only if three threads run at the same time.
    let arrived = AtomicUsize::new(0);
    pool.run(3, &|_| {
        arrived.fetch_add(1, Ordering::SeqCst);
        while arrived.load(Ordering::SeqCst) < 3 {
            std::thread::yield_now();
        }
    });
}

#[test]
fn oversubscription_and_uneven_parts() {
    let pool = Pool::new(32).unwrap();
    for round in 0..200 {
        let sum = AtomicUsize::new(0);
        pool.run(64, &|part| {
            if (part + round) % 17 == 0 {
                std::thread::sleep(Duration::from_micros(200));
            }
            sum.fetch_add(part, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 63 * 64 / 2);
    }
}

#[test]
fn panics_reach_the_caller_and_the_pool_survives() {
    for threads in [1, 2, 5] {
        let pool = Pool::new(threads).unwrap();
        for round in 0..200 {
            let alive = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(40, &|part| {
                    alive.fetch_add(1, Ordering::SeqCst);
                    let panics = part == round % 40 || part == (round + 3) % 40;
                    if panics {
                        alive.fetch_sub(1, Ordering::SeqCst);
                        std::panic::resume_unwind(Box::new(part));
                    }
                    alive.fetch_sub(1, Ordering::SeqCst);
                });
            }));
            let payload = result.unwrap_err();
            let part = *payload.downcast_ref::<usize>().unwrap();
            assert!(part == round % 40 || part == (round + 3) % 40);
            // Nobody is inside of the job any more.
            assert_eq!(alive.into_inner(), 0);
            check(&pool, 10);
        }
    }
}

#[test]
fn several_callers_share_a_pool() {
    let pool = Pool::new(3).unwrap();
    std::thread::scope(|scope| {
        for caller in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..2_000 {
                    if caller == 0 && round % 50 == 0 {
                        let job = |_: usize| std::panic::resume_unwind(Box::new("on purpose"));
                        assert!(catch_unwind(AssertUnwindSafe(|| pool.run(4, &job))).is_err());
                    }
                    check(pool, 1 + round % 9);
                }
            });
        }
    });
}

#[test]
fn jobs_within_jobs_run_alone() {
    let (outer, other) = (Pool::new(3).unwrap(), Pool::new(2).unwrap());
    let count = AtomicUsize::new(0);
    outer.run(8, &|_| {
        let add = |_: usize| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        outer.run(5, &add);
        other.run(7, &add);
    });
    assert_eq!(count.into_inner(), 8 * 12);
    // And the threads are not left in that mode.
    check(&outer, 100);
}

#[test]
fn pools_come_and_go() {
    for round in 0..200 {
        let pool = Pool::new(1 + round % 6).unwrap();
        if round % 2 == 0 {
            check(&pool, round);
        }
    }
    let error = Pool::new(MAX_THREADS + 1).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

/// What the system lets the thread that asks run on.
#[cfg(target_os = "linux")]
fn cpus_of_this_thread() -> onebit_runtime::CpuList {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let list = status
        .lines()
        .find_map(|l| l.strip_prefix("Cpus_allowed_list:"));
    onebit_runtime::CpuList::parse(list.unwrap()).unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn each_pinned_thread_has_a_cpu_of_its_own() {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    let allowed = onebit_runtime::allowed_cpus().unwrap();
    let seen = std::thread::spawn(move || {
        let by_default = onebit_runtime::default_threads();
        let pool = Pool::pinned(&allowed).unwrap();
        let (threads, arrived) = (pool.threads(), AtomicUsize::new(0));
        let seen = Mutex::new(BTreeSet::new());
        // Each part waits for the others, so each thread has one.
        pool.run(threads, &|_| {
            arrived.fetch_add(1, Ordering::SeqCst);
            while arrived.load(Ordering::SeqCst) < threads {
                std::thread::yield_now();
            }
            let cpus = cpus_of_this_thread();
            assert_eq!(cpus.cpus().len(), 1);
            seen.lock().unwrap().insert(cpus.cpus()[0]);
        });
        assert_eq!(cpus_of_this_thread(), allowed.first(1));
        assert_eq!(onebit_runtime::default_threads(), by_default);
        drop(pool);
        assert_eq!(cpus_of_this_thread(), allowed);
        assert_eq!(onebit_runtime::default_threads(), by_default);
        (seen.into_inner().unwrap(), allowed)
    });
    let (seen, allowed) = seen.join().unwrap();
    assert_eq!(seen, allowed.cpus().iter().copied().collect());
}

#[cfg(target_os = "linux")]
#[test]
fn cpus_that_are_not_there_are_named() {
    let absent = onebit_runtime::CpuList::parse("0,8190").unwrap();
    let error = std::thread::spawn(move || Pool::pinned(&absent).map(|_| ()));
    let error = error.join().unwrap().unwrap_err().to_string();
    assert!(error.contains("CPU 8190"), "{error}");
}

/// Threads without work sleep: in their looking for it they would use up a good part of each second.
#[cfg(target_os = "linux")]
#[test]
fn idle_threads_use_no_cpu() {
    fn ticks() -> u64 {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let stat = |task: std::io::Result<std::fs::DirEntry>| {
            let folder = task.unwrap().path();
            let name = std::fs::read_to_string(folder.join("comm")).ok()?;
            let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
            let (_, fields) = stat.rsplit_once(')')?;
            let mut times = fields.split_ascii_whitespace().skip(11).take(2);
            let sum = times.try_fold(0, |sum, t| Some(sum + t.parse::<u64>().ok()?))?;
            // The last workers of a pool that no other test here is as large as.
            let number = name.trim().strip_prefix("onebit-")?.parse::<usize>().ok()?;
            (number >= 40).then_some(sum)
        };
        tasks.filter_map(stat).sum()
    }
    let pool = Pool::new(48).unwrap();
    check(&pool, 96);
    std::thread::sleep(Duration::from_millis(200));
    let before = ticks();
    std::thread::sleep(Duration::from_millis(500));
    // A tick is a hundredth of a second; eight threads that look all the time would have used a hundred or so together.
    assert!(ticks() - before <= 5, "{} ticks", ticks() - before);
    check(&pool, 96);
}
