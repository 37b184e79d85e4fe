//! History and its continuation fold to what one pass over the log gives.

use std::time::Duration;
use std::time::Instant;

use refold_domain::observe::Observed;
use refold_domain::observe::Phase;
use refold_domain::observe::Stage;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::LogSource;
use refold_ports::Registry;
use refold_ports::registry::ActiveRow;
use refold_ports::source::SourceError;
use refold_system::Failure;
use refold_system::Outcome;
use refold_system::ProjectorOptions;

use crate::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn history_in_bulk_and_the_tail_in_batches_equal_one_pass() {
    let world = World::with_events(500);
    let process = world.start_caught_up(live()).await;
    for _ in 0..10 {
        world.append(37);
    }
    world.caught_up(V1).await;
    for partition in (0..PARTITIONS).map(Partition) {
        process.in_phase(partition, Phase::Live).await;
        let seen = process.seen(partition);
        assert!(seen.counts.commits >= 2, "a load and at least a batch");
        assert_eq!(seen.counts.duplicates, 0);
        assert_eq!(seen.restarts, 0);
        assert_eq!(seen.lag(), 0);
        assert!(seen.last_commit.is_some());
        assert!(seen.busy.get(Stage::Commit) > std::time::Duration::ZERO);
    }
    let applied: u64 = process.all().iter().map(|o| o.counts.applied).sum();
    assert_eq!(applied, 870);
    let active = world.store.active("ledger").await.expect("a registry");
    let first = ActiveRow {
        version: V1,
        generation: 1,
    };
    assert_eq!(active, Some(first));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_ends_at_the_historical_end_and_leaves_a_ready_version() {
    let world = World::with_events(300);
    let mut process = world.start(replay()).await;
    assert_eq!(process.ended().await, Ok(Outcome::Finished));
    world.assert_equal(V1);
    let row = world.store.version("ledger_v1").await.expect("registered");
    assert!(row.state.is_readable(), "{}", row.state);
    let active = world.store.active("ledger").await.expect("a registry");
    assert_eq!(active, None, "a replay never activates");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_started_again_finishes_what_has_come_since() {
    let world = World::with_events(100);
    let mut first = world.start(replay()).await;
    assert_eq!(first.ended().await, Ok(Outcome::Finished));
    world.append(100);
    let mut second = world.start(replay()).await;
    assert_eq!(second.ended().await, Ok(Outcome::Finished));
    world.assert_equal(V1);
    let nothing_new = world.start(replay()).await.ended().await;
    assert_eq!(nothing_new, Ok(Outcome::Finished));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_with_catch_up_goes_on_behind_the_historical_end() {
    let world = World::with_events(100);
    let process = world.start_caught_up(replay_and_catch_up()).await;
    world.append(200);
    world.caught_up(V1).await;
    assert!(process.handle.status().borrow().ended.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_topic_becomes_ready_and_serves() {
    let world = World::empty();
    let process = world.start_caught_up(live()).await;
    for partition in (0..PARTITIONS).map(Partition) {
        process.in_phase(partition, Phase::Live).await;
    }
    world.append(50);
    world.caught_up(V1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_idles_behind_a_marker_becomes_ready() {
    let world = World::with_events(100);
    for partition in (0..PARTITIONS).map(Partition) {
        world.log.append_marker(partition);
    }
    world.start_caught_up(live()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_and_holes_behind_the_last_record_are_no_lag_once_they_are_passed() {
    let world = World::with_events(100);
    let partitions = || (0..PARTITIONS).map(Partition);
    let end_with_markers = || {
        for partition in partitions() {
            world.log.append_hole(partition, 3);
            world.log.append_marker(partition);
        }
    };
    let nothing_left = async |process: &Process| {
        for partition in partitions() {
            let end = world.log.watermarks(partition).await.expect("ends").high;
            let what = format!("{partition} is clear up to {end}");
            let clear = |seen: Observed| seen.clear_to == end && seen.end == end && seen.lag() == 0;
            until(&what, || clear(process.seen(partition))).await;
            assert_eq!(process.seen(partition).next, Offset(end.0 - 4));
        }
    };
    // In the history, and at the moving end.
    end_with_markers();
    let process = world.start_caught_up(live()).await;
    nothing_left(&process).await;
    world.append(50);
    world.caught_up(V1).await;
    end_with_markers();
    nothing_left(&process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_and_markers_change_nothing() {
    let world = World::with_events(50);
    for partition in (0..PARTITIONS).map(Partition) {
        world.log.append_hole(partition, 7);
        world.log.append_marker(partition);
    }
    world.append(50);
    let _process = world.start_caught_up(live()).await;
    for partition in (0..PARTITIONS).map(Partition) {
        world.log.append_marker(partition);
        world.log.append_hole(partition, 3);
    }
    world.append(50);
    world.caught_up(V1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_again_below_the_mark_changes_nothing_and_counts_duplicates() {
    let world = World::with_events(300);
    let mut first = world.start_caught_up(live()).await;
    assert_eq!(first.handle.drain().await, Ok(Outcome::Drained));
    let marks = world.store.marks(V1).await.expect("marks");
    let commits = world.store.commits();
    for from in [0, 1, 40] {
        let again = ProjectorOptions {
            from_offset: Some(Offset(from)),
            ..live()
        };
        let mut process = world.start_caught_up(again).await;
        let low = marks.iter().map(|m| m.next.0 - from).sum::<i64>() as u64;
        let duplicates = || -> u64 { process.all().iter().map(|o| o.counts.duplicates).sum() };
        until("all was read again", || duplicates() == low).await;
        let applied: u64 = process.all().iter().map(|o| o.counts.applied).sum();
        assert_eq!(applied, 0);
        assert_eq!(process.handle.drain().await, Ok(Outcome::Drained));
        world.assert_equal(V1);
    }
    assert_eq!(world.store.commits(), commits, "nothing was committed");
    let from_start = ProjectorOptions {
        from_offset: Some(Offset(0)),
        ..live()
    };
    let _process = world.start(from_start).await;
    world.append(100);
    world.caught_up(V1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_above_the_mark_is_refused_and_names_the_gap() {
    let world = World::with_events(100);
    let mut first = world.start_caught_up(live()).await;
    first.handle.drain().await.expect("drained");
    let marks = world.store.marks(V1).await.expect("marks");
    let above = ProjectorOptions {
        from_offset: Some(Offset(90)),
        ..live()
    };
    let refused = Process::try_start(world.plugs(v1()), "ledger_v1".into(), above).await;
    let Err(Failure::Refused(why)) = refused.map(|_| ()) else {
        panic!("a start above the mark was not refused");
    };
    assert!(why.contains("-from-offset 90"), "{why}");
    assert_eq!(world.store.marks(V1).await, Ok(marks), "no epoch moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_limit_holds_in_bulk_and_in_batches() {
    let world = World::with_events(300);
    let slow = ProjectorOptions {
        rate_limit: Some(1_000),
        ..live()
    };
    let begun = Instant::now();
    let process = world.start_caught_up(slow).await;
    world.append(300);
    world.caught_up(V1).await;
    // 600 events at 1,000 a second, less the last wait of each partition and a tenth of a second's tokens.
    assert!(begun.elapsed().as_millis() >= 350, "{:?}", begun.elapsed());
    let throttled = process.all();
    let throttled = throttled.iter().map(|o| o.busy.get(Stage::Throttled));
    assert!(throttled.sum::<Duration>().as_millis() >= 350);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_limit_holds_where_a_partitions_history_would_fit_one_read() {
    let world = World::with_events(300);
    let slow = ProjectorOptions {
        rate_limit: Some(200),
        ..live()
    };
    let begun = Instant::now();
    world.start_caught_up(slow).await;
    // 300 events at 200 a second, less the bucket and the last wait of each partition, which
    // are 20 events each.
    let free = 20 * (1 + u64::try_from(PARTITIONS).expect("a count"));
    let least = Duration::from_millis((300 - free) * 1_000 / 200);
    assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_away_for_a_while_costs_time_only() {
    let world = World::with_events(200);
    let away = SourceError::Unreachable("scripted".to_owned());
    for partition in (0..PARTITIONS).map(Partition) {
        world.log.fail_reads(partition, 2, &away);
    }
    let process = world.start_caught_up(live()).await;
    for partition in (0..PARTITIONS).map(Partition) {
        world.log.fail_reads(partition, 2, &away);
    }
    world.append(200);
    world.caught_up(V1).await;
    assert!(process.all().iter().all(|o| o.restarts == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_for_a_while_costs_time_only() {
    let world = World::with_events(200);
    let process = world.start_caught_up(live()).await;
    world.store.set_reachable(false);
    world.append(100);
    until("the projectors say why they wait", || {
        process.all().iter().all(|o| o.reason.is_some())
    })
    .await;
    world.store.set_reachable(true);
    world.caught_up(V1).await;
    assert!(process.all().iter().all(|o| o.restarts == 0));
    until("the reasons are gone", || {
        process.all().iter().all(|o| o.reason.is_none())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_does_not_fit_the_memory_is_broken_and_names_the_flag() {
    let world = World::with_events(300);
    let tiny = ProjectorOptions {
        memory_bytes: 16,
        ..replay()
    };
    let ended = world.start(tiny).await.ended().await;
    let Err(Failure::Broken { reason, .. }) = ended else {
        panic!("{ended:?}");
    };
    assert!(reason.contains("-memory"), "{reason}");
    assert!((0..PARTITIONS).any(|p| reason.contains(&Partition(p).to_string())));
    assert_eq!(world.store.commits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn folds_that_do_not_fit_side_by_side_run_one_after_the_other() {
    let world = World::empty();
    for id in 0..3_000 {
        world.add(id, id);
    }
    let mut process = world.start(replay()).await;
    assert_eq!(process.ended().await, Ok(Outcome::Finished));
    let largest = |o: &[u64]| o.iter().copied().max().unwrap_or(0);
    // The same again with room for about one of the three tables.
    let needed = largest(&table_bytes(&world).await);
    let other = World::empty();
    for id in 0..3_000 {
        other.add(id, id);
    }
    let tight = ProjectorOptions {
        memory_bytes: (needed as usize + 4) / 3 * 4,
        workers: 3,
        ..replay()
    };
    let mut process = other.start(tight).await;
    assert_eq!(process.ended().await, Ok(Outcome::Finished));
    other.assert_equal(V1);
}

/// Bytes that the fold of each partition holds at its end.
async fn table_bytes(world: &World) -> Vec<u64> {
    use refold_domain::log::Chunk;
    use refold_ports::LogSource;
    use refold_ports::source::ReadMode;
    let mut sizes = Vec::new();
    for partition in (0..PARTITIONS).map(Partition) {
        let opened = world.log.open(partition, Offset(0), ReadMode::Bulk).await;
        let mut reader = opened.expect("a reader");
        let mut fold = v1().bulk_fold(live().fold);
        let mut chunk = Chunk::new(partition, Offset(0));
        let limit = live().bulk_read;
        let read = tokio::task::spawn_blocking(move || {
            loop {
                reader
                    .read(&mut chunk, limit, std::time::Duration::ZERO)
                    .expect("a chunk");
                fold.fold(&chunk, 0, Offset(i64::MAX));
                if chunk.end_of_log() {
                    return fold.memory_bytes() as u64;
                }
            }
        });
        sizes.push(read.await.expect("a fold"));
    }
    sizes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_was_asked_for_is_honoured_once_and_not_after_every_lost_connection() {
    use refold_ports::memory::store::CommitFault;
    let world = World::with_events(200);
    let from_start = ProjectorOptions {
        from_offset: Some(Offset(0)),
        ..live()
    };
    let process = world.start_caught_up(from_start).await;
    for _ in 0..3 {
        world.store.fail_commit(1, CommitFault::LostAfter);
        world.append(50);
        world.caught_up(V1).await;
    }
    let duplicates: u64 = process.all().iter().map(|o| o.counts.duplicates).sum();
    assert_eq!(duplicates, 0);
}
