//! Errors that pass: the same writer sends the same batch again.

mod support;

use refold_ports::conformance::store::fixtures::WIDE_V1;
use refold_ports::conformance::store::fixtures::expect_pictured;
use refold_ports::conformance::store::fixtures::int_cell;
use refold_ports::conformance::store::fixtures::loaded;
use refold_ports::sink::StoreError;

use support::Postgres;

#[tokio::test]
async fn a_batch_that_met_a_lock_is_sent_again_by_the_same_writer() {
    let postgres = Postgres::fresh().await;
    let (mut writer, mut picture) = loaded(&postgres, &WIDE_V1, 0, 10).await.expect("rows");
    picture.put(&int_cell(3), 33, 2, 10).expect("a row");
    let batch = picture.batch(10, 11).expect("a batch");
    let other = postgres.client().await;
    let lock = "begin; select 1 from refold.offsets where partition = 0 for update";
    other.batch_execute(lock).await.expect("a lock");
    let answer = writer.commit(&batch).await;
    assert!(matches!(answer, Err(StoreError::Retry(_))), "{answer:?}");
    other
        .batch_execute("commit")
        .await
        .expect("the lock is gone");
    writer.commit(&batch).await.expect("the same batch");
    let there = expect_pictured(writer.as_mut(), &picture).await;
    there.expect("the rows of the batch");
}

#[tokio::test]
async fn a_batch_that_met_a_full_disk_is_sent_again_by_the_same_writer() {
    let postgres = Postgres::fresh().await;
    let (mut writer, mut picture) = loaded(&postgres, &WIDE_V1, 0, 10).await.expect("rows");
    let before = picture.clone();
    picture.put(&int_cell(3), 33, 2, 10).expect("a row");
    let batch = picture.batch(10, 11).expect("a batch");
    let version = writer.lease().version.0;
    let client = postgres.client().await;
    let fill = format!(
        "create function public.full() returns trigger language plpgsql as
         $$ begin raise 'no space left' using errcode = '53100'; end $$;
         create trigger full_disk before insert on rm.v{version}_p0
             execute function public.full()"
    );
    client.batch_execute(&fill).await.expect("a full disk");
    let answer = writer.commit(&batch).await;
    assert!(matches!(answer, Err(StoreError::DiskFull(_))), "{answer:?}");
    let unchanged = expect_pictured(writer.as_mut(), &before).await;
    unchanged.expect("nothing of the batch");
    let free = format!("drop trigger full_disk on rm.v{version}_p0");
    client.batch_execute(&free).await.expect("space");
    writer.commit(&batch).await.expect("the same batch");
    let there = expect_pictured(writer.as_mut(), &picture).await;
    there.expect("the rows of the batch");
}
