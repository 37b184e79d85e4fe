//! A projector that has too little of what it needs.

use std::fs;
use std::thread;
use std::time::Duration;

use refold_e2e::Mode;
use refold_e2e::Process;
use refold_e2e::Stream;
use refold_e2e::World;
use rustix::process::Pid;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::getrlimit;
use rustix::process::prlimit;

use super::BOUND;

const VERSION: &str = "accounts_v4";
/// Each partition wants a connection to the database and one to the log.
const STREAM: Stream = Stream {
    events: 40_000,
    aggregates: 4_000,
    partitions: 24,
    seed: 42,
    format: "proto",
};

/// Lets a running process have so much of something; as much as it may have without a number.
fn allow(process: &Process, what: Resource, count: Option<u64>) {
    let pid = i32::try_from(process.pid()).ok().and_then(Pid::from_raw);
    let maximum = getrlimit(what).maximum;
    let limit = Rlimit {
        current: count.or(maximum),
        maximum,
    };
    prlimit(pid, what, limit).expect("a limit below the highest one");
}

/// The address space that a process has taken, in bytes, with what it has only reserved.
fn address_space(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid()));
    let status = status.expect("a process that runs");
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let size = size.and_then(|size| size.trim().strip_suffix(" kB"));
    1_024
        * size
            .and_then(|size| size.parse::<u64>().ok())
            .expect("its size")
}

/// Whether a process as a whole stands still behind a SIGSTOP.
fn stands(process: &Process) -> bool {
    let threads = fs::read_dir(format!("/proc/{}/task", process.pid()));
    let mut states = threads.into_iter().flatten().flatten().map(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The name, which stands in brackets, may have any character in it.
        stat.rsplit_once(") ")
            .map(|(_, rest)| rest.starts_with('T'))
    });
    states.all(|stands| stands == Some(true))
}

#[test]
fn a_projector_without_descriptors_says_so_and_ends_right_once_it_has_some() {
    let world = World::seeded("descriptors", STREAM);
    // Enough for the process, not for its partitions.
    let few = world.projector(Mode::Replay, VERSION);
    let mut few = few.limited("-S -n 20").start();
    let told = few.wait_for_line("Too many open files", BOUND);
    println!("{told}");
    assert!(told.contains("held back"), "{told}");
    assert_eq!(few.try_exit(), None, "it waits");
    assert!(world.applied(VERSION) < STREAM.events as i64);
    allow(&few, Resource::Nofile, Some(64));
    few.succeed(BOUND);
    world.assert_equals_oracle(VERSION);
}

#[test]
fn a_projector_without_memory_for_a_thread_says_so_and_ends_right_once_it_has_some() {
    let world = World::seeded("memory", STREAM);
    // In front of a take-over, and so of the thread that folds the partition.
    let full = world.projector(Mode::Replay, VERSION);
    let mut full = full
        .env("REFOLD_FAILPOINTS", "takeover::before:3=stop")
        .start();
    world.wait("it stands", BOUND, || stands(&full));
    // How much an allocator reserves differs from start to start. What it has by now is its
    // own, and what is left beside that is less than the stack of one thread.
    let taken = address_space(&full);
    allow(&full, Resource::As, Some(taken + (1 << 20)));
    full.resume();
    let told = full.wait_for_line("thread cannot be started", BOUND);
    println!("with {taken} bytes and a MiB: {told}");
    assert!(told.contains("restarts"), "{told}");
    assert_eq!(full.try_exit(), None, "it tries again");
    assert!(world.applied(VERSION) < STREAM.events as i64);
    allow(&full, Resource::As, None);
    full.succeed(BOUND);
    world.assert_equals_oracle(VERSION);
}

/// Lets a process run for a fifth of the time until `enough`.
fn throttle(process: &Process, mut enough: impl FnMut() -> bool) {
    let rounds = BOUND.as_millis() / 50;
    for round in 0..rounds {
        process.stop();
        // sleep: how long it stands still is what the test is about.
        thread::sleep(Duration::from_millis(40));
        process.resume();
        // sleep: and how long it runs.
        thread::sleep(Duration::from_millis(10));
        if enough() {
            println!("enough after {round} rounds");
            return;
        }
    }
    panic!("it does not move on with a fifth of a processor");
}

#[test]
fn a_projector_with_a_fifth_of_a_processor_is_slower_and_right() {
    let stream = Stream {
        partitions: 4,
        ..STREAM
    };
    let world = World::seeded("slow", stream);
    let events = stream.events as i64;
    let mut slow = world
        .projector(Mode::Replay, VERSION)
        .arg("--catch-up")
        .start();
    slow.wait_for_line("address=", BOUND);
    throttle(&slow, || world.state(VERSION).as_deref() == Some("ready"));
    let mut tail = world.tail(4_000, Duration::from_secs(2)).start();
    throttle(&slow, || world.applied(VERSION) > events + 4_000);
    tail.succeed(BOUND);
    world.wait("the rest is in", BOUND, || {
        let lag = slow
            .metrics()
            .map(|m| m.sum("refold_partition_lag_events", &[]));
        lag == Some(0.0)
    });
    let epochs: Vec<_> = world.marks(VERSION).iter().map(|m| m.epoch).collect();
    assert_eq!(epochs, [1; 4], "nothing was taken over");
    slow.drain(BOUND);
    world.assert_equals_oracle(VERSION);
}
