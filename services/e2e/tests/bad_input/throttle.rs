//! A standby that falls behind while a version is rebuilt, and reads that become slow: the rebuild
//! stands still or works less, and nobody else.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use refold_e2e::Api;
use refold_e2e::Mode;
use refold_e2e::Process;
use refold_e2e::Stream;
use refold_e2e::Topic;
use refold_e2e::World;
use refold_local::PostgresOptions;
use refold_local::PostgresServer;
use refold_local::testing;
use refold_local::testing::ScratchDir;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;

use super::BOUND;

const STREAM: Stream = Stream {
    events: 100_000,
    aggregates: 80_000,
    partitions: 8,
    seed: 23,
    format: "proto",
};
const SERVING: &str = "accounts_v3";
/// The same fold under another number: it writes what the serving one wrote.
const REBUILD: &str = "accounts_v103";
/// What the slot may hold back: about a sixth of what the rebuild writes.
const LIMIT: u64 = 1 << 20;
/// Events a second: several looks pass before the limit is reached.
const RATE: u64 = 10_000;
/// Events of a partition in front of its last chunk, at least: five chunks of 2,048. The rate is
/// kept between the chunks, and a partition is loaded behind its last one.
const WAITED_FOR: u64 = 5 * 2_048;
/// A look is taken half a second after the one before, which is given up after two.
const SECONDS_BETWEEN_LOOKS: u64 = 3;
/// Looks over which it has to stand still.
const LOOKS: usize = 3;

/// The standby's receiver, which stands still as long as this lives.
struct Stopped(Pid);

