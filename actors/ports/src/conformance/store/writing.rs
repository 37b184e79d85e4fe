//! Take-over and batches.

use refold_domain::parking::ParkedEvent;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_projection::KeyRef;
use refold_projection::Uuid;

use super::Case;
use super::Failure;
use super::StoreHarness;
use super::expect;
use super::expect_equal;
use super::expect_error;
use super::fixtures::BY_TEXT;
use super::fixtures::BY_UUID;
use super::fixtures::Picture;
use super::fixtures::WIDE_V1;
use super::fixtures::bulk_load;
use super::fixtures::expect_pictured;
use super::fixtures::fingerprint;
use super::fixtures::int_cell;
use super::fixtures::key_cell;
use super::fixtures::loaded;
use super::fixtures::log;
use super::fixtures::take;
use super::fixtures::writer_of;
use crate::sink::Lease;
use crate::sink::StoreError;
use crate::sink::TakeOver;
use crate::store_cases;

pub(super) fn cases() -> Vec<Case> {
    store_cases![
        the_first_take_over_begins_at_the_start_that_was_asked_for,
        a_take_over_raises_the_epoch_and_keeps_the_mark,
        an_older_writer_is_fenced_after_a_take_over,
        a_partition_is_not_taken_back_from_a_successor,
        a_batch_moves_mark_sums_and_rows_together,
        a_batch_from_another_mark_is_fenced,
        a_batch_that_was_committed_cannot_be_committed_again,
        an_empty_batch_moves_the_mark,
        parked_events_are_durable_with_the_batch_that_passes_them,
        a_batch_with_a_row_older_than_the_table_is_refused_as_a_whole,
        a_delete_keeps_a_tombstone_that_later_events_replace,
        uuid_keys_are_written_and_found,
        text_keys_are_written_and_found,
        keys_without_a_row_are_not_found,
        the_end_of_the_log_is_remembered,
        partitions_do_not_know_of_each_other,
    ]
}

async fn the_first_take_over_begins_at_the_start_that_was_asked_for(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let version = harness.registry().register(&WIDE_V1, &log()).await?.id;
    let sink = harness.sink();
    let writer = sink
        .take_over(TakeOver::from_anyone(
            version,
            &WIDE_V1,
            Partition(1),
            Offset(40),
        ))
        .await?;
    let lease = writer.lease();
    expect_equal("epoch", &lease.epoch, &1)?;
    expect_equal("mark", &lease.next, &Offset(40))?;
    expect_equal("last record", &lease.last_record, &None)?;
    expect_equal("sums", &lease.sums, Picture::new(&WIDE_V1).sums())?;
    expect(
        "nothing was loaded yet",
        !lease.has_leaf && !lease.reached_log_end,
    )?;
    let again = sink.take_over(TakeOver::from_anyone(
        version,
        &WIDE_V1,
        Partition(1),
        Offset(7),
    ));
    expect_equal(
        "mark of a second start",
        &again.await?.lease().next,
        &Offset(40),
    )
}

async fn a_take_over_raises_the_epoch_and_keeps_the_mark(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (writer, picture) = loaded(harness, &WIDE_V1, 0, 10).await?;
    let old = writer.lease().clone();
    let mut new = take(harness, old.version, &WIDE_V1, 0).await?;
    let lease = new.lease().clone();
    expect_equal("epoch", &lease.epoch, &(old.epoch + 1))?;
    expect_equal("mark", &lease.next, &Offset(10))?;
    expect_equal("last record", &lease.last_record, &Some(fingerprint(9)))?;
    expect(
        "the leaf and the end of the log are known",
        lease.has_leaf && lease.reached_log_end,
    )?;
    expect_pictured(new.as_mut(), &picture).await
}

async fn an_older_writer_is_fenced_after_a_take_over(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (mut old, mut picture) = loaded(harness, &WIDE_V1, 0, 10).await?;
    let before = picture.clone();
    let mut new = take(harness, old.lease().version, &WIDE_V1, 0).await?;
    picture.put(&int_cell(3), 77, 2, 10)?;
    let batch = picture.batch(10, 11)?;
    expect_error(
        "the older writer's batch",
        old.commit(&batch).await,
        is_fenced,
    )?;
    expect_pictured(new.as_mut(), &before).await?;
    expect_error("its next call", old.commit(&batch).await, is_over)?;
    new.commit(&batch).await?;
    expect_pictured(new.as_mut(), &picture).await
}

