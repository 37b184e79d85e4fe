//! Bulk loads: all of it or nothing.

use bytes::Bytes;
use refold_domain::position::Offset;
use refold_domain::position::Partition;

use super::Case;
use super::Failure;
use super::StoreHarness;
use super::expect;
use super::expect_equal;
use super::expect_error;
use super::fixtures::Picture;
use super::fixtures::WIDE_V1;
use super::fixtures::bulk_load;
use super::fixtures::expect_pictured;
use super::fixtures::int_cell;
use super::fixtures::loaded;
use super::fixtures::log;
use super::fixtures::take;
use super::fixtures::writer_of;
use super::writing::is_fenced;
use crate::sink::BulkTarget;
use crate::sink::StoreError;
use crate::sink::TakeOver;
use crate::store_cases;

pub(super) fn cases() -> Vec<Case> {
    store_cases![
        a_bulk_load_moves_mark_sums_and_rows_together,
        a_bulk_load_may_come_in_many_pieces,
        a_bulk_load_may_begin_above_offset_zero,
        an_empty_bulk_load_leaves_a_table_that_batches_can_write,
        a_bulk_load_that_is_dropped_leaves_nothing,
        a_bulk_load_with_another_number_of_rows_leaves_nothing,
        a_bulk_load_with_a_key_twice_leaves_nothing,
        a_bulk_load_of_garbage_leaves_nothing,
        a_seal_for_another_range_leaves_nothing,
        a_seal_before_the_copy_ended_leaves_nothing,
        a_batch_before_the_bulk_load_is_refused,
        a_second_bulk_load_is_refused,
        an_older_writer_cannot_begin_a_load,
        a_load_in_progress_gives_way_to_a_take_over,
    ]
}

fn ten_rows() -> Result<Picture, Failure> {
    let mut picture = Picture::new(&WIDE_V1);
    for key in 0..10 {
        picture.put(&int_cell(key), key, 1, key)?;
    }
    Ok(picture)
}

/// After whatever went wrong: the mark is where it was, and a load goes through.
async fn expect_nothing_left(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let mut writer = writer_of(harness, &WIDE_V1, 0).await?;
    expect_equal("mark", &writer.lease().next, &Offset(0))?;
    expect("there is no table", !writer.lease().has_leaf)?;
    expect_equal("sums", &writer.lease().sums, Picture::new(&WIDE_V1).sums())?;
    let mut picture = ten_rows()?;
    bulk_load(writer.as_mut(), &mut picture, 10).await?;
    expect_pictured(writer.as_mut(), &picture).await
}

async fn a_bulk_load_moves_mark_sums_and_rows_together(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let mut writer = writer_of(harness, &WIDE_V1, 0).await?;
    let mut picture = ten_rows()?;
    picture.delete(&int_cell(3), 2, 10);
    let committed = bulk_load(writer.as_mut(), &mut picture, 25).await?;
    expect_equal("mark", &committed.next, &Offset(25))?;
    expect("the lease knows the table", writer.lease().has_leaf)?;
    expect_pictured(writer.as_mut(), &picture).await?;
    let mut again = take(harness, writer.lease().version, &WIDE_V1, 0).await?;
    expect_equal("durable mark", &again.lease().next, &Offset(25))?;
    expect_pictured(again.as_mut(), &picture).await
}

async fn a_bulk_load_may_come_in_many_pieces(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let mut writer = writer_of(harness, &WIDE_V1, 0).await?;
    let mut picture = Picture::new(&WIDE_V1);
    let mut pieces = Vec::new();
    for key in 0..3_000 {
        picture.put(&int_cell(key), key, 1, key)?;
        if key % 700 == 0 {
            pieces.push(Bytes::from(picture.batch(0, 3_000)?.rows.into_bytes()));
        }
    }
    pieces.push(Bytes::from(picture.batch(0, 3_000)?.rows.into_bytes()));
    let (_, seal) = picture.load(0, 3_000)?;
    writer.begin_bulk(Offset(3_000), BulkTarget::Leaf).await?;
    for piece in pieces {
        writer.copy(piece).await?;
    }
    writer.index(seal.rows).await?;
    writer.seal(&seal).await?;
    expect_pictured(writer.as_mut(), &picture).await
}

async fn a_bulk_load_may_begin_above_offset_zero(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let version = harness.registry().register(&WIDE_V1, &log()).await?.id;
    let sink = harness.sink();
    let begun = sink.take_over(TakeOver::from_anyone(
        version,
        &WIDE_V1,
        Partition(0),
        Offset(500),
    ));
    let mut writer = begun.await?;
    let mut picture = Picture::new(&WIDE_V1);
    picture.put(&int_cell(1), 1, 1, 507)?;
    let committed = bulk_load(writer.as_mut(), &mut picture, 510).await?;
    expect_equal("mark", &committed.next, &Offset(510))?;
    expect_pictured(writer.as_mut(), &picture).await
}

async fn an_empty_bulk_load_leaves_a_table_that_batches_can_write(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let mut writer = writer_of(harness, &WIDE_V1, 0).await?;
    let mut picture = Picture::new(&WIDE_V1);
    bulk_load(writer.as_mut(), &mut picture, 0).await?;
    expect("there is a table", writer.lease().has_leaf)?;
    picture.put(&int_cell(1), 1, 1, 0)?;
    writer.commit(&picture.batch(0, 1)?).await?;
    expect_pictured(writer.as_mut(), &picture).await
}

