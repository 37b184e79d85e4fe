//! Bad input: each gets one clear sentence and the right exit code, nothing is lost and
//! nothing is skipped.

#[path = "bad_input/changed_code.rs"]
mod changed_code;
#[path = "bad_input/command_line.rs"]
mod command_line;
#[path = "bad_input/failover.rs"]
mod failover;
#[path = "bad_input/full_disk.rs"]
mod full_disk;
#[path = "bad_input/garbage.rs"]
mod garbage;
#[path = "bad_input/markers.rs"]
mod markers;
#[path = "bad_input/other_log.rs"]
mod other_log;
#[path = "bad_input/outage.rs"]
mod outage;
#[path = "bad_input/parking.rs"]
mod parking;
#[path = "bad_input/throttle.rs"]
mod throttle;
#[path = "bad_input/twice_or_never.rs"]
mod twice_or_never;
#[path = "bad_input/unclean.rs"]
mod unclean;

use std::time::Duration;

use refold_e2e::Launch;
use refold_e2e::Stream;

/// Bound of whatever a busy machine may take its time for.
const BOUND: Duration = Duration::from_secs(90);

/// A log that takes no time.
const SMALL: Stream = Stream {
    events: 8_000,
    aggregates: 800,
    partitions: 4,
    seed: 42,
    format: "proto",
};

/// Runs to the refusal: the exit code, and the one sentence, which nothing follows.
#[track_caller]
fn refused(launch: &Launch) -> (i32, String) {
    let mut process = launch.start();
    let (code, sentence) = process.refuse(BOUND);
    assert_eq!(process.stdout().text(), "", "data where there is none");
    assert!(!sentence.contains("panicked"), "{sentence}");
    (code, sentence)
}
