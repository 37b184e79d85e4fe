//! What a store refuses for good.

use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;

use super::Case;
use super::Failure;
use super::StoreHarness;
use super::expect_error;
use super::fixtures::PARTITIONS;
use super::fixtures::WIDE_V1;
use super::fixtures::WIDE_V1_CHANGED;
use super::fixtures::int_cell;
use super::fixtures::loaded;
use super::fixtures::log;
use crate::sink::StoreError;
use crate::sink::TakeOver;
use crate::store_cases;

pub(super) fn cases() -> Vec<Case> {
    store_cases![
        a_version_that_does_not_exist_cannot_be_taken_over,
        a_version_built_by_other_code_cannot_be_taken_over,
        a_partition_that_the_topic_does_not_have_cannot_be_taken_over,
        a_failed_version_cannot_be_taken_over,
        a_failed_version_takes_no_further_batch,
    ]
}

async fn expect_refused(
    harness: &dyn StoreHarness,
    version: VersionId,
    spec: &ProjectionSpec,
    partition: i32,
) -> Result<(), Failure> {
    let sink = harness.sink();
    let taken = sink
        .take_over(TakeOver::from_anyone(
            version,
            spec,
            Partition(partition),
            Offset(0),
        ))
        .await;
    let lease = taken.map(|writer| writer.lease().clone());
    expect_error("the take-over", lease, is_refused)
}

async fn a_version_that_does_not_exist_cannot_be_taken_over(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    expect_refused(harness, VersionId(77), &WIDE_V1, 0).await
}

async fn a_version_built_by_other_code_cannot_be_taken_over(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let version = harness.registry().register(&WIDE_V1, &log()).await?.id;
    expect_refused(harness, version, &WIDE_V1_CHANGED, 0).await
}

async fn a_partition_that_the_topic_does_not_have_cannot_be_taken_over(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let version = harness.registry().register(&WIDE_V1, &log()).await?.id;
    expect_refused(harness, version, &WIDE_V1, PARTITIONS).await?;
    expect_refused(harness, version, &WIDE_V1, -1).await
}

async fn a_failed_version_cannot_be_taken_over(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let version = harness.registry().register(&WIDE_V1, &log()).await?.id;
    harness.registry().fail(version, "the log is gone").await?;
    expect_refused(harness, version, &WIDE_V1, 0).await
}

async fn a_failed_version_takes_no_further_batch(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (mut writer, mut picture) = loaded(harness, &WIDE_V1, 0, 10).await?;
    let version = writer.lease().version;
    harness.registry().fail(version, "the log is gone").await?;
    picture.put(&int_cell(1), 1, 2, 10)?;
    let result = writer.commit(&picture.batch(10, 11)?).await;
    expect_error("the batch", result, is_refused)
}

fn is_refused(error: &StoreError) -> bool {
    matches!(error, StoreError::Refused(_))
}
