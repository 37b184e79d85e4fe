//! Crashes at every address, and commits whose answer is lost.

use std::sync::Arc;

use refold_domain::position::Partition;
use refold_ports::memory::store::CommitFault;
use refold_system::Failure;
use refold_system::Outcome;
use refold_system::ProjectorOptions;
use refold_system::dice::Dice;

use crate::strikes::*;
use crate::world::*;

/// The partition that is struck: the largest one.
const P: Partition = Partition(1);

/// Addresses that a bulk load meets.
const BULK: [&str; 12] = [
    "takeover::before:1",
    "takeover::after:1",
    "fold::before:1",
    "fold::after:1",
    "write::before:1",
    "write::after:1",
    "copy::before:1",
    "copy::after:1",
    "index::before:1",
    "index::after:1",
    "commit::before:1",
    "commit::after:1",
];

/// Addresses that a batch meets.
const APPLY: [&str; 4] = [
    "fold::before:1",
    "fold::after:1",
    "write::before:1",
    "commit::after:1",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_projector_that_fails_at_any_point_of_a_load_is_restarted_and_loses_nothing() {
    for point in BULK {
        for blow in [Blow::Fail, Blow::Panic] {
            let world = World::with_events(200);
            let striker = Striker::new(point, blow, 2);
            let process = world.start_probed(live(), striker.clone()).await;
            process.ready().await;
            world.caught_up(V1).await;
            // Where the commit was in before the blow, a load is not met a second time.
            let struck = if point == "commit::after:1" {
                1..=2
            } else {
                2..=2
            };
            assert!(striker.is_spent() || *struck.start() == 1, "{point}");
            let restarts = process.seen(P).restarts;
            assert!(struck.contains(&restarts), "{point} {blow:?}: {restarts}");
            assert_eq!(process.seen(Partition(0)).restarts, 0, "{point}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projector_that_fails_at_any_point_of_a_batch_is_restarted_and_loses_nothing() {
    for point in APPLY {
        for blow in [Blow::Fail, Blow::Panic] {
            let world = World::with_events(100);
            let mut first = world.start_caught_up(live()).await;
            first.handle.drain().await.expect("drained");
            let striker = Striker::new(point, blow, 3);
            let process = world.start_probed(live(), striker.clone()).await;
            world.append(200);
            world.caught_up(V1).await;
            until("the blows fell", || striker.is_spent()).await;
            until("the restarts are counted", || process.seen(P).restarts == 3).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_at_any_point_is_continued_by_the_next_one() {
    let loads = BULK.map(|point| (point, 0));
    let batches = APPLY.map(|point| (point, 150));
    for (point, before) in loads.into_iter().chain(batches) {
        let world = World::with_events(before);
        if before > 0 {
            let mut first = world.start_caught_up(live()).await;
            first.handle.drain().await.expect("drained");
        }
        world.append(200);
        let striker = Striker::new(point, Blow::Hang, 1);
        let stopped = world.start_probed(live(), striker.clone()).await;
        until(point, || striker.is_spent()).await;
        stopped.handle.kill_and_wait().await;
        let _next = world.start_caught_up(live()).await;
        world.append(50);
        world.caught_up(V1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_without_an_answer_is_asked_about_and_never_applied_twice() {
    for fault in [CommitFault::LostBefore, CommitFault::LostAfter] {
        for nth in 1..=8 {
            let world = World::with_events(150);
            world.store.fail_commit(nth, fault);
            world.store.fail_commit(nth + 1, fault);
            let process = world.start(live()).await;
            world.append(150);
            process.ready().await;
            world.append(150);
            world.caught_up(V1).await;
            let all = process.all();
            assert!(all.iter().all(|o| o.restarts == 0), "no actor failed");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolled_back_commit_is_sent_again() {
    for fault in [CommitFault::Retry, CommitFault::DiskFull] {
        for nth in 1..=6 {
            let world = World::with_events(150);
            for n in 0..3 {
                world.store.fail_commit(nth + n, fault);
            }
            let process = world.start(live()).await;
            world.append(300);
            process.ready().await;
            world.caught_up(V1).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projector_that_fails_too_often_is_broken_and_the_others_go_on() {
    let world = World::with_events(200);
    let striker = Striker::new("takeover::before:1", Blow::Fail, u32::MAX);
    let mut process = world.start_probed(live(), striker).await;
    process
        .in_phase(P, refold_domain::observe::Phase::Broken)
        .await;
    let seen = process.seen(P);
    let intensity = live().restart.intensity as u64;
    assert_eq!(
        seen.restarts, intensity,
        "one failure more was not answered"
    );
    let reason = seen.reason.expect("a reason");
    assert!(reason.contains("struck at takeover::before:1"), "{reason}");
    world.append(100);
    for other in [Partition(0), Partition(2)] {
        until("the others go on", || {
            world.rows(V1, other) == world.expected(other)
        })
        .await;
    }
    assert!(process.handle.status().borrow().ended.is_none());
    let ended = process.handle.drain().await;
    assert!(matches!(
        ended,
        Err(Failure::Broken {
            partition: Some(P),
            ..
        })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_projectors_are_all_broken_ends() {
    let world = World::with_events(50);
    let pinned = ProjectorOptions {
        partitions: refold_system::PartitionSelection::Only([P].into()),
        ..live()
    };
    let striker = Striker::new("takeover::after:1", Blow::Panic, u32::MAX);
    let mut process = world.start_probed(pinned, striker).await;
    let ended = process.ended().await;
    let Err(failure @ Failure::Broken { .. }) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(failure.exit_code(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_under_load_leaves_a_log_position_to_go_on_from() {
    let world = World::with_events(500);
    for _ in 0..5 {
        let mut process = world.start(live()).await;
        world.append(100);
        assert_eq!(process.handle.drain().await, Ok(Outcome::Drained));
        let stopped = refold_domain::observe::Phase::Stopped;
        assert!(process.all().iter().all(|o| o.phase == stopped));
    }
    world.start_caught_up(live()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_no_longer_than_its_bound() {
    let world = World::with_events(100);
    let bounded = ProjectorOptions {
        drain_bound: std::time::Duration::from_millis(50),
        ..live()
    };
    let striker = Striker::new("commit::before:1", Blow::Hang, 1);
    let mut process = world.start_probed(bounded, striker.clone()).await;
    until("a projector hangs in its commit", || striker.is_spent()).await;
    let drained = tokio::time::timeout(PATIENCE, process.handle.drain());
    assert_eq!(drained.await, Ok(Ok(Outcome::Drained)));
    world.start_caught_up(live()).await;
}

/// Dice that end whoever throws them.
struct FatalDice;

impl Dice for FatalDice {
    fn draw(&self) -> f64 {
        panic!("on purpose")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_dies_ends_its_process_and_the_next_one_goes_on() {
    let world = World::with_events(150);
    // A projector fails, and the supervisor dies over when to start it again.
    let striker = Striker::new("commit::before:1", Blow::Fail, 1);
    let plugs = world.plugs(v1()).with_probe(Arc::new(striker.clone()));
    let mut process = Process::start(plugs.with_dice(Arc::new(FatalDice)), live()).await;
    let ended = process.ended().await;
    let Err(Failure::Broken { partition, reason }) = ended else {
        panic!("{ended:?}");
    };
    assert!(striker.is_spent());
    assert_eq!(partition, None, "no partition is to blame");
    assert!(reason.contains("supervisor"), "{reason}");
    world.append(60);
    let _next = world.start_caught_up(live()).await;
    world.assert_equal(V1);
}
