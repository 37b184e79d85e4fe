//! A disk that does not take what it was given.

use std::collections::BTreeMap;
use std::fs;

use refold_e2e::Metrics;
use refold_e2e::Mode;
use refold_e2e::Process;
use refold_e2e::Stream;
use refold_e2e::World;
use refold_local::PostgresOptions;
use refold_local::PostgresServer;
use refold_local::testing;
use refold_local::testing::ScratchDir;

use super::BOUND;
use super::shim::Faults;
use super::shim::Shim;

const VERSION: &str = "accounts_v3";

/// What the projector says that it has committed, by partition.
fn told(live: &Process) -> BTreeMap<i32, i64> {
    let mut metrics = None;
    let answers = testing::wait_until(BOUND, || {
        metrics = live.metrics();
        metrics.is_some()
    });
    assert!(answers, "the projector shows its marks");
    let metrics = metrics.expect("an answer");
    let samples = metrics.samples("refold_partition_applied_offset", &[]);
    let marks = samples.map(|(labels, offset)| {
        let partition = Metrics::label(labels, "partition").expect("a partition");
        (partition.parse().expect("its number"), offset as i64)
    });
    marks.collect()
}

/// A server whose syncs below a directory fail, and a projector that writes to it.
struct Scene {
    faults: Faults,
    server: PostgresServer,
    live: Process,
}

impl Scene {
    /// The server dies of a sync that failed, and comes back on a disk that is well. All that the
    /// projector was told to be in is in.
    fn strike(&mut self, world: &World, place: &str, says: &str) -> World {
        let begun = world.applied(VERSION);
        world.wait("batches go through", BOUND, || {
            world.applied(VERSION) > begun
        });
        let log = self.server.home().join("server.log");
        let log = || fs::read_to_string(&log).expect("the server's log");
        let before = (log().len(), self.faults.met("struck"));
        let trigger = format!("fsync-{place}");
        self.faults.arm(&trigger);
        if place == "base" {
            let asked = self.server.psql("checkpoint");
            asked.expect_err("a checkpoint that cannot be");
        }
        world.wait("the server dies of it", BOUND, || {
            let log = log().split_off(before.0);
            let panics = |line: &str| line.contains("PANIC") && line.contains(says);
            log.lines()
                .any(|line| panics(line) && line.contains("Input/output error"))
        });
        assert!(self.faults.met("struck") > before.1);

        // Nothing can be committed now, so this is what was said before.
        let told = told(&self.live);
        assert_eq!(self.live.try_exit(), None, "the projector waits");
        self.live.stop();
        self.server.crash().expect("its end, if it tries again");
        self.faults.lift(&trigger);
        self.server.ensure().expect("the server comes back");
        let after = world.reopened();
        let found: BTreeMap<_, _> = after
            .marks(VERSION)
            .iter()
            .map(|mark| (mark.partition, mark.next))
            .collect();
        println!("{place}: the projector was told {told:?}, the server has {found:?}");
        assert_eq!(told.len(), found.len());
        for (partition, told) in &told {
            assert!(
                found[partition] >= *told,
                "{place}: p{partition} was told {told}, the server has {found:?}"
            );
        }
        // Rows and marks belong together while nobody writes.
        after.assert_equals_oracle(VERSION);
        self.live.resume();
        after
    }
}

#[test]
fn a_server_whose_fsync_fails_dies_of_it_and_has_every_batch_that_it_said_it_has() {
    let scratch = ScratchDir::new("refold-fsync").expect("a directory");
    let faults = Shim::build(&scratch).faults("server");
    let options = PostgresOptions {
        env: faults.env().into(),
        ..PostgresOptions::default()
    };
    let server = PostgresServer::start(scratch.path(), options).expect("a server");
    let stream = Stream {
        events: 20_000,
        aggregates: 4_000,
        partitions: 2,
        ..Stream::default()
    };
    let world = World::at(&testing::stack().kafka, &server.dsn(), "fsync", stream);
    world.seed();
    let live = world.start(Mode::Live, VERSION, "active");
    let mut tail = world.tail(4_000, 10 * BOUND).start();
    let mut scene = Scene {
        faults,
        server,
        live,
    };

    let world = scene.strike(&world, "pg_wal", "could not fdatasync file");
    let world = scene.strike(&world, "base", "could not fsync file");

    let begun = world.applied(VERSION);
    world.wait("batches go through again", BOUND, || {
        world.applied(VERSION) > begun
    });
    tail.drain(BOUND);
    world.wait("all of the log is in", BOUND, || {
        let metrics = scene.live.metrics();
        let lag = metrics.map(|m| m.sum("refold_partition_lag_events", &[]));
        lag == Some(0.0)
    });
    scene.live.drain(BOUND);
    world.assert_equals_oracle(VERSION);
}
