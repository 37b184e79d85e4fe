//! What a process refuses at its start, and how it is shut down.

use refold_domain::fold::erase;
use refold_domain::observe::Board;
use refold_ports::Registry;
use refold_ports::source::SourceError;
use refold_system::Failure;
use refold_system::Outcome;
use refold_system::PartitionSelection;
use refold_system::Plugs;
use refold_system::ProjectorOptions;
use refold_system::run_projector;
use tokio::sync::watch;

use crate::world::*;

async fn refusal(plugs: Plugs, options: ProjectorOptions) -> Failure {
    let started = Process::try_start(plugs, "ledger_v1".to_owned(), options).await;
    match started {
        Ok(_) => panic!("the process started"),
        Err(failure) => failure,
    }
}

async fn drained_world() -> World {
    let world = World::with_events(100);
    let mut process = world.start_caught_up(live()).await;
    process.handle.drain().await.expect("drained");
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_fold_under_an_old_number_is_refused() {
    let world = drained_world().await;
    let changed = world.plugs(erase(Ledger::<1, 99>));
    let failure = refusal(changed, live()).await;
    assert_eq!(failure.exit_code(), 3);
    assert!(failure.to_string().contains("other code"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_log_under_an_old_number_is_refused() {
    let changes: [fn(&World); 3] = [
        |w| w.log.move_to_cluster("another"),
        |w| w.log.add_partitions(1),
        |w| w.log.recreate(PARTITIONS),
    ];
    for change in changes {
        let world = drained_world().await;
        change(&world);
        let failure = refusal(world.plugs(v1()), live()).await;
        assert!(matches!(failure, Failure::Refused(_)), "{failure}");
        assert!(failure.to_string().contains("ledger_v1"), "{failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_and_a_missing_partition_are_refused() {
    let world = World::with_events(10);
    world.log.remove();
    let failure = refusal(world.plugs(v1()), live()).await;
    assert!(failure.to_string().contains("does not exist"), "{failure}");
    let world = World::with_events(10);
    let stranger = [refold_domain::position::Partition(PARTITIONS)];
    let options = ProjectorOptions {
        partitions: PartitionSelection::Only(stranger.into()),
        ..live()
    };
    let failure = refusal(world.plugs(v1()), options).await;
    assert!(failure.to_string().contains("-partitions"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_version_is_projected_no_more() {
    let world = World::with_events(10);
    let mut process = world.start(replay()).await;
    assert_eq!(process.ended().await, Ok(Outcome::Finished));
    let failed = world.store.fail(V1, "an operator said so").await;
    failed.expect("it may fail");
    let failure = refusal(world.plugs(v1()), live()).await;
    assert!(
        failure.to_string().contains("an operator said so"),
        "{failure}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_or_a_store_that_is_away_at_the_start_is_told_apart_from_a_refusal() {
    let world = World::with_events(10);
    world.store.set_reachable(false);
    let failure = refusal(world.plugs(v1()), live()).await;
    assert_eq!(failure.exit_code(), 69, "{failure}");
    world.store.set_reachable(true);
    let away = SourceError::Unreachable("scripted".to_owned());
    world.log.fail_calls(1, &away);
    let failure = refusal(world.plugs(v1()), live()).await;
    assert_eq!(failure.exit_code(), 69, "{failure}");
    // With patience, the same is waited for.
    world.log.fail_calls(1, &away);
    let patient = ProjectorOptions {
        start_patience: PATIENCE,
        ..live()
    };
    world.start_caught_up(patient).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_setting_is_refused_before_anything_is_asked() {
    let world = World::with_events(10);
    world.store.set_reachable(false);
    let wrong = ProjectorOptions { batch: 0, ..live() };
    let failure = refusal(world.plugs(v1()), wrong).await;
    assert!(failure.to_string().contains("-batch"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_drains_the_process() {
    let world = World::with_events(100);
    let (shutdown, told) = watch::channel(false);
    let board = Board::new();
    let running = tokio::spawn(run_projector(
        world.plugs(v1()),
        board.clone(),
        live(),
        told,
    ));
    world.caught_up(V1).await;
    shutdown.send(true).expect("the process listens");
    let ended = tokio::time::timeout(PATIENCE, running).await;
    let ended = ended.expect("in time").expect("no panic");
    assert_eq!(ended, Ok(Outcome::Drained));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_after_a_process_was_killed() {
    let world = World::with_events(100);
    let process = world.start_caught_up(live()).await;
    process.handle.kill_and_wait().await;
    drop(process);
    // The next owner's commits are the only ones.
    let mut next = world.start_caught_up(live()).await;
    world.append(100);
    world.caught_up(V1).await;
    assert_eq!(next.handle.drain().await, Ok(Outcome::Drained));
}
