//! Writers that stop in the middle and come back.

mod support;

use std::time::Duration;
use std::time::Instant;

use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::version::VersionId;
use refold_ports::PartitionWriter;
use refold_ports::Sink;
use refold_ports::conformance::store::fixtures::Picture;
use refold_ports::conformance::store::fixtures::WIDE_V1;
use refold_ports::conformance::store::fixtures::expect_pictured;
use refold_ports::conformance::store::fixtures::int_cell;
use refold_ports::conformance::store::fixtures::loaded;
use refold_ports::conformance::store::fixtures::writer_of;
use refold_ports::sink::BulkTarget;
use refold_ports::sink::StoreError;
use refold_ports::sink::TakeOver;

use support::Postgres;
use support::count;
use support::eventually;

/// How long a take-over may last when its owner is stopped.
const TAKE_OVER_BOUND: Duration = Duration::from_secs(6);

fn from_anyone(version: VersionId) -> TakeOver<'static> {
    TakeOver::from_anyone(version, &WIDE_V1, Partition(0), Offset(0))
}

/// Waits until a take-over waits for the lock of a mark.
async fn a_take_over_waits(postgres: &Postgres) {
    let waiting = "select count(*) from pg_stat_activity where datname = current_database()
                   and wait_event_type = 'Lock' and query like '%take_over%'";
    let waits = async || count(postgres, waiting).await > 0;
    eventually("a take-over that waits", waits).await;
}

async fn take_over(postgres: &Postgres, writer: &dyn PartitionWriter) -> Box<dyn PartitionWriter> {
    let version = writer.lease().version;
    let begun = Instant::now();
    let taken = postgres.direct_sink().take_over(from_anyone(version)).await;
    let took = begun.elapsed();
    println!("the take-over lasted {took:?}");
    assert!(took < TAKE_OVER_BOUND, "{took:?}");
    taken.expect("a take-over")
}

#[tokio::test]
async fn a_writer_stopped_before_its_commit_loses_the_partition_and_its_commit() {
    let postgres = Postgres::fresh().await;
    let (mut old, mut picture) = loaded(&postgres, &WIDE_V1, 0, 10).await.expect("rows");
    let before = picture.clone();
    picture.put(&int_cell(3), 33, 2, 10).expect("a row");
    let batch = picture.batch(10, 11).expect("a batch");

    // Its transaction holds the mark's lock and does not go on.
    let held = postgres.proxy.hold_next_commit();
    let version = old.lease().version;
    let zombie = tokio::spawn(async move {
        let answer = old.commit(&batch).await;
        (answer, old.commit(&batch).await)
    });
    let go = held.arrived().await;
    let begun = Instant::now();
    let taken = postgres.direct_sink().take_over(from_anyone(version)).await;
    assert!(begun.elapsed() < TAKE_OVER_BOUND, "{:?}", begun.elapsed());
    let mut new = taken.expect("a take-over");
    assert_eq!(new.lease().next, Offset(10));

    // It goes on and sends its commit.
    go.send(()).expect("the proxy holds the commit");
    let (answer, next) = zombie.await.expect("no panic");
    println!("the continued writer was told: {answer:?}");
    assert!(
        matches!(answer, Err(StoreError::Disconnected(_))),
        "{answer:?}"
    );
    assert!(matches!(next, Err(StoreError::Disconnected(_))), "{next:?}");
    let unchanged = expect_pictured(new.as_mut(), &before).await;
    unchanged.expect("nothing of the old batch");
}

