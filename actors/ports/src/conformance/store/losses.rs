//! Connections that break around a commit: the outcome is unknown until a
//! take-over tells it.

use refold_domain::position::Offset;

use super::Break;
use super::Case;
use super::Failure;
use super::StoreHarness;
use super::expect_equal;
use super::expect_error;
use super::fixtures::Picture;
use super::fixtures::WIDE_V1;
use super::fixtures::expect_pictured;
use super::fixtures::int_cell;
use super::fixtures::loaded;
use super::fixtures::take;
use super::fixtures::writer_of;
use super::writing::is_over;
use crate::sink::BulkTarget;
use crate::store_cases;

pub(super) fn cases() -> Vec<Case> {
    store_cases![
        a_batch_whose_commit_never_arrived_is_not_in,
        a_batch_whose_answer_was_lost_is_in,
        a_load_whose_commit_never_arrived_is_not_in,
        a_load_whose_answer_was_lost_is_in,
    ]
}

async fn a_batch_whose_commit_never_arrived_is_not_in(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    lose_batch(harness, Break::Before).await
}

async fn a_batch_whose_answer_was_lost_is_in(harness: &dyn StoreHarness) -> Result<(), Failure> {
    lose_batch(harness, Break::After).await
}

async fn lose_batch(harness: &dyn StoreHarness, moment: Break) -> Result<(), Failure> {
    let (mut writer, mut picture) = loaded(harness, &WIDE_V1, 0, 10).await?;
    let before = picture.clone();
    picture.put(&int_cell(3), 33, 2, 10)?;
    picture.put(&int_cell(70), 70, 1, 11)?;
    let batch = picture.batch(10, 12)?;
    harness.break_next_commit(moment);
    expect_error("the commit", writer.commit(&batch).await, is_over)?;
    expect_error("the next call", writer.commit(&batch).await, is_over)?;
    let mut again = take(harness, writer.lease().version, &WIDE_V1, 0).await?;
    match moment {
        Break::Before => {
            expect_equal("mark", &again.lease().next, &Offset(10))?;
            expect_pictured(again.as_mut(), &before).await?;
            again.commit(&batch).await?;
        }
        Break::After => expect_equal("mark", &again.lease().next, &Offset(12))?,
    }
    expect_pictured(again.as_mut(), &picture).await
}

async fn a_load_whose_commit_never_arrived_is_not_in(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    lose_load(harness, Break::Before).await
}

async fn a_load_whose_answer_was_lost_is_in(harness: &dyn StoreHarness) -> Result<(), Failure> {
    lose_load(harness, Break::After).await
}

async fn lose_load(harness: &dyn StoreHarness, moment: Break) -> Result<(), Failure> {
    let mut writer = writer_of(harness, &WIDE_V1, 0).await?;
    let mut picture = Picture::new(&WIDE_V1);
    picture.put(&int_cell(3), 33, 2, 5)?;
    let (tuples, seal) = picture.load(0, 12)?;
    writer.begin_bulk(Offset(12), BulkTarget::Leaf).await?;
    writer.copy(tuples).await?;
    writer.index(seal.rows).await?;
    harness.break_next_commit(moment);
    expect_error("the commit", writer.seal(&seal).await, is_over)?;
    let mut again = take(harness, writer.lease().version, &WIDE_V1, 0).await?;
    let there = moment == Break::After;
    expect_equal("table", &again.lease().has_leaf, &there)?;
    let mark = if there { 12 } else { 0 };
    expect_equal("mark", &again.lease().next, &Offset(mark))?;
    if there {
        expect_pictured(again.as_mut(), &picture).await?;
    }
    Ok(())
}