async fn a_partition_is_not_taken_back_from_a_successor(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (first, mut picture) = loaded(harness, &WIDE_V1, 0, 10).await?;
    let first = first.lease().clone();
    let sink = harness.sink();
    let anyone = TakeOver::from_anyone(first.version, &WIDE_V1, Partition(0), Offset(0));
    let own_up_to = |epoch| TakeOver {
        own_up_to: Some(epoch),
        ..anyone
    };
    // Nobody came behind it: the partition is its own still.
    let mut owner = sink.take_over(own_up_to(first.epoch)).await?;
    expect_equal("epoch", &owner.lease().epoch, &(first.epoch + 1))?;
    for own in [first.epoch, first.epoch - 1] {
        let refused = sink.take_over(own_up_to(own)).await;
        let names_the_epoch = |error: &StoreError| {
            let sentence = TakeOver::lost(Partition(0), "", first.epoch + 1);
            let end = sentence.rsplit("taken over").next().unwrap_or_default();
            is_fenced(error) && error.to_string().ends_with(end)
        };
        expect_error("taking it back", refused.map(drop), names_the_epoch)?;
    }
    // Neither the epoch nor the owner's session was touched.
    picture.put(&int_cell(3), 77, 2, 10)?;
    owner.commit(&picture.batch(10, 11)?).await?;
    expect_pictured(owner.as_mut(), &picture).await?;
    // An answer of its own that was lost may have raised it.
    let again = sink.take_over(own_up_to(first.epoch + 1)).await?;
    expect_equal("epoch at last", &again.lease().epoch, &(first.epoch + 2))
}

async fn a_batch_moves_mark_sums_and_rows_together(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (mut writer, mut picture) = loaded(harness, &WIDE_V1, 0, 10).await?;
    // Old rows and new ones, with and without nulls.
    for key in 5..25 {
        picture.put(&int_cell(key), key + 100, 2, key + 10)?;
    }
    let committed = writer.commit(&picture.batch(10, 40)?).await?;
    expect_equal("mark", &committed.next, &Offset(40))?;
    expect_equal("mark of the lease", &writer.lease().next, &Offset(40))?;
    expect_pictured(writer.as_mut(), &picture).await?;
    let mut again = take(harness, writer.lease().version, &WIDE_V1, 0).await?;
    expect_equal("durable mark", &again.lease().next, &Offset(40))?;
    expect_equal(
        "last record",
        &again.lease().last_record,
        &Some(fingerprint(39)),
    )?;
    expect_pictured(again.as_mut(), &picture).await
}

async fn a_batch_from_another_mark_is_fenced(harness: &dyn StoreHarness) -> Result<(), Failure> {
    for from in [9, 11] {
        let (mut writer, mut picture) = loaded_again(harness).await?;
        let before = picture.clone();
        picture.put(&int_cell(1), 50, 9, 15)?;
        let result = writer.commit(&picture.batch(from, 16)?).await;
        expect_error("a batch from another mark", result, is_fenced)?;
        let mut again = take(harness, writer.lease().version, &WIDE_V1, 0).await?;
        expect_equal("mark", &again.lease().next, &Offset(10))?;
        expect_pictured(again.as_mut(), &before).await?;
    }
    Ok(())
}

/// The loaded partition, whether or not an earlier round loaded it.
async fn loaded_again(
    harness: &dyn StoreHarness,
) -> Result<(Box<dyn crate::sink::PartitionWriter>, Picture), Failure> {
    let writer = writer_of(harness, &WIDE_V1, 0).await?;
    if !writer.lease().has_leaf {
        drop(writer);
        return loaded(harness, &WIDE_V1, 0, 10).await;
    }
    let mut picture = Picture::new(&WIDE_V1);
    for key in 0..10 {
        picture.put(&int_cell(key), key, 1, key)?;
    }
    picture.batch(0, 10)?;
    Ok((writer, picture))
}

