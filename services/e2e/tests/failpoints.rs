//! Processes that are killed at each named point of their work, one after the other.

use std::thread;
use std::time::Duration;

use refold_e2e::Api;
use refold_e2e::Exit;
use refold_e2e::Failpoint;
use refold_e2e::Mode;
use refold_e2e::Stream;
use refold_e2e::Topic;
use refold_e2e::World;
use refold_e2e::failpoints::APPLY_POINTS;
use refold_e2e::failpoints::BULK_POINTS;

const VERSION: &str = "accounts_v4";
const SERVING: &str = "accounts_v3";
/// What a session gets that waited for a lock too long.
const LOCK_NOT_AVAILABLE: &str = "55P03";
const BOUND: Duration = Duration::from_secs(60);

fn world(name: &str) -> World {
    World::seeded(
        name,
        Stream {
            events: 60_000,
            aggregates: 6_000,
            partitions: 4,
            ..Stream::default()
        },
    )
}

/// Kills a replay at a point. Answers how far the partition's mark moved before.
fn kill_at(world: &World, failpoint: &Failpoint<'_>) -> i64 {
    let mark = || {
        let marks = world.marks(VERSION);
        let own = marks.iter().find(|m| m.partition == failpoint.partition);
        own.map_or(0, |mark| mark.next)
    };
    let before = mark();
    let mut victim = world.failing(Mode::Replay, VERSION, failpoint);
    let exit = victim.exit(BOUND);
    assert_eq!(exit, Exit::Signal(9), "{}", victim.stderr().text());
    assert_eq!(victim.stderr().with("failpoint fired").len(), 1);
    let moved = mark() - before;
    println!(
        "killed at {}: the mark moved by {moved} before",
        failpoint.point
    );
    moved
}

/// Points at which a commit may be in, or is.
const BEHIND_SENDING: [&str; 3] = ["send::after", "answer::after", "commit::after"];

#[test]
fn a_load_that_is_killed_at_each_of_its_points_is_done_by_the_last_process() {
    let world = world("points_bulk");
    let kill = |world: &World, point| {
        let failpoint = Failpoint {
            point,
            partition: 1,
            action: "kill",
            nth: 1,
        };
        kill_at(world, &failpoint)
    };
    let points = BULK_POINTS.into_iter();
    for point in points.filter(|point| !BEHIND_SENDING.contains(point)) {
        assert_eq!(kill(&world, point), 0, "{point}");
    }
    world.replay(VERSION);
    world.assert_equals_oracle(VERSION);
    for point in BEHIND_SENDING {
        let world = world.with_fresh_database("points_bulk");
        let moved = kill(&world, point);
        // All of a load is in, or nothing; of a commit on its way nobody knows.
        assert!(moved > 0 || point == "send::after", "{point}");
        world.replay(VERSION);
        world.assert_equals_oracle(VERSION);
    }
}

#[test]
fn batches_whose_process_is_killed_at_each_of_their_points_are_applied_once() {
    let world = world("points_apply");
    world.load_all_but(VERSION, 0.8);
    let marks = world.marks(VERSION);
    let largest = marks.iter().max_by_key(|mark| mark.next).expect("marks");
    for point in APPLY_POINTS {
        // The first two batches of each process are committed: what is killed makes progress.
        let batched = !point.starts_with("takeover");
        let moved = kill_at(
            &world,
            &Failpoint {
                point,
                partition: largest.partition,
                action: "kill",
                nth: if batched { 3 } else { 1 },
            },
        );
        assert_eq!(moved > 0, batched, "{point}");
    }
    world.replay(VERSION);
    world.assert_equals_oracle(VERSION);
}

/// The partition of [`VERSION`] that is the least behind, of those that are.
fn nearest_behind(world: &World) -> i32 {
    let serving = world.marks(SERVING);
    let distances = world.marks(VERSION).into_iter().zip(&serving);
    let behind = distances.filter(|(mark, serving)| mark.next < serving.next);
    let nearest = behind.min_by_key(|(mark, serving)| serving.next - mark.next);
    nearest.expect("a partition that is behind").0.partition
}

