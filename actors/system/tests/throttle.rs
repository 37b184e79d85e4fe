//! A rebuild stands still while the database is under pressure, and live does not.

use std::time::Duration;

use refold_domain::observe::Stage;
use refold_domain::position::Partition;
use refold_domain::throttle::Held;
use refold_domain::throttle::Limits;
use refold_domain::throttle::Reading;
use refold_domain::throttle::Readings;
use refold_domain::throttle::Reason;
use refold_ports::Registry;
use refold_ports::registry::MarkRow;
use refold_system::Outcome;
use refold_system::Plugs;
use refold_system::ProjectorOptions;

use crate::world::*;

const LIMIT: u64 = 100;

fn limited(options: ProjectorOptions) -> ProjectorOptions {
    ProjectorOptions {
        limits: Limits::default().with(Reason::SlotWal, Some(LIMIT)),
        look_every: Duration::from_millis(2),
        // None waits for the others behind the gate of bulk loads.
        workers: PARTITIONS as usize,
        ..options
    }
}

fn slot(bytes: u64) -> Readings {
    Readings::default().with(Reason::SlotWal, Reading::Bytes(bytes))
}

fn held_for_slot() -> Held {
    Held::default().with(Reason::SlotWal, true)
}

fn plugs(world: &World) -> Plugs {
    let pressure = std::sync::Arc::new(world.store.clone());
    world.plugs(v1()).with_pressure(pressure)
}

async fn start(world: &World, options: ProjectorOptions) -> Process {
    Process::start(plugs(world), limited(options)).await
}

/// Waits until the throttle has looked this often again, and took account of it.
async fn looks(world: &World, more: u64) {
    // The last one may be about to be taken into account.
    let enough = world.store.looks() + more + 1;
    until("the throttle looks", || world.store.looks() >= enough).await;
}

/// Waits until nothing is on its way any more, and returns the marks.
async fn standing(world: &World, process: &Process) -> Vec<MarkRow> {
    let all_say = || {
        let all = process.all();
        let says = |reason: &Option<String>| reason.as_deref() == Some("throttled: slot-wal");
        all.iter()
            .all(|o| o.held == held_for_slot() && says(&o.reason))
    };
    until("every projector says why it stands", all_say).await;
    world.store.marks(V1).await.expect("marks")
}

async fn assert_stands(world: &World, process: &Process) {
    let before = standing(world, process).await;
    let commits = world.store.commits();
    looks(world, 50).await;
    assert_eq!(world.store.marks(V1).await, Ok(before));
    assert_eq!(world.store.commits(), commits);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_over_a_limit_applies_nothing_in_bulk_or_in_batches_until_half_of_it() {
    let world = World::with_events(500);
    world.store.set_pressure(slot(LIMIT + 1));
    let process = start(&world, replay_and_catch_up()).await;
    // Not even what is folded first: the first look comes before the first load.
    assert_stands(&world, &process).await;
    assert_eq!(world.store.commits(), 0);
    // Below the limit is not enough.
    world.store.set_pressure(slot(LIMIT / 2 + 1));
    assert_stands(&world, &process).await;
    assert_eq!(world.store.commits(), 0);
    world.store.set_pressure(slot(LIMIT / 2));
    process.ready().await;
    world.caught_up(V1).await;

    world.store.set_pressure(slot(LIMIT + 1));
    let before = standing(&world, &process).await;
    world.append(300);
    looks(&world, 50).await;
    assert_eq!(world.store.marks(V1).await, Ok(before), "no batch either");
    // Whoever goes away holds nothing any more.
    world.store.set_pressure(Readings::default());
    world.caught_up(V1).await;
    for seen in process.all() {
        assert!(seen.busy.get(Stage::Throttled) > Duration::ZERO);
        assert_eq!((seen.restarts, seen.held), (0, Held::default()));
    }
    until("the reasons are gone", || {
        process.all().iter().all(|o| o.reason.is_none())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_is_held_keeps_its_partitions_and_drains_at_once() {
    let world = World::with_events(200);
    world.store.set_pressure(slot(LIMIT + 1));
    let mut process = start(&world, replay()).await;
    let marks = standing(&world, &process).await;
    assert!(marks.iter().all(|mark| mark.epoch == 1), "{marks:?}");
    assert_eq!(process.handle.drain().await, Ok(Outcome::Drained));
    assert_eq!(world.store.commits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_live_nor_a_rebuild_that_serves_by_now_is_held() {
    let world = World::with_events(200);
    world.store.set_pressure(slot(LIMIT + 1));
    let mut live = start(&world, live()).await;
    live.ready().await;
    world.append(100);
    world.caught_up(V1).await;
    assert_eq!(world.store.looks(), 0, "nobody looks for it");
    live.handle.drain().await.expect("drained");

    // It serves; whoever keeps it at the tail does, also one that was started as a rebuild.
    let process = start(&world, replay_and_catch_up()).await;
    world.append(100);
    world.caught_up(V1).await;
    assert!(process.all().iter().all(|o| o.held == Held::default()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_without_an_answer_changes_nothing() {
    let world = World::with_events(200);
    world.store.set_pressure(slot(LIMIT + 1));
    let process = start(&world, replay_and_catch_up()).await;
    standing(&world, &process).await;
    world.store.set_reachable(false);
    world.store.set_pressure(Readings::default());
    looks(&world, 5).await;
    let held = process.all();
    assert!(held.iter().all(|o| o.held == held_for_slot()));
    world.store.set_reachable(true);
    world.caught_up(V1).await;
    for partition in (0..PARTITIONS).map(Partition) {
        assert_eq!(process.seen(partition).restarts, 0);
    }
}
