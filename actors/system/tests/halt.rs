//! What cannot be applied stops its partition, and only that one.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use refold_domain::log::TopicIdentity;
use refold_domain::log::Watermarks;
use refold_domain::observe::Phase;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::ChunkReader;
use refold_ports::LogSource;
use refold_ports::Registry;
use refold_ports::memory::log::MemoryLog;
use refold_ports::source::ReadMode;
use refold_ports::source::SourceError;
use refold_system::Failure;
use refold_system::Plugs;

use crate::world::*;

const P: Partition = Partition(2);

#[tokio::test(flavor = "multi_thread")]
async fn an_undecodable_event_halts_its_partition_and_the_others_go_on() {
    for in_bulk in [true, false] {
        let world = World::with_events(150);
        let mut first = None;
        if !in_bulk {
            first = Some(world.start_caught_up(live()).await);
        }
        let before = world.expected(P);
        let poison = world.add_poison(P);
        world.append(150);
        let process = match first {
            Some(process) => process,
            None => world.start(live()).await,
        };
        process.in_phase(P, Phase::Halted).await;
        let seen = process.seen(P);
        let reason = seen.reason.expect("a reason");
        assert!(reason.contains("p2"), "{reason}");
        assert!(reason.contains(&format!("offset {poison}")), "{reason}");
        assert_eq!(seen.next, poison, "everything before it is durable");
        assert_eq!(world.rows(V1, P), before);
        for other in [Partition(0), Partition(1)] {
            until("the others go on", || {
                world.rows(V1, other) == world.expected(other)
            })
            .await;
        }
        assert_eq!(seen.restarts, 0);
        assert!(process.handle.status().borrow().ended.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_with_a_halted_partition_ends_with_its_reason() {
    let world = World::with_events(100);
    let poison = world.add_poison(P);
    let mut process = world.start(replay()).await;
    let ended = process.ended().await;
    let Err(Failure::Halted { partition, reason }) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(partition, P);
    assert!(reason.contains(&poison.to_string()), "{reason}");
    // The same event halts the next process at the same place, with nothing applied.
    let commits = world.store.commits();
    let again = world.start(replay()).await.ended().await;
    assert!(matches!(again, Err(Failure::Halted { .. })));
    assert_eq!(world.store.commits(), commits);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_record_at_the_mark_halts_before_anything_is_applied() {
    let world = World::with_events(200);
    let mut first = world.start_caught_up(live()).await;
    first.handle.drain().await.expect("drained");
    let high = world.expected(P).iter().map(|row| row.3).max();
    let last = Offset(high.expect("p2 has rows"));
    let before = world.rows(V1, P);
    // An unclean election: the end is lost, and other records come in its place.
    world.log.lose_from(P, last);
    for _ in 0..5 {
        world.add_poison(P);
    }
    let process = world.start(live()).await;
    process.in_phase(P, Phase::Halted).await;
    let reason = process.seen(P).reason.expect("a reason");
    assert!(reason.contains("LOG_DIVERGED"), "{reason}");
    assert_eq!(world.rows(V1, P), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_below_the_mark_halts() {
    let world = World::with_events(200);
    let mut first = world.start_caught_up(live()).await;
    first.handle.drain().await.expect("drained");
    world.log.lose_from(P, Offset(1));
    let process = world.start(live()).await;
    process.in_phase(P, Phase::Halted).await;
    let reason = process.seen(P).reason.expect("a reason");
    assert!(reason.contains("ends at offset 1"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_whose_start_has_passed_the_mark_halts_and_one_that_begins_at_it_goes_on() {
    let world = World::with_events(200);
    let mut first = world.start_caught_up(live()).await;
    first.handle.drain().await.expect("drained");
    let marks = world.store.marks(V1).await.expect("marks");
    let next = |p: Partition| {
        let mark = marks.iter().find(|m| m.partition == p);
        mark.expect("a mark").next
    };
    world.append(100);
    let (gone, kept) = (Partition(0), Partition(1));
    world.log.delete_below(gone, next(gone).next());
    world.log.delete_below(kept, next(kept));
    let process = world.start(live()).await;
    process.in_phase(gone, Phase::Halted).await;
    let reason = process.seen(gone).reason.expect("a reason");
    assert!(reason.contains("deleted from the log"), "{reason}");
    until("the other goes on", || {
        world.rows(V1, kept) == world.expected(kept)
    })
    .await;
}

/// A log from which retention deletes everything below the mark just when a reader is opened
/// at the record in front of it.
struct Shrinking {
    log: MemoryLog,
    left: AtomicU32,
}

#[async_trait]
impl LogSource for Shrinking {
    async fn identity(&self) -> Result<TopicIdentity, SourceError> {
        self.log.identity().await
    }

    async fn watermarks(&self, partition: Partition) -> Result<Watermarks, SourceError> {
        self.log.watermarks(partition).await
    }

    async fn open(
        &self,
        partition: Partition,
        from: Offset,
        mode: ReadMode,
    ) -> Result<Box<dyn ChunkReader>, SourceError> {
        let one_less = |left: u32| left.checked_sub(1);
        let order = Ordering::Relaxed;
        if self.left.fetch_update(order, order, one_less).is_ok() {
            self.log.delete_below(partition, from.next());
        }
        self.log.open(partition, from, mode).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_retention_deletes_while_it_is_looked_for_halts_nobody() {
    let world = World::with_events(150);
    let mut first = world.start_caught_up(live()).await;
    first.handle.drain().await.expect("drained");
    let shrinking = Arc::new(Shrinking {
        log: world.log.clone(),
        left: AtomicU32::new(PARTITIONS as u32),
    });
    let store = Arc::new(world.store.clone());
    let plugs = Plugs::new(v1(), shrinking.clone(), store.clone(), store);
    let process = Process::start(plugs, live()).await;
    world.append(60);
    world.caught_up(V1).await;
    assert_eq!(shrinking.left.load(Ordering::Relaxed), 0, "all were met");
    let all = process.all();
    assert!(
        all.iter()
            .all(|o| o.phase != Phase::Halted && o.restarts == 0)
    );
}
