//! A clock that is wrong by an hour, now ahead and now behind.

use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use refold_e2e::Api;
use refold_e2e::Launch;
use refold_e2e::Mark;
use refold_e2e::Mode;
use refold_e2e::Process;
use refold_e2e::Stream;
use refold_e2e::Topic;
use refold_e2e::World;
use refold_local::testing::ScratchDir;
use serde_json::Value;

use super::BOUND;
use super::shim::Faults;
use super::shim::Shim;

const STREAM: Stream = Stream {
    events: 40_000,
    aggregates: 4_000,
    partitions: 4,
    seed: 23,
    format: "proto",
};
const SERVES: &str = "accounts_v3";
const NEXT: &str = "accounts_v4";
/// Jumps that each process has to see, a second's worth and more at each of the two steps.
const JUMPS: u64 = 12;

/// Whose turn it is, by partition.
fn epochs(world: &World) -> [Vec<i64>; 2] {
    let epoch = |mark: Mark| mark.epoch;
    [SERVES, NEXT].map(|version| world.marks(version).into_iter().map(epoch).collect())
}

/// Partitions that a process works on.
fn seats(process: &Process) -> usize {
    let metrics = process.metrics();
    metrics.map_or(0, |m| {
        m.samples("refold_partition_applied_offset", &[]).count()
    })
}

/// Seconds between this process's time and that of another one's last commit.
fn wrong_by(process: &Process) -> f64 {
    let metrics = process.metrics().expect("its metrics");
    let samples = metrics.samples("refold_partition_last_commit_timestamp_seconds", &[]);
    let last = samples.map(|(_, at)| at).fold(0.0, f64::max);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a time").as_secs_f64() - last
}

/// Processes whose clocks jump, each with the faults that count its jumps.
struct Jumping<'a> {
    world: &'a World,
    shim: Shim,
}

impl Jumping<'_> {
    fn faults(&self, name: &str) -> Faults {
        let faults = self.shim.faults(name);
        faults.arm("clock");
        faults
    }

    /// One of the two members of the group that builds the next version.
    fn member(&self, name: &str) -> (Process, Faults) {
        let faults = self.faults(name);
        let launch = self.world.projector(Mode::Replay, NEXT).arg("--catch-up");
        let launch = launch.flag("group", self.world.topic());
        (faults.over(launch).start(), faults)
    }

    /// Waits until each of these processes has seen some jumps more. An api looks at the clock
    /// when it is asked.
    fn pass(&self, api: &Api, all: &[&Faults]) {
        let begun: Vec<_> = all.iter().map(|faults| faults.met("clock")).collect();
        self.world.wait("the clocks jump", BOUND, || {
            assert_eq!(api.get("/projections").status, 200);
            let mut met = all.iter().map(|faults| faults.met("clock")).zip(&begun);
            met.all(|(met, begun)| met >= begun + JUMPS)
        });
    }

    /// The next version has no difference to the one that serves.
    fn verify(&self) {
        let of_verify = self.faults("verify");
        let verify = Launch::new(["verify", "--json"])
            .flag("version", NEXT)
            .flag("against", SERVES)
            .args(self.world.store_flags())
            .args(self.world.log_flags())
            .args(self.world.stream_flags());
        let mut verify = of_verify.over(verify).start();
        verify.succeed(BOUND);
        let told = verify.stdout().text();
        let report: Value =
            serde_json::from_str(told.lines().last().unwrap_or_default()).expect(&told);
        assert_eq!(report["differences"], 0, "{report}");
        assert!(of_verify.met("clock") > 0);
    }
}

#[test]
fn clocks_that_jump_by_hours_move_no_partition_and_hold_no_promotion_up() {
    let scratch = ScratchDir::new("refold-clock").expect("a directory");
    let world = World::seeded("clock", STREAM);
    let jumping = Jumping {
        world: &world,
        shim: Shim::build(&scratch),
    };
    let of_live = jumping.faults("live");
    let launch = world.projector(Mode::Live, SERVES);
    let mut live = of_live.over(launch).start();
    world.wait("v3 serves", BOUND, || {
        world.state(SERVES).as_deref() == Some("active")
    });
    let (mut one, of_one) = jumping.member("one");
    let (mut other, of_other) = jumping.member("other");
    let of_api = jumping.faults("api");
    let mut api = Api::of(
        of_api
            .over(world.api_launch().flag("max-scan-age", "none"))
            .start(),
    );
    let mut tail = world.tail(1_000, 10 * BOUND).start();
    world.wait("two members have built v4", BOUND, || {
        let seats = [&one, &other].map(seats);
        let all = STREAM.partitions as usize;
        seats.iter().all(|seats| *seats > 0 && *seats < all)
            && seats.iter().sum::<usize>() == all
            && world.writers(NEXT).len() == all
            && world.state(NEXT).as_deref() == Some("ready")
    });

    let (owned, begun) = (epochs(&world), world.applied(NEXT));
    let jump = [&of_live, &of_one, &of_other, &of_api];
    jumping.pass(&api, &jump);
    jumping.verify();
    let reply = api.cutover(NEXT);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(world.state(NEXT).as_deref(), Some("active"));
    jumping.pass(&api, &jump);
    let topic = Topic::on(world.brokers(), world.topic());
    let offset = topic.end(0) - 1;
    let read = format!(
        "/aggregate/{}?min_offset=0:{offset}&wait=20s",
        topic.key_at(0, offset)
    );
    let reply = api.get(&read);
    assert_eq!(reply.status, 200, "{reply:?}");

    tail.drain(BOUND);
    let end: i64 = (0..STREAM.partitions as i32).map(|p| topic.end(p)).sum();
    world.wait("all of the log is in", BOUND, || {
        [SERVES, NEXT].iter().all(|v| world.applied(v) == end)
    });
    assert!(end > begun);

    // Back, and so it stays, while all wait for events: a wait up to a time of this clock lasts
    // for hours.
    jump.iter().for_each(|faults| faults.arm("clock-behind"));
    let reply = api.cutover(SERVES);
    assert_eq!(reply.status, 200, "{reply:?}");
    println!("epochs {owned:?}, jumps {:?}", jump.map(|f| f.met("clock")));
    // Nobody took anything over, and nobody began again.
    assert_eq!(epochs(&world), owned);
    for process in [&mut live, &mut one, &mut other] {
        let restarts = process
            .metrics()
            .map(|m| m.sum("refold_actor_restarts_total", &[]));
        assert_eq!(restarts, Some(0.0), "{}", process.stderr().text());
        let wrong_by = wrong_by(process);
        assert!(wrong_by.abs() > 3_000.0, "{wrong_by} s: the clock is right");
        process.drain(BOUND);
    }
    api.process().drain(BOUND);
    for version in [SERVES, NEXT] {
        world.assert_equals_oracle(version);
    }
}
