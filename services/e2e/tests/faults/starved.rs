//! A projector that has too little of what it needs.

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

/// Lets a running process have so many descriptors.
fn allow_descriptors(process: &Process, count: u64) {
    let pid = i32::try_from(process.pid()).ok().and_then(Pid::from_raw);
    let limit = Rlimit {
        current: Some(count),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    prlimit(pid, Resource::Nofile, limit).expect("a limit below the highest one");
}

#[test]
fn a_projector_without_descriptors_or_memory_says_so_and_ends_right_once_it_has_some() {
    let world = World::seeded("starved", STREAM);
    // Not enough for the threads of a client of the log.
    let small = world.projector(Mode::Replay, VERSION);
    let (code, sentence) = small.limited("-S -v 400000").start().refuse(BOUND);
    println!("{sentence}");
    assert_eq!(code, 69, "{sentence}");
    assert!(sentence.contains("thread"), "{sentence}");
    assert_eq!(world.applied(VERSION), 0);

    // Enough for the process, not for its partitions.
    let few = world.projector(Mode::Replay, VERSION);
    let mut few = few.limited("-S -n 20").start();
    let told = few.wait_for_line("Too many open files", BOUND);
    println!("{told}");
    assert!(told.contains("held back"), "{told}");
    assert_eq!(few.try_exit(), None, "it waits");
    assert!(world.applied(VERSION) < STREAM.events as i64);
    allow_descriptors(&few, 64);
    few.succeed(BOUND);
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
