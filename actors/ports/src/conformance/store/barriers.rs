//! Barriers as a writer meets them.

use refold_domain::barrier::OffsetVector;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;

use super::Case;
use super::Failure;
use super::StoreHarness;
use super::expect;
use super::expect_equal;
use super::expect_error;
use super::fixtures::PARTITIONS;
use super::fixtures::Picture;
use super::fixtures::WIDE_V1;
use super::fixtures::WIDE_V2;
use super::fixtures::expect_pictured;
use super::fixtures::int_cell;
use super::fixtures::loaded;
use super::fixtures::take;
use crate::sink::PartitionWriter;
use crate::sink::StoreError;
use crate::store_cases;

pub(super) fn cases() -> Vec<Case> {
    store_cases![
        a_batch_past_a_barrier_is_cut_there_and_nothing_is_in,
        writers_are_told_of_a_barrier_above_their_mark,
        sums_are_recorded_at_exactly_the_switch_offset,
        a_barrier_that_was_withdrawn_cuts_no_batch,
        a_barrier_that_was_replaced_cuts_no_batch,
    ]
}

/// A version with both partitions loaded up to offset 10.
pub(crate) struct Built {
    /// Its id.
    pub(crate) version: VersionId,
    /// The writer of partition 0.
    pub(crate) writer: Box<dyn PartitionWriter>,
    /// What partition 0 holds.
    pub(crate) picture: Picture,
}

/// Loads both partitions of a version and makes it ready.
///
/// # Errors
/// Whatever the store answers.
pub(crate) async fn ready(
    harness: &dyn StoreHarness,
    spec: &ProjectionSpec,
) -> Result<Built, Failure> {
    for partition in 1..PARTITIONS {
        loaded(harness, spec, partition, 10).await?;
    }
    let (writer, picture) = loaded(harness, spec, 0, 10).await?;
    let version = writer.lease().version;
    let ready = harness.registry().make_ready(version).await?;
    expect("the version is ready", ready)?;
    Ok(Built {
        version,
        writer,
        picture,
    })
}

/// An active version and a ready one of the same rows.
///
/// # Errors
/// Whatever the store answers.
pub(crate) async fn ready_pair(harness: &dyn StoreHarness) -> Result<(Built, Built), Failure> {
    let old = ready(harness, &WIDE_V1).await?;
    harness
        .registry()
        .activate_first(old.version, "test", None)
        .await?;
    Ok((old, ready(harness, &WIDE_V2).await?))
}

impl Built {
    /// Commits `[from, to)` with one row changed per offset.
    ///
    /// # Errors
    /// Whatever the store answers.
    pub(crate) async fn advance(&mut self, from: i64, to: i64) -> Result<Option<Offset>, Failure> {
        for off in from..to {
            let seq = off - 8;
            self.picture.put(&int_cell(off % 10), off, seq, off)?;
        }
        let committed = self.writer.commit(&self.picture.batch(from, to)?).await?;
        Ok(committed.switch)
    }
}

fn vector(first: i64) -> OffsetVector {
    [(Partition(0), Offset(first)), (Partition(1), Offset(10))].into()
}

async fn a_batch_past_a_barrier_is_cut_there_and_nothing_is_in(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (mut old, mut new) = ready_pair(harness).await?;
    old.advance(10, 20).await?;
    let barrier = harness
        .registry()
        .set_barrier(old.version, new.version)
        .await?;
    expect_equal("switch vector", &barrier.switch, &vector(20))?;
    let before = new.picture.clone();
    let mut ahead = new.picture.clone();
    ahead.put(&int_cell(1), 99, 2, 29)?;
    let result = new.writer.commit(&ahead.batch(10, 30)?).await;
    let cut = |e: &StoreError| *e == StoreError::CutAt { at: Offset(20) };
    expect_error("a batch over the barrier", result, cut)?;
    expect_pictured(new.writer.as_mut(), &before).await?;
    let progress = harness.registry().barrier_progress(barrier.id).await?;
    let missing = vec![(new.version, Partition(0), 10)];
    expect_equal("who is waited for", &progress.waiting, &missing)?;
    let complete = harness.registry().barrier_is_complete(barrier.id).await?;
    expect("a barrier that waits is not complete", !complete)?;
    // The same writer goes on with the shorter batch, and then with the rest.
    new.advance(10, 20).await?;
    let progress = harness.registry().barrier_progress(barrier.id).await?;
    expect("the barrier is complete", progress.is_complete())?;
    let complete = harness.registry().barrier_is_complete(barrier.id).await?;
    expect("whoever asks for that alone hears the same", complete)?;
    new.advance(20, 30).await?;
    expect_pictured(new.writer.as_mut(), &new.picture).await
}

async fn writers_are_told_of_a_barrier_above_their_mark(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (mut old, mut new) = ready_pair(harness).await?;
    expect_equal("no barrier", &old.advance(10, 20).await?, &None)?;
    harness
        .registry()
        .set_barrier(old.version, new.version)
        .await?;
    let told = Some(Offset(20));
    expect_equal("by a commit", &new.advance(10, 15).await?, &told)?;
    expect_equal("in the lease", &new.writer.lease().switch, &told)?;
    new.writer = take(harness, new.version, &WIDE_V2, 0).await?;
    expect_equal("by a take-over", &new.writer.lease().switch, &told)?;
    expect_equal("not at the barrier", &new.advance(15, 20).await?, &None)
}

async fn sums_are_recorded_at_exactly_the_switch_offset(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (mut old, mut new) = ready_pair(harness).await?;
    old.advance(10, 20).await?;
    let barrier = harness
        .registry()
        .set_barrier(old.version, new.version)
        .await?;
    // The serving version goes on; its sums at 20 stay recorded.
    old.advance(20, 33).await?;
    new.advance(10, 17).await?;
    new.advance(17, 20).await?;
    new.advance(20, 21).await?;
    let columns = WIDE_V2.same_columns();
    let proof = harness
        .registry()
        .compare_at_barrier(barrier.id, &WIDE_V1, &WIDE_V2, &columns)
        .await?;
    expect_equal("differences", &proof.differences, &vec![])?;
    let rows = [(old.version, 20), (new.version, 20)].into();
    expect_equal("rows", &proof.rows, &rows)
}

async fn a_barrier_that_was_withdrawn_cuts_no_batch(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (mut old, mut new) = ready_pair(harness).await?;
    old.advance(10, 20).await?;
    let barrier = harness
        .registry()
        .set_barrier(old.version, new.version)
        .await?;
    harness.registry().drop_barrier(barrier.id).await?;
    expect_equal("switch", &new.advance(10, 30).await?, &None)
}

async fn a_barrier_that_was_replaced_cuts_no_batch(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (mut old, mut new) = ready_pair(harness).await?;
    old.advance(10, 15).await?;
    harness
        .registry()
        .set_barrier(old.version, new.version)
        .await?;
    old.advance(15, 20).await?;
    let second = harness
        .registry()
        .set_barrier(old.version, new.version)
        .await?;
    expect_equal("switch vector", &second.switch, &vector(20))?;
    expect_equal("switch", &new.advance(10, 18).await?, &Some(Offset(20)))
}
