//! Writers that stop in the middle and come back.

mod support;

use std::time::Duration;
use std::time::Instant;

use refold_domain::position::Offset;
use refold_domain::position::Partition;
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

use support::Postgres;

/// How long a take-over may last when its owner is stopped.
const TAKE_OVER_BOUND: Duration = Duration::from_secs(6);

async fn take_over(postgres: &Postgres, writer: &dyn PartitionWriter) -> Box<dyn PartitionWriter> {
    let version = writer.lease().version;
    let begun = Instant::now();
    let taken = postgres
        .direct_sink()
        .take_over(version, &WIDE_V1, Partition(0), Offset(0))
        .await;
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
    let taken = postgres
        .direct_sink()
        .take_over(version, &WIDE_V1, Partition(0), Offset(0))
        .await;
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
        let taken = sink.take_over(version, &WIDE_V1, Partition(0), Offset(0));
        taken.await.expect("a take-over")
    });
    let look = postgres.client().await;
    let waiting = "select count(*) from pg_stat_activity where datname = current_database()
                   and wait_event_type = 'Lock' and query like '%take_over%'";
    while look
        .query_one(waiting, &[])
        .await
        .expect("an answer")
        .get::<_, i64>(0)
        == 0
    {
        tokio::task::yield_now().await;
    }
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
        .take_over(old.lease().version, &WIDE_V1, Partition(0), Offset(0))
        .await;
    let refused = taken.map(|writer| writer.lease().clone());
    assert!(matches!(refused, Err(StoreError::Retry(_))), "{refused:?}");
    other
        .batch_execute("commit")
        .await
        .expect("the other session lives");
}
