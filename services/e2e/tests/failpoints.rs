//! Processes that are killed at each named point of their work, one after the other.

use std::time::Duration;

use refold_e2e::Exit;
use refold_e2e::Failpoint;
use refold_e2e::Mode;
use refold_e2e::Stream;
use refold_e2e::World;
use refold_e2e::failpoints::APPLY_POINTS;
use refold_e2e::failpoints::BULK_POINTS;

const VERSION: &str = "accounts_v4";
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