async fn a_batch_that_was_committed_cannot_be_committed_again(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (mut writer, mut picture) = loaded(harness, &WIDE_V1, 0, 10).await?;
    picture.put(&int_cell(3), 77, 2, 10)?;
    let batch = picture.batch(10, 11)?;
    writer.commit(&batch).await?;
    expect_error("the same batch", writer.commit(&batch).await, is_fenced)?;
    let mut again = take(harness, writer.lease().version, &WIDE_V1, 0).await?;
    expect_equal("mark", &again.lease().next, &Offset(11))?;
    expect_pictured(again.as_mut(), &picture).await
}

fn parked(key: &str, offset: i64) -> ParkedEvent {
    ParkedEvent {
        offset: Offset(offset),
        key: key.as_bytes().to_vec(),
        reason: format!("no such event\0 as {key:?}"),
        value: (offset % 2 == 0).then(|| vec![0, 255, 7]),
    }
}

async fn parked_events_are_durable_with_the_batch_that_passes_them(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let version = harness.registry().register(&WIDE_V1, &log()).await?.id;
    let mut writer = take(harness, version, &WIDE_V1, 0).await?;
    let mut picture = Picture::new(&WIDE_V1);
    picture.put(&int_cell(3), 1, 1, 0)?;
    picture.parked = vec![parked("7", 2), parked("", 4), parked("7", 5)];
    bulk_load(writer.as_mut(), &mut picture, 10).await?;
    let tainted = |lease: &Lease| {
        let of = |(key, since): (&[u8], Offset)| (key.to_vec(), since.0);
        lease.parking.tainted().map(of).collect::<Vec<_>>()
    };
    let first = vec![(b"7".to_vec(), 2)];
    expect_equal("tainted by the load", &tainted(writer.lease()), &first)?;

    // Nothing of a batch that is fenced off is in.
    let mut newer = take(harness, version, &WIDE_V1, 0).await?;
    expect_equal("tainted after a take-over", &tainted(newer.lease()), &first)?;
    picture.parked = vec![parked("9", 12)];
    let batch = picture.batch(10, 15)?;
    expect_error("the older writer", writer.commit(&batch).await, is_fenced)?;
    let again = take(harness, version, &WIDE_V1, 0).await?;
    expect_equal("after a fenced batch", &tainted(again.lease()), &first)?;
    expect_error("the one before", newer.commit(&batch).await, is_fenced)?;

    let mut last = take(harness, version, &WIDE_V1, 0).await?;
    last.commit(&batch).await?;
    let both = vec![(b"7".to_vec(), 2), (b"9".to_vec(), 12)];
    expect_equal("tainted by the batch", &tainted(last.lease()), &both)?;
    // An event that a checkpoint holds already may come once more.
    picture.parked = vec![parked("9", 12), parked("9", 16)];
    last.commit(&picture.batch(15, 20)?).await?;
    let again = take(harness, version, &WIDE_V1, 0).await?;
    expect_equal("and after one more", &tainted(again.lease()), &both)
}

async fn an_empty_batch_moves_the_mark(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let (mut writer, mut picture) = loaded(harness, &WIDE_V1, 0, 10).await?;
    writer.commit(&picture.batch(10, 30)?).await?;
    writer.commit(&picture.batch(30, 30)?).await?;
    expect_equal("mark", &writer.lease().next, &Offset(30))?;
    expect_pictured(writer.as_mut(), &picture).await
}

async fn a_batch_with_a_row_older_than_the_table_is_refused_as_a_whole(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (mut writer, mut picture) = loaded(harness, &WIDE_V1, 0, 10).await?;
    let before = picture.clone();
    picture.put(&int_cell(2), 70, 2, 12)?;
    // The table has key 5 at offset 5.
    picture.put(&int_cell(5), 71, 2, 5)?;
    let result = writer.commit(&picture.batch(10, 13)?).await;
    let refused = |e: &StoreError| matches!(e, StoreError::Refused(_));
    expect_error("a batch with an old row", result, refused)?;
    let mut again = take(harness, writer.lease().version, &WIDE_V1, 0).await?;
    expect_equal("mark", &again.lease().next, &Offset(10))?;
    expect_pictured(again.as_mut(), &before).await
}

