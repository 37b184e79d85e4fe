//! Histories that are large for the memory, or for a process's life.

use std::time::Duration;

use refold_domain::observe::Phase;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::Registry;
use refold_ports::memory::store::CommitFault;
use refold_system::Outcome;
use refold_system::ProjectorOptions;

use crate::strikes::*;
use crate::world::*;

/// The largest partition.
const P: Partition = Partition(1);

/// Makes the rows durable behind every chunk.
fn checkpointing() -> ProjectorOptions {
    ProjectorOptions {
        checkpoint_every: Some(Duration::ZERO),
        ..replay()
    }
}

fn many_keys() -> World {
    let world = World::empty();
    for i in 0..9_000 {
        world.add(i % 3_000, i);
    }
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_outgrows_the_memory_is_folded_class_by_class_and_equals_one_pass() {
    // From "everything fits" to a few dozen keys at a time.
    for (memory_bytes, workers) in [
        (1 << 30, 3),
        (200_000, 1),
        (60_000, 3),
        (60_000, 1),
        (30_000, 2),
    ] {
        let world = many_keys();
        let tight = ProjectorOptions {
            memory_bytes,
            workers,
            ..checkpointing()
        };
        let mut process = world.start(tight).await;
        assert_eq!(process.ended().await, Ok(Outcome::Finished));
        world.assert_equal(V1);
        let all = process.all();
        if workers == 1 {
            // Alone, no fold gives way and begins again: every event counts once.
            let applied: u64 = all.iter().map(|o| o.counts.applied).sum();
            assert_eq!(applied, 9_000, "{memory_bytes} bytes");
        }
        let rows: u64 = all.iter().map(|o| o.counts.rows).sum();
        assert!(rows >= 3_000);
        assert!(all.iter().all(|o| o.restarts == 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_decoded_halts_a_history_that_does_not_fit_at_the_same_offset() {
    for memory_bytes in [1 << 30, 60_000] {
        let world = many_keys();
        let poison = world.add_poison(P);
        for i in 0..3_000 {
            world.add(i, i);
        }
        let tight = ProjectorOptions {
            memory_bytes,
            ..replay()
        };
        let process = world.start(tight).await;
        process.in_phase(P, Phase::Halted).await;
        let marks = world.store.marks(V1).await.expect("marks");
        let mark = marks.iter().find(|m| m.partition == P);
        assert_eq!(mark.map(|m| m.next), Some(poison), "{memory_bytes} bytes");
        let rows = world.rows(V1, P);
        assert!(rows.iter().all(|row| row.3 < poison.0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fold_that_is_ended_goes_on_from_its_checkpoint() {
    for checkpoints in [1, 2, 5] {
        let world = World::with_events(3_000);
        // A hang behind the fold of a later chunk: earlier ones are checkpointed.
        let striker = Striker::new("fold::before:1", Blow::Hang, 1).after(checkpoints * 3);
        let stopped = world.start_probed(checkpointing(), striker.clone()).await;
        until("the fold hangs", || striker.is_spent()).await;
        until("a checkpoint is durable", || {
            stopped.seen(P).counts.commits >= u64::from(checkpoints)
        })
        .await;
        stopped.handle.kill_and_wait().await;
        let marks = world.store.marks(V1).await.expect("marks");
        let mark = marks.iter().find(|m| m.partition == P).expect("a mark");
        assert!(mark.next > Offset(0) && !mark.has_leaf);
        let before = mark.next;

        let mut next = world.start(checkpointing()).await;
        assert_eq!(next.ended().await, Ok(Outcome::Finished));
        world.assert_equal(V1);
        let seen = next.seen(P);
        let events = world.expected(P).iter().map(|row| row.2).sum::<i64>() as u64;
        // One more checkpoint may have been on its way when the process was ended.
        assert!(seen.from >= before, "{} {before}", seen.from);
        assert_eq!(
            seen.counts.applied,
            events - seen.from.0 as u64,
            "the rest alone"
        );
        assert!(
            seen.counts.duplicates <= 1,
            "the record at the mark is looked at"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_at_any_point_of_a_checkpoint_is_continued_by_the_next_one() {
    for point in [
        "fold::after:1",
        "write::before:1",
        "write::after:1",
        "copy::before:1",
        "copy::after:1",
        "index::before:1",
        "index::after:1",
        "commit::before:1",
        "commit::after:1",
    ] {
        for visits in [0, 1, 7] {
            let world = World::with_events(600);
            let striker = Striker::new(point, Blow::Hang, 1).after(visits);
            let stopped = world.start_probed(checkpointing(), striker.clone()).await;
            until(point, || striker.is_spent()).await;
            stopped.handle.kill_and_wait().await;
            let mut next = world.start(checkpointing()).await;
            world.append(50);
            assert_eq!(next.ended().await, Ok(Outcome::Finished), "{point}");
            let mut last = world.start(checkpointing()).await;
            assert_eq!(last.ended().await, Ok(Outcome::Finished), "{point}");
            world.assert_equal(V1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_without_an_answer_is_asked_about() {
    for fault in [
        CommitFault::LostBefore,
        CommitFault::LostAfter,
        CommitFault::Retry,
        CommitFault::DiskFull,
    ] {
        for nth in [1, 2, 5, 9] {
            let world = World::with_events(400);
            world.store.fail_commit(nth, fault);
            let mut process = world.start(checkpointing()).await;
            assert_eq!(process.ended().await, Ok(Outcome::Finished));
            world.assert_equal(V1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_record_at_a_checkpoints_mark_halts_before_anything_is_folded() {
    let world = World::with_events(600);
    let striker = Striker::new("fold::before:1", Blow::Hang, 1).after(6);
    let stopped = world.start_probed(checkpointing(), striker.clone()).await;
    until("the fold hangs", || striker.is_spent()).await;
    until("a checkpoint is durable", || {
        stopped.seen(P).counts.commits >= 1
    })
    .await;
    stopped.handle.kill_and_wait().await;
    let marks = world.store.marks(V1).await.expect("marks");
    let mark = marks.iter().find(|m| m.partition == P).expect("a mark");
    // An unclean election: the end is lost, and other records come in its place.
    world.log.lose_from(P, Offset(mark.next.0 - 1));
    for _ in 0..50 {
        world.add_poison(P);
    }
    let process = world.start(checkpointing()).await;
    process.in_phase(P, Phase::Halted).await;
    let reason = process.seen(P).reason.expect("a reason");
    assert!(reason.contains("LOG_DIVERGED"), "{reason}");
    assert_eq!(world.rows(V1, P), []);
}
