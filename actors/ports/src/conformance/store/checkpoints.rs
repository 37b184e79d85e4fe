//! Checkpoints of long bulk loads: what a fold that was ended goes on from.

use refold_domain::position::Offset;

use super::Case;
use super::Failure;
use super::StoreHarness;
use super::expect;
use super::expect_equal;
use super::expect_error;
use super::fixtures::Picture;
use super::fixtures::WIDE_V1;
use super::fixtures::bulk_load;
use super::fixtures::checkpoint;
use super::fixtures::expect_checkpoint;
use super::fixtures::expect_pictured;
use super::fixtures::int_cell;
use super::fixtures::loaded;
use super::fixtures::take;
use super::fixtures::writer_of;
use super::writing::is_fenced;
use crate::sink::BulkTarget;
use crate::sink::PartitionWriter;
use crate::sink::StoreError;
use crate::sink::TakeOver;
use crate::store_cases;

pub(super) fn cases() -> Vec<Case> {
    store_cases![
        a_checkpoint_moves_mark_sums_and_rows_and_makes_no_leaf,
        a_checkpoint_replaces_the_one_before,
        a_checkpoint_that_is_dropped_leaves_the_one_before,
        a_load_of_the_leaf_ends_the_checkpoint,
        a_history_remembers_where_it_began,
        a_batch_on_a_checkpoint_is_refused,
        rows_of_no_checkpoint_are_refused,
        an_older_writer_cannot_checkpoint,
    ]
}

/// A writer whose checkpoint holds the keys 0..10 at mark 10.
async fn at_ten(
    harness: &dyn StoreHarness,
) -> Result<(Box<dyn PartitionWriter>, Picture), Failure> {
    let mut writer = writer_of(harness, &WIDE_V1, 0).await?;
    let mut picture = Picture::new(&WIDE_V1);
    for key in 0..10 {
        picture.put(&int_cell(key), key, 1, key)?;
    }
    picture.delete(&int_cell(3), 2, 9);
    checkpoint(writer.as_mut(), &mut picture, 10).await?;
    Ok((writer, picture))
}

async fn a_checkpoint_moves_mark_sums_and_rows_and_makes_no_leaf(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (mut writer, picture) = at_ten(harness).await?;
    expect_checkpoint(writer.as_mut(), &picture).await?;
    let mut again = take(harness, writer.lease().version, &WIDE_V1, 0).await?;
    for lease in [writer.lease(), again.lease()] {
        expect_equal("mark", &lease.next, &Offset(10))?;
        expect("there is no leaf", !lease.has_leaf)?;
        expect("there is a checkpoint", lease.has_checkpoint)?;
    }
    // Twice: the rows can be asked for as often as a fold has to begin.
    expect_checkpoint(again.as_mut(), &picture).await?;
    expect_checkpoint(again.as_mut(), &picture).await
}

async fn a_checkpoint_replaces_the_one_before(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let (mut writer, mut picture) = at_ten(harness).await?;
    picture.put(&int_cell(5), 50, 2, 12)?;
    picture.put(&int_cell(11), 11, 1, 13)?;
    checkpoint(writer.as_mut(), &mut picture, 14).await?;
    expect_checkpoint(writer.as_mut(), &picture).await?;
    let mut again = take(harness, writer.lease().version, &WIDE_V1, 0).await?;
    expect_equal("mark", &again.lease().next, &Offset(14))?;
    expect_checkpoint(again.as_mut(), &picture).await
}

async fn a_checkpoint_that_is_dropped_leaves_the_one_before(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (mut writer, picture) = at_ten(harness).await?;
    let mut changed = picture.clone();
    changed.put(&int_cell(5), 50, 2, 12)?;
    let (tuples, seal) = changed.load(10, 14)?;
    let version = writer.lease().version;
    writer
        .begin_bulk(Offset(14), BulkTarget::Checkpoint)
        .await?;
    writer.copy(tuples).await?;
    writer.index(seal.rows).await?;
    drop(writer);
    let mut again = take(harness, version, &WIDE_V1, 0).await?;
    expect_equal("mark", &again.lease().next, &Offset(10))?;
    expect_checkpoint(again.as_mut(), &picture).await
}

async fn a_load_of_the_leaf_ends_the_checkpoint(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let (mut writer, mut picture) = at_ten(harness).await?;
    picture.put(&int_cell(5), 50, 2, 12)?;
    bulk_load(writer.as_mut(), &mut picture, 13).await?;
    expect_pictured(writer.as_mut(), &picture).await?;
    let mut again = take(harness, writer.lease().version, &WIDE_V1, 0).await?;
    for lease in [writer.lease(), again.lease()] {
        expect_equal("mark", &lease.next, &Offset(13))?;
        expect("there is a leaf", lease.has_leaf)?;
        expect("there is no checkpoint", !lease.has_checkpoint)?;
    }
    expect_pictured(again.as_mut(), &picture).await?;
    picture.put(&int_cell(1), 1, 9, 13)?;
    again.commit(&picture.batch(13, 14)?).await?;
    expect_pictured(again.as_mut(), &picture).await
}

async fn a_history_remembers_where_it_began(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let (writer, _) = at_ten(harness).await?;
    let version = writer.lease().version;
    let taken = harness.sink();
    // A later log that begins further on does not move the beginning.
    let place = refold_domain::position::Partition(0);
    let again = taken
        .take_over(TakeOver::from_anyone(version, &WIDE_V1, place, Offset(7)))
        .await?;
    expect_equal("start", &again.lease().start, &Offset(0))?;
    let place = refold_domain::position::Partition(1);
    let other = taken
        .take_over(TakeOver::from_anyone(version, &WIDE_V1, place, Offset(7)))
        .await?;
    let found = (other.lease().start, other.lease().next);
    expect_equal("start and mark", &found, &(Offset(7), Offset(7)))
}

async fn a_batch_on_a_checkpoint_is_refused(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let (mut writer, mut picture) = at_ten(harness).await?;
    let kept = picture.clone();
    picture.put(&int_cell(1), 1, 9, 10)?;
    let refused = writer.commit(&picture.batch(10, 11)?).await;
    expect_error("the batch", refused, is_refused)?;
    let mut again = take(harness, writer.lease().version, &WIDE_V1, 0).await?;
    expect_equal("mark", &again.lease().next, &Offset(10))?;
    expect_checkpoint(again.as_mut(), &kept).await
}

async fn rows_of_no_checkpoint_are_refused(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let mut writer = writer_of(harness, &WIDE_V1, 0).await?;
    let refused = writer.checkpoint_rows().await;
    expect_error("no checkpoint yet", refused, is_refused)?;
    let (mut writer, _) = loaded(harness, &WIDE_V1, 1, 3).await?;
    let refused = writer.checkpoint_rows().await;
    expect_error("none any more", refused, is_refused)
}

async fn an_older_writer_cannot_checkpoint(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let (mut old, picture) = at_ten(harness).await?;
    let mut new = take(harness, old.lease().version, &WIDE_V1, 0).await?;
    let fenced = old.begin_bulk(Offset(20), BulkTarget::Checkpoint).await;
    expect_error("the checkpoint", fenced, is_fenced)?;
    expect_checkpoint(new.as_mut(), &picture).await
}

fn is_refused(error: &StoreError) -> bool {
    matches!(error, StoreError::Refused(_))
}