#[tokio::test]
async fn a_writer_stopped_inside_its_copy_loses_the_partition_and_its_load() {
    let postgres = Postgres::fresh().await;
    let mut old = writer_of(&postgres, &WIDE_V1, 0).await.expect("a writer");
    let mut picture = Picture::new(&WIDE_V1);
    picture.put(&int_cell(1), 1, 1, 0).expect("a row");
    let (tuples, seal) = picture.load(0, 10).expect("a load");
    old.begin_bulk(Offset(10), BulkTarget::Leaf)
        .await
        .expect("a load");
    old.copy(tuples).await.expect("a copy");

    let new = take_over(&postgres, old.as_ref()).await;
    assert!(!new.lease().has_leaf);
    assert_eq!(new.lease().next, Offset(0));

    let answer = old.index(seal.rows).await;
    println!("the continued writer was told: {answer:?}");
    assert!(
        matches!(answer, Err(StoreError::Disconnected(_))),
        "{answer:?}"
    );
    let answer = old.seal(&seal).await;
    assert!(
        matches!(answer, Err(StoreError::Disconnected(_))),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_commit_in_flight_is_waited_for_and_seen() {
    let postgres = Postgres::fresh().await;
    let (mut old, mut picture) = loaded(&postgres, &WIDE_V1, 0, 10).await.expect("rows");
    picture.put(&int_cell(3), 33, 2, 10).expect("a row");
    let batch = picture.batch(10, 11).expect("a batch");
    let held = postgres.proxy.hold_next_commit();
    let version = old.lease().version;
    let owner = tokio::spawn(async move { old.commit(&batch).await });
    let go = held.arrived().await;

    let sink = postgres.direct_sink();
    let taking = tokio::spawn(async move {
        let taken = sink.take_over(from_anyone(version));
        taken.await.expect("a take-over")
    });
    a_take_over_waits(&postgres).await;
    go.send(()).expect("the proxy holds the commit");
    owner.await.expect("no panic").expect("the commit");
    let mut new = taking.await.expect("no panic");
    assert_eq!(new.lease().next, Offset(11));
    let seen = expect_pictured(new.as_mut(), &picture).await;
    seen.expect("the rows of the commit in flight");
}

#[tokio::test]
async fn a_take_over_ends_no_session_but_the_recorded_one() {
    let postgres = Postgres::fresh().await;
    let (old, _) = loaded(&postgres, &WIDE_V1, 0, 10).await.expect("rows");
    // Somebody else holds the row: the recorded owner is idle, and ending it does not help.
    let other = postgres.client().await;
    let lock = "begin; select 1 from refold.offsets where partition = 0 for update";
    other.batch_execute(lock).await.expect("a lock");
    let taken = postgres
        .direct_sink()
        .take_over(from_anyone(old.lease().version))
        .await;
    let refused = taken.map(|writer| writer.lease().clone());
    assert!(matches!(refused, Err(StoreError::Retry(_))), "{refused:?}");
    other
        .batch_execute("commit")
        .await
        .expect("the other session lives");
}

#[tokio::test]
async fn a_successor_in_the_middle_of_its_load_is_neither_waited_for_nor_ended() {
    let postgres = Postgres::fresh().await;
    let first = writer_of(&postgres, &WIDE_V1, 0).await.expect("a writer");
    let lost = first.lease().clone();
    let mut successor = take_over(&postgres, first.as_ref()).await;
    let mut picture = Picture::new(&WIDE_V1);
    picture.put(&int_cell(1), 1, 1, 0).expect("a row");
    let (tuples, seal) = picture.load(0, 10).expect("a load");
    let begun = successor.begin_bulk(Offset(10), BulkTarget::Leaf).await;
    begun.expect("a load");
    successor.copy(tuples).await.expect("a copy");

    let back = TakeOver {
        own_up_to: Some(lost.epoch),
        ..from_anyone(lost.version)
    };
    let refused = postgres.direct_sink().take_over(back).await;
    let refused = refused.map(|writer| writer.lease().clone());
    assert!(matches!(refused, Err(StoreError::Fenced(_))), "{refused:?}");

    successor.index(seal.rows).await.expect("a key");
    successor.seal(&seal).await.expect("the load");
    let seen = expect_pictured(successor.as_mut(), &picture).await;
    seen.expect("the successor's rows");
}

#[tokio::test]
async fn a_successor_that_comes_while_the_lock_is_waited_for_keeps_the_partition() {
    let postgres = Postgres::fresh().await;
    let (old, _) = loaded(&postgres, &WIDE_V1, 0, 10).await.expect("rows");
    let (version, epoch) = (old.lease().version, old.lease().epoch);
    let successor = postgres.client().await;
    let come = "begin; update refold.offsets set epoch = epoch + 1 where partition = 0";
    successor.batch_execute(come).await.expect("a lock");
    let sink = postgres.direct_sink();
    let taking = tokio::spawn(async move {
        let back = TakeOver {
            own_up_to: Some(epoch),
            ..from_anyone(version)
        };
        sink.take_over(back)
            .await
            .map(|writer| writer.lease().clone())
    });
    a_take_over_waits(&postgres).await;
    successor.batch_execute("commit").await.expect("a commit");
    let refused = taking.await.expect("no panic");
    assert!(matches!(refused, Err(StoreError::Fenced(_))), "{refused:?}");
    let mark = "select epoch from refold.offsets where partition = 0";
    assert_eq!(count(&postgres, mark).await, epoch + 1);
}