async fn a_delete_keeps_a_tombstone_that_later_events_replace(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (mut writer, mut picture) = loaded(harness, &WIDE_V1, 0, 10).await?;
    picture.delete(&int_cell(4), 2, 10);
    // A row that is deleted before it was ever written.
    picture.delete(&int_cell(50), 1, 11);
    writer.commit(&picture.batch(10, 12)?).await?;
    expect_equal("rows by the sums", &writer.lease().sums.rows(), &9)?;
    expect_pictured(writer.as_mut(), &picture).await?;
    picture.put(&int_cell(4), 44, 3, 12)?;
    writer.commit(&picture.batch(12, 13)?).await?;
    expect_pictured(writer.as_mut(), &picture).await
}

async fn uuid_keys_are_written_and_found(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let mut writer = writer_of(harness, &BY_UUID, 0).await?;
    let mut picture = Picture::new(&BY_UUID);
    let key = |n: u8| key_cell(KeyRef::Uuid(Uuid([n; 16])));
    for n in 0..10 {
        picture.put(&key(n), i64::from(n), 1, i64::from(n))?;
    }
    bulk_load(writer.as_mut(), &mut picture, 10).await?;
    picture.put(&key(200), 8, 1, 10)?;
    picture.put(&key(3), 9, 2, 11)?;
    writer.commit(&picture.batch(10, 12)?).await?;
    expect_pictured(writer.as_mut(), &picture).await
}

async fn text_keys_are_written_and_found(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let mut writer = writer_of(harness, &BY_TEXT, 0).await?;
    let mut picture = Picture::new(&BY_TEXT);
    let keys = [
        "a",
        "a b",
        "it's",
        "\u{1f980}",
        "x\"; drop table rm.v1_p0; --",
    ];
    for (n, key) in (0..).zip(keys) {
        picture.put(&key_cell(KeyRef::Text(key)), n, 1, n)?;
    }
    bulk_load(writer.as_mut(), &mut picture, 5).await?;
    picture.put(&key_cell(KeyRef::Text("a%_\\")), 8, 1, 5)?;
    picture.put(&key_cell(KeyRef::Text("it's")), 9, 2, 6)?;
    writer.commit(&picture.batch(5, 7)?).await?;
    expect_pictured(writer.as_mut(), &picture).await
}

async fn keys_without_a_row_are_not_found(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let (mut writer, picture) = loaded(harness, &WIDE_V1, 0, 3).await?;
    let found = writer
        .fetch(&[int_cell(-1), int_cell(1), int_cell(9)])
        .await?;
    expect_equal("rows found", &found, &vec![picture.rows()[1].clone()])?;
    expect_equal(
        "rows found for no keys",
        &writer.fetch(&[]).await?.len(),
        &0,
    )
}

async fn the_end_of_the_log_is_remembered(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let mut writer = writer_of(harness, &WIDE_V1, 0).await?;
    let mut picture = Picture::new(&WIDE_V1);
    bulk_load(writer.as_mut(), &mut picture, 5).await?;
    expect(
        "the load did not reach the end",
        !writer.lease().reached_log_end,
    )?;
    picture.at_log_end = true;
    writer.commit(&picture.batch(5, 6)?).await?;
    picture.at_log_end = false;
    writer.commit(&picture.batch(6, 7)?).await?;
    let again = take(harness, writer.lease().version, &WIDE_V1, 0).await?;
    expect(
        "a later batch does not take it back",
        again.lease().reached_log_end,
    )
}

async fn partitions_do_not_know_of_each_other(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let (mut left, mut picture) = loaded(harness, &WIDE_V1, 0, 10).await?;
    let (mut right, other) = loaded(harness, &WIDE_V1, 1, 4).await?;
    picture.put(&int_cell(1), 90, 2, 10)?;
    left.commit(&picture.batch(10, 11)?).await?;
    expect_equal("mark of the other", &right.lease().next, &Offset(4))?;
    expect_pictured(right.as_mut(), &other).await?;
    expect_pictured(left.as_mut(), &picture).await
}

pub(super) fn is_fenced(error: &StoreError) -> bool {
    matches!(error, StoreError::Fenced(_))
}

pub(super) fn is_over(error: &StoreError) -> bool {
    matches!(error, StoreError::Disconnected(_))
}
