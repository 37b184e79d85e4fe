//! Servers that go away in the middle and come back.

use refold_e2e::Mode;
use refold_e2e::Process;
use refold_e2e::Stream;
use refold_e2e::Topic;
use refold_e2e::World;
use refold_local::KafkaCluster;
use refold_local::PostgresOptions;
use refold_local::PostgresServer;
use refold_local::testing;
use refold_local::testing::ScratchDir;
use refold_local::testing::wait_until;

use super::BOUND;

const STREAM: Stream = Stream {
    events: 40_000,
    aggregates: 4_000,
    partitions: 4,
    seed: 7,
    format: "proto",
};

/// Events per second of the tail.
const RATE: u64 = 1_000;

fn log_end(world: &World) -> i64 {
    let topic = Topic::on(world.brokers(), world.topic());
    (0..STREAM.partitions as i32).map(|p| topic.end(p)).sum()
}

/// What a process has applied, as it says itself: the database may be away.
fn applied(process: &Process) -> Option<i64> {
    let metrics = process.metrics()?;
    let offsets = metrics.samples("refold_partition_applied_offset", &[]);
    Some(offsets.map(|(_, offset)| offset as i64).sum())
}

fn goes_on(process: &Process, beyond: i64, what: &str) -> i64 {
    let mut last = 0;
    let passed = wait_until(BOUND, || {
        last = applied(process).unwrap_or(last);
        last > beyond
    });
    assert!(
        passed,
        "{what}: {last} of {beyond}\n{}",
        process.stderr().text()
    );
    last
}

/// Ends the tail and both projectors once they have all of the log.
fn finish(world: &World, mut tail: Process, projectors: [Process; 2]) {
    tail.drain(BOUND);
    let end = log_end(world);
    assert!(end > STREAM.events as i64, "the tail wrote nothing");
    for mut projector in projectors {
        goes_on(&projector, end - 1, "the end of the log");
        projector.drain(BOUND);
    }
    let world = world.reopened();
    for version in ["accounts_v3", "accounts_v4"] {
        world.assert_equals_oracle(version);
    }
}

fn start(world: &World) -> (Process, [Process; 2]) {
    let tail = world.tail(RATE, 10 * BOUND).start();
    let live = world.projector(Mode::Live, "accounts_v3").start();
    let replay = world.projector(Mode::Replay, "accounts_v4");
    let replay = replay.arg("--catch-up").start();
    for process in [&live, &replay] {
        goes_on(process, STREAM.events as i64, "behind history");
    }
    (tail, [live, replay])
}

#[test]
fn projectors_survive_a_database_that_crashes_and_comes_back() {
    let scratch = ScratchDir::new("refold-outage").expect("a directory");
    let server = PostgresServer::start(scratch.path(), PostgresOptions::default());
    let mut server = server.expect("a server");
    let kafka = &testing::stack().kafka;
    let world = World::at(kafka, &server.dsn(), "database-away", STREAM);
    world.seed();
    let (tail, projectors) = start(&world);
    for round in 0..2 {
        server.crash().expect("a crash");
        // Without its database a projector still says how it is.
        let told = |p: &Process| p.get("/livez").is_ok_and(|answer| answer.0 == 200);
        assert!(projectors.iter().all(told), "round {round}");
        server.ensure().expect("the server comes back");
        let end = log_end(&world);
        for process in &projectors {
            goes_on(process, end, "after the database came back");
        }
    }
    finish(&world, tail, projectors);
}

#[test]
fn projectors_survive_a_broker_that_is_killed_and_comes_back() {
    let scratch = ScratchDir::new("refold-outage").expect("a directory");
    let mut cluster = KafkaCluster::start(scratch.path(), 1).expect("a cluster");
    let dsn = testing::fresh_database("broker_away").expect("a database");
    let world = World::at(&cluster.bootstrap(), &dsn, "broker-away", STREAM);
    world.seed();
    let live = world.projector(Mode::Live, "accounts_v3").start();
    goes_on(&live, STREAM.events as i64 - 1, "history");
    // In the middle of history, and slow enough to be still there afterwards.
    let replay = world.projector(Mode::Replay, "accounts_v4");
    let replay = replay.arg("--catch-up").flag("rate-limit", 4_000).start();
    let reads = || {
        let metrics = replay.metrics();
        metrics.is_some_and(|m| m.sum("refold_log_read_bytes_total", &[]) > 0.0)
    };
    world.wait("the replay reads", BOUND, reads);
    cluster.kill_node(0).expect("a kill");
    cluster.ensure().expect("the broker comes back");
    // Not through the outage: a broker that restarts forgets the sequence numbers of a
    // producer whose records carry old times, and would take a repeated batch twice.
    let tail = world.tail(RATE, 10 * BOUND).start();
    let end = STREAM.events as i64;
    for process in [&live, &replay] {
        goes_on(process, end, "after the broker came back");
    }
    finish(&world, tail, [live, replay]);
}