impl Stopped {
    fn receiver_of(standby: &PostgresServer) -> Self {
        let pid = standby.psql("select pid from pg_stat_wal_receiver");
        let pid = pid.expect("an answer").trim().parse().expect("a pid");
        let receiver = Pid::from_raw(pid).expect("a pid");
        kill_process(receiver, Signal::STOP).expect("it is ours");
        Self(receiver)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // A server that was ended meanwhile has taken it along.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Lets the standby keep its place by a slot of the primary.
fn follow_by_slot(primary: &PostgresServer, standby: &PostgresServer) {
    let slot = "select pg_create_physical_replication_slot('standby', true)";
    primary.psql(slot).expect("a slot");
    for sql in [
        "alter system set primary_slot_name = 'standby'",
        "select pg_reload_conf()",
    ] {
        standby.psql(sql).expect("the standby answers");
    }
    let active = || primary.psql("select active from pg_replication_slots");
    let follows = || active().is_ok_and(|active| active.trim() == "t");
    assert!(
        testing::wait_until(BOUND, follows),
        "it follows by its slot"
    );
}

/// A number that the server tells.
fn number(world: &World, sql: &str) -> u64 {
    world.cell(sql).parse().expect("a number")
}

fn written(world: &World) -> u64 {
    number(world, "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")
}

fn held_back(world: &World) -> u64 {
    let sql = "select pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) from pg_replication_slots";
    number(world, sql)
}

/// What the metrics say: whether it is throttled, and for what.
fn throttled(replay: &Process) -> Option<[f64; 4]> {
    let metrics = replay.metrics()?;
    let version = ("version", REBUILD);
    let reason = |word| metrics.value("refold_throttle_reason", &[version, ("reason", word)]);
    Some([
        metrics.value("refold_throttled", &[version])?,
        reason("replay-lag")?,
        reason("slot-wal")?,
        reason("wal")?,
    ])
}

const FOR_THE_SLOT: Option<[f64; 4]> = Some([1.0, 0.0, 1.0, 0.0]);

/// Throttled all the time over some looks, with nothing applied and no transaction open.
fn stands_still(world: &World, replay: &Process) {
    let marks = world.marks(REBUILD);
    let mut looks = BTreeSet::new();
    world.wait("the throttle looks", BOUND, || {
        assert_eq!(throttled(replay), FOR_THE_SLOT);
        assert_eq!(world.marks(REBUILD), marks);
        let open = "select count(*) from pg_stat_activity
            where state = 'idle in transaction' and application_name like 'refold%'";
        assert_eq!(world.cell(open), "0");
        // A look ends with this question.
        let last = "select max(query_start) from pg_stat_activity
            where application_name = 'refold throttle' and query like '%refold.read_latency%'";
        looks.insert(world.cell(last));
        looks.remove("null");
        looks.len() == LOOKS
    });
}

#[test]
fn a_rebuild_stands_still_while_a_standby_falls_behind_and_live_goes_on() {
    let scratch = ScratchDir::new("refold-throttle").expect("a directory");
    let servers = PostgresServer::with_standby(scratch.path(), PostgresOptions::default());
    let (primary, standby) = servers.expect("a server and its standby");
    let world = World::at(&testing::stack().kafka, &primary.dsn(), "throttle", STREAM);
    world.seed();
    let before = written(&world);
    let mut live = world.start(Mode::Live, SERVING, "active");
    let all_of_it = written(&world) - before;
    follow_by_slot(&primary, &standby);

    let stopped = Stopped::receiver_of(&standby);
    let mut replay = world
        .projector(Mode::Replay, REBUILD)
        .arg("--catch-up")
        .flag("rate-limit", RATE)
        .flag("workers", 1)
        .flag("max-slot-wal", LIMIT)
        .start();
    let is_throttled = || throttled(&replay) == FOR_THE_SLOT;
    world.wait("it is throttled", BOUND, is_throttled);
    let said = replay.wait_for_line("throttled: nothing is applied", BOUND);
    assert!(said.contains("-max-slot-wal"), "{said}");
    stands_still(&world, &replay);
    // Partitions that were folded since the look before, and the one that was being loaded.
    let held = held_back(&world);
    let begun = (RATE * SECONDS_BETWEEN_LOOKS).div_ceil(WAITED_FOR) + 1;
    let most = LIMIT + all_of_it * begun / u64::from(STREAM.partitions);
    println!("{all_of_it} bytes in all, limit {LIMIT}, {held} held back, at most {most}");
    assert!(most < all_of_it, "else it could not fail");
    assert!(held > LIMIT && held <= most, "{held}, at most {most}");

    // Live is not held, and what it writes holds the rebuild no less.
    world
        .tail(1_000, std::time::Duration::from_secs(1))
        .start()
        .succeed(BOUND);
    let topic = Topic::on(world.brokers(), world.topic());
    let end: i64 = (0..STREAM.partitions as i32).map(|p| topic.end(p)).sum();
    assert!(end > STREAM.events as i64);
    world.wait("live goes on", BOUND, || world.applied(SERVING) == end);
    assert!(world.applied(REBUILD) < STREAM.events as i64);
    stands_still(&world, &replay);

    drop(stopped);
    world.wait("the rebuild goes on", BOUND, || {
        world.state(REBUILD).as_deref() == Some("ready") && world.applied(REBUILD) == end
    });
    replay.wait_for_line("not throttled for this any more", BOUND);
    let owned_once = world.marks(REBUILD).iter().all(|mark| mark.epoch == 1);
    assert!(owned_once, "{:?}", world.marks(REBUILD));
    replay.drain(BOUND);
    live.drain(BOUND);
    for version in [SERVING, REBUILD] {
        world.assert_equals_oracle(version);
    }
}

/// Reads aggregates until told to stop; how many were answered.
fn read_until(stop: &AtomicBool, api: &Api) -> u64 {
    let mut answered = 0;
    while !stop.load(Ordering::Relaxed) {
        let id = 1 + answered % STREAM.aggregates;
        assert_eq!(api.get(&format!("/aggregate/{id}")).status, 200);
        answered += 1;
    }
    answered
}

#[test]
fn a_rebuild_that_makes_reads_slow_works_less_and_gets_to_its_end() {
    let world = World::seeded("slow_reads", STREAM);
    let mut live = world.start(Mode::Live, SERVING, "active");
    let api = world.api("accounts");
    let stop = AtomicBool::new(false);
    let answered = std::thread::scope(|threads| {
        let reading = threads.spawn(|| read_until(&stop, &api));
        // No read is that fast. The rate leaves time for some looks.
        let mut replay = world
            .projector(Mode::Replay, REBUILD)
            .arg("--catch-up")
            .flag("rate-limit", 2 * RATE)
            .flag("max-read-p99", "0.001ms")
            .start();
        let duty = || {
            let metrics = replay.metrics()?;
            metrics.value(
                "refold_rebuild_duty",
                &[("version", REBUILD), ("partition", "0")],
            )
        };
        world.wait("it is slowed as far as it may be", BOUND, || {
            duty() == Some(0.1)
        });
        let said = replay.wait_for_line("slowed: reads take too long", BOUND);
        assert!(said.contains("-max-read-p99"), "{said}");
        let ready = || world.state(REBUILD).as_deref() == Some("ready");
        world.wait("the rebuild gets to its end", BOUND, ready);
        stop.store(true, Ordering::Relaxed);
        replay.drain(BOUND);
        reading.join().expect("every read is answered")
    });
    println!("{answered} reads answered");
    assert!(answered > 0);
    live.drain(BOUND);
    world.assert_equals_oracle(REBUILD);
}
