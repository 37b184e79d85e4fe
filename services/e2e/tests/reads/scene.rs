//! Two versions at the tail, and switches between them.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use refold_e2e::Api;
use refold_e2e::Mode;
use refold_e2e::Process;
use refold_e2e::Stream;
use refold_e2e::World;
use refold_e2e::http::Reply;
use serde_json::Value;

pub(crate) const STREAM: Stream = Stream {
    events: 40_000,
    aggregates: 4_000,
    partitions: 4,
    seed: 42,
    format: "proto",
};
pub(crate) const BOUND: Duration = Duration::from_secs(60);
/// No tail of these tests is needed for longer; it is stopped before.
pub(crate) const TAIL: Duration = Duration::from_secs(300);
/// A version and one that runs the same fold under another number.
pub(crate) const PAIR: [&str; 2] = ["accounts_v3", "accounts_v103"];

/// The first of two versions serves, the other one is ready.
pub(crate) fn two_versions(world: &World, pair: [&str; 2]) -> [Process; 2] {
    [
        world.start(Mode::Live, pair[0], "active"),
        world.start(Mode::Replay, pair[1], "ready"),
    ]
}

/// An api that asks for no scan before a switch.
pub(crate) fn api(world: &World, flags: &[&str]) -> Api {
    let launch = world.api_launch().flag("max-scan-age", "none");
    Api::of(launch.args(flags.iter().copied()).start())
}

/// Switches to and fro between two versions `times`, the second first.
pub(crate) fn switch(api: &Api, pair: [&str; 2], times: usize) {
    for turn in 0..times {
        let to = pair[(turn + 1) % 2];
        let reply = api.cutover(to);
        assert_eq!(reply.status, 200, "{reply:?}");
    }
}

/// The body of a read that was answered.
pub(crate) fn row(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

/// Ends whoever looks at the flag, also when the test fails in between.
pub(crate) struct Until<'a>(pub(crate) &'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
