//! One owner a partition: who comes second takes over, who came first says so and stops.

use std::time::Duration;

use refold_domain::observe::Phase;
use refold_domain::position::Partition;
use refold_ports::memory::store::CommitFault;
use refold_system::Failure;
use refold_system::ProjectorOptions;

use crate::strikes::*;
use crate::world::*;

/// Looks at the registry so rarely that only the fence can tell.
fn without_lookout() -> ProjectorOptions {
    ProjectorOptions {
        lookout_every: Duration::from_secs(3_600),
        ..live()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_process_takes_over_and_the_first_meets_the_fence() {
    let world = World::with_events(200);
    let mut first = world.start_caught_up(without_lookout()).await;
    let second = world.start_caught_up(without_lookout()).await;
    world.append(200);
    let ended = first.ended().await;
    let Err(Failure::Fenced { reason, .. }) = ended else {
        panic!("{ended:?}");
    };
    assert!(reason.contains("epoch"), "{reason}");
    assert!(!reason.contains("fenced off"), "said once: {reason}");
    assert!(first.all().iter().all(|o| o.phase == Phase::Fenced));
    world.append(100);
    world.caught_up(V1).await;
    assert!(second.handle.status().borrow().ended.is_none());
    assert!(second.all().iter().all(|o| o.restarts == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_an_idle_topic_the_first_process_learns_it_from_the_registry() {
    let world = World::with_events(100);
    let mut first = world.start_caught_up(live()).await;
    let second = world.start_caught_up(live()).await;
    assert!(matches!(first.ended().await, Err(Failure::Fenced { .. })));
    assert!(second.handle.status().borrow().ended.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_lost_its_connection_to_its_successor_does_not_take_back() {
    let world = World::with_events(100);
    let mut first = world.start_caught_up(without_lookout()).await;
    let second = world.start_caught_up(without_lookout()).await;
    // Both lose their connection; the second is the owner and resumes.
    world.store.set_reachable(false);
    world.append(100);
    until("both wait for the store", || {
        let all = first.all().into_iter().chain(second.all());
        all.into_iter().all(|o| o.reason.is_some())
    })
    .await;
    world.store.set_reachable(true);
    assert!(matches!(first.ended().await, Err(Failure::Fenced { .. })));
    world.append(100);
    world.caught_up(V1).await;
    assert!(second.handle.status().borrow().ended.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_comes_just_behind_its_successor_does_not_take_back() {
    let world = World::with_events(100);
    let partition = Partition(1);
    let gate = Door::behind("takeover::before:1", 1);
    let mut first = world.start_probed(without_lookout(), gate.clone()).await;
    // Behind the last commit of the history: the next one is that of the event below.
    for partition in (0..PARTITIONS).map(Partition) {
        first.in_phase(partition, Phase::Live).await;
    }
    // It loses its connection, finds nobody else in the registry, and is about to take over.
    world.store.fail_commit(1, CommitFault::LostBefore);
    let its_own = (1..).find(|id| World::home(*id) == partition);
    world.add(its_own.expect("an aggregate"), 7);
    gate.someone_waits().await;
    let second = world.start_caught_up(without_lookout()).await;
    gate.open();
    first.in_phase(partition, Phase::Fenced).await;
    world.append(100);
    assert!(matches!(first.ended().await, Err(Failure::Fenced { .. })));
    world.caught_up(V1).await;
    assert!(second.handle.status().borrow().ended.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_was_stopped_inside_its_load_is_fenced_when_it_goes_on() {
    let world = World::with_events(200);
    let gate = Door::at("commit::before:1");
    let mut first = world.start_probed(without_lookout(), gate.clone()).await;
    gate.someone_waits().await;
    let _second = world.start_caught_up(without_lookout()).await;
    gate.open();
    let fenced = Partition(1);
    first.in_phase(fenced, Phase::Fenced).await;
    world.append(100);
    assert!(matches!(first.ended().await, Err(Failure::Fenced { .. })));
    world.caught_up(V1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_can_be_split_between_processes_and_both_together_make_it_ready() {
    use refold_system::PartitionSelection;
    let world = World::with_events(200);
    let pinned = |numbers: &[i32]| ProjectorOptions {
        partitions: PartitionSelection::Only(numbers.iter().map(|n| Partition(*n)).collect()),
        ..live()
    };
    let first = world.start(pinned(&[0, 2])).await;
    let mut status = first.handle.status();
    let reached = status.wait_for(|s| s.all_reached_end).await;
    assert!(!reached.expect("the process lives").ready);
    let second = world.start(pinned(&[1])).await;
    first.ready().await;
    second.ready().await;
    world.append(100);
    world.caught_up(V1).await;
}