/// Acknowledgements of a partition of [`VERSION`] that are there for everybody.
fn acknowledgements(world: &World, partition: i32) -> String {
    let version = world.version_id(VERSION);
    world.cell(&format!(
        "select count(*) from refold.barrier_acks
         where version = {version} and partition = {partition}"
    ))
}

/// Whether a transaction that has not ended has acknowledged for a partition of [`VERSION`]: then
/// a second acknowledgement has to wait for the first one's end.
fn has_open_acknowledgement(world: &World, partition: i32) -> bool {
    let version = world.version_id(VERSION);
    let mut session = world.session();
    session.ask("begin").expect("a transaction");
    let patience = session.ask("set local lock_timeout = '500ms'");
    patience.expect("a setting");
    let again = session.ask(&format!(
        "insert into refold.barrier_acks (barrier, version, partition, sums, rows)
         select id, {version}, {partition}, '', 0 from refold.barriers where state = 'waiting'"
    ));
    again.is_err_and(|error| error.sqlstate == LOCK_NOT_AVAILABLE)
}

/// Stops the candidate's projector where it has acknowledged a barrier and not committed, kills
/// it there, and looks whether anybody believed it.
fn die_with_the_acknowledgement(world: &World, api: &Api) {
    let failpoint = Failpoint {
        point: "send::before",
        partition: nearest_behind(world),
        action: "stop",
        nth: 1,
    };
    let mut victim = world.failing(Mode::Live, VERSION, &failpoint);
    victim.wait_for_line("failpoint fired", BOUND);
    assert!(has_open_acknowledgement(world, failpoint.partition));
    assert_eq!(acknowledgements(world, failpoint.partition), "0");
    victim.kill();
    world.wait("its sessions are gone", BOUND, || {
        world.writers(VERSION).is_empty()
    });
    assert_eq!(acknowledgements(world, failpoint.partition), "0");
    assert!(!has_open_acknowledgement(world, failpoint.partition));
    let read = api.get("/aggregate/1");
    assert_eq!(read.header("projection-version"), Some(SERVING));
}

#[test]
fn an_acknowledgement_that_dies_with_its_commit_lets_no_promotion_through() {
    let world = world("points_ack");
    let mut v3 = world.start(Mode::Live, SERVING, "active");
    let mut v4 = world.start(Mode::Replay, VERSION, "ready");
    let scanned = world.verify(VERSION, SERVING);
    assert_eq!(scanned["differences"], 0, "{scanned}");
    v4.drain(BOUND);
    let tail = world.tail(20, Duration::from_millis(500));
    tail.start().succeed(BOUND);
    let topic = Topic::on(world.brokers(), world.topic());
    let end: i64 = (0..4).map(|partition| topic.end(partition)).sum();
    world.wait("the serving version has the tail", BOUND, || {
        world.applied(SERVING) == end
    });
    let api = world.api("accounts");
    let mut v4 = thread::scope(|scope| {
        let promotion = scope.spawn(|| api.cutover(VERSION));
        let waiting = "select count(*) from refold.barriers where state = 'waiting'";
        world.wait("a barrier is set", BOUND, || world.cell(waiting) == "1");
        die_with_the_acknowledgement(&world, &api);
        assert!(!promotion.is_finished(), "{:?}", promotion.join());
        // The next process acknowledges by a commit, and the same promotion goes through.
        let v4 = world.start(Mode::Live, VERSION, "active");
        let switched = promotion.join().expect("an answer");
        assert_eq!(switched.status, 200, "{switched:?}");
        assert_eq!(switched.json()["generation"], 2, "{switched:?}");
        v4
    });
    for process in [&mut v3, &mut v4] {
        process.drain(BOUND);
    }
    for version in [SERVING, VERSION] {
        world.assert_equals_oracle(version);
    }
}

#[test]
fn a_failpoint_that_does_not_exist_is_refused_before_anything_starts() {
    let refused = refold_e2e::Launch::new(["projector", "--mode=replay", "--version=accounts_v4"])
        .arg("--brokers=127.0.0.1:1")
        .arg("--postgres=postgresql://nobody@127.0.0.1:1/none")
        .env("REFOLD_FAILPOINTS", "commit::beside:0=kill")
        .start()
        .refuse(BOUND);
    assert_eq!(refused.0, 64, "{}", refused.1);
    assert!(refused.1.contains("takeover, fold, write"), "{}", refused.1);
}