async fn a_bulk_load_that_is_dropped_leaves_nothing(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let mut writer = writer_of(harness, &WIDE_V1, 0).await?;
    let (tuples, _) = ten_rows()?.load(0, 10)?;
    writer.begin_bulk(Offset(10), BulkTarget::Leaf).await?;
    writer.copy(tuples).await?;
    drop(writer);
    expect_nothing_left(harness).await
}

async fn a_bulk_load_with_another_number_of_rows_leaves_nothing(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let mut writer = writer_of(harness, &WIDE_V1, 0).await?;
    let (tuples, seal) = ten_rows()?.load(0, 10)?;
    writer.begin_bulk(Offset(10), BulkTarget::Leaf).await?;
    writer.copy(tuples).await?;
    let result = writer.index(seal.rows + 1).await;
    expect_error("the number of rows", result, is_refused)?;
    expect_nothing_left(harness).await
}

async fn a_bulk_load_with_a_key_twice_leaves_nothing(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let mut writer = writer_of(harness, &WIDE_V1, 0).await?;
    let (tuples, seal) = ten_rows()?.load(0, 10)?;
    writer.begin_bulk(Offset(10), BulkTarget::Leaf).await?;
    writer.copy(tuples.clone()).await?;
    writer.copy(tuples).await?;
    let result = writer.index(2 * seal.rows).await;
    expect_error("the primary key", result, is_refused)?;
    expect_nothing_left(harness).await
}

async fn a_bulk_load_of_garbage_leaves_nothing(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let mut writer = writer_of(harness, &WIDE_V1, 0).await?;
    writer.begin_bulk(Offset(10), BulkTarget::Leaf).await?;
    let garbage = [b"\0\x0e".as_slice(), &[0x7f; 8_000]].concat();
    // The server may find out at once or at the end of the copy.
    let copied = writer.copy(Bytes::from(garbage)).await;
    let result = match copied {
        Ok(()) => writer.index(1).await,
        early => early,
    };
    expect_error("the copy", result, is_refused)?;
    expect_nothing_left(harness).await
}

async fn a_seal_for_another_range_leaves_nothing(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let mut writer = writer_of(harness, &WIDE_V1, 0).await?;
    let (tuples, _) = ten_rows()?.load(0, 10)?;
    let (_, seal) = ten_rows()?.load(0, 11)?;
    writer.begin_bulk(Offset(10), BulkTarget::Leaf).await?;
    writer.copy(tuples).await?;
    writer.index(10).await?;
    expect_error("the seal", writer.seal(&seal).await, is_refused)?;
    expect_nothing_left(harness).await
}

async fn a_seal_before_the_copy_ended_leaves_nothing(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let mut writer = writer_of(harness, &WIDE_V1, 0).await?;
    let (tuples, seal) = ten_rows()?.load(0, 10)?;
    writer.begin_bulk(Offset(10), BulkTarget::Leaf).await?;
    writer.copy(tuples).await?;
    expect_error("the seal", writer.seal(&seal).await, is_refused)?;
    expect_nothing_left(harness).await
}

async fn a_batch_before_the_bulk_load_is_refused(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let mut writer = writer_of(harness, &WIDE_V1, 0).await?;
    let mut picture = Picture::new(&WIDE_V1);
    picture.put(&int_cell(1), 1, 1, 0)?;
    let result = writer.commit(&picture.batch(0, 1)?).await;
    expect_error("the batch", result, is_refused)?;
    expect_nothing_left(harness).await
}

async fn a_second_bulk_load_is_refused(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let (mut writer, picture) = loaded(harness, &WIDE_V1, 0, 10).await?;
    let result = writer.begin_bulk(Offset(20), BulkTarget::Leaf).await;
    expect_error("the load", result, is_refused)?;
    let mut again = take(harness, writer.lease().version, &WIDE_V1, 0).await?;
    expect_equal("mark", &again.lease().next, &Offset(10))?;
    expect_pictured(again.as_mut(), &picture).await
}

async fn an_older_writer_cannot_begin_a_load(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let mut old = writer_of(harness, &WIDE_V1, 0).await?;
    let new = take(harness, old.lease().version, &WIDE_V1, 0).await?;
    expect_error(
        "the load",
        old.begin_bulk(Offset(10), BulkTarget::Leaf).await,
        is_fenced,
    )?;
    drop(new);
    expect_nothing_left(harness).await
}

async fn a_load_in_progress_gives_way_to_a_take_over(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let mut old = writer_of(harness, &WIDE_V1, 0).await?;
    let (tuples, seal) = ten_rows()?.load(0, 10)?;
    old.begin_bulk(Offset(10), BulkTarget::Leaf).await?;
    old.copy(tuples).await?;
    // `old` is neither dropped nor goes on: it looks like a stopped process.
    expect_nothing_left(harness).await?;
    let result = match old.index(seal.rows).await {
        Ok(()) => old.seal(&seal).await.map(drop),
        over => over,
    };
    let lost = |e: &StoreError| is_fenced(e) || matches!(e, StoreError::Disconnected(_));
    expect_error("the older load", result, lost)?;
    let (mut writer, picture) = (
        take(harness, old.lease().version, &WIDE_V1, 0).await?,
        ten_rows()?,
    );
    expect_pictured(writer.as_mut(), &picture).await
}

fn is_refused(error: &StoreError) -> bool {
    matches!(error, StoreError::Refused(_))
}
