//! From building, ready or failed to building.

use refold_domain::parking::ParkedEvent;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;
use refold_domain::version::VersionState;

use super::compared_barrier;
use super::is_conflict;
use super::request;
use super::state_of;
use crate::conformance::store::Case;
use crate::conformance::store::Failure;
use crate::conformance::store::StoreHarness;
use crate::conformance::store::barriers::ready;
use crate::conformance::store::barriers::ready_pair;
use crate::conformance::store::expect;
use crate::conformance::store::expect_equal;
use crate::conformance::store::expect_error;
use crate::conformance::store::fixtures::PARTITIONS;
use crate::conformance::store::fixtures::WIDE_V1;
use crate::conformance::store::fixtures::WIDE_V2;
use crate::conformance::store::fixtures::WIDE_V2_CHANGED;
use crate::conformance::store::fixtures::expect_pictured;
use crate::conformance::store::fixtures::log;
use crate::conformance::store::fixtures::take;
use crate::conformance::store::fixtures::writer_of;
use crate::registry::MarkRow;
use crate::registry::RegistryError;
use crate::registry::ResetRequest;
use crate::sink::BulkTarget;
use crate::sink::StoreError;
use crate::sink::TakeOver;
use crate::store_cases;

pub(super) fn cases() -> Vec<Case> {
    store_cases![
        only_a_build_is_reset,
        a_version_that_is_reset_begins_where_it_is_taken_over,
        whoever_wrote_before_a_reset_writes_no_more,
        a_reset_version_is_built_by_other_code_and_columns,
        what_was_proven_before_a_reset_lets_no_promotion_through,
        a_build_that_failed_half_way_is_reset,
    ]
}

fn again(version: VersionId, spec: &ProjectionSpec) -> ResetRequest {
    ResetRequest {
        version,
        spec: spec.clone(),
        actor: "a case".to_owned(),
        reason: "once more".to_owned(),
    }
}

async fn fail_and_reset(
    harness: &dyn StoreHarness,
    version: VersionId,
    spec: &ProjectionSpec,
) -> Result<(), Failure> {
    let registry = harness.registry();
    registry.fail(version, "the fold is wrong").await?;
    registry.reset(&again(version, spec)).await?;
    let state = state_of(harness, version).await?;
    expect_equal("its state", &state, &VersionState::Building)
}

async fn only_a_build_is_reset(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let (old, new) = ready_pair(harness).await?;
    let registry = harness.registry();
    let refused = registry.reset(&again(old.version, &WIDE_V1)).await;
    expect_error("a reset of what serves", refused, is_conflict)?;
    let refused = registry.reset(&again(new.version, &WIDE_V1)).await;
    expect_error("code of another label", refused, is_conflict)?;
    let state = state_of(harness, new.version).await?;
    expect_equal("the state of what is ready", &state, &VersionState::Ready)?;
    let marks = registry.marks(new.version).await?;
    expect("its tables are there", marks.iter().all(|m| m.has_leaf))?;
    // Ready, then building: both are builds.
    for _ in 0..2 {
        registry.reset(&again(new.version, &WIDE_V2)).await?;
        let state = state_of(harness, new.version).await?;
        expect_equal("its state", &state, &VersionState::Building)?;
    }
    ready(harness, &WIDE_V2).await?;
    let pair = ((old.version, &WIDE_V1), (new.version, &WIDE_V2));
    let barrier = compared_barrier(harness, pair.0, pair.1).await?;
    let order = request(new.version, barrier);
    registry.promote(&order, &WIDE_V1, &WIDE_V2).await?;
    let refused = registry.reset(&again(old.version, &WIDE_V1)).await;
    expect_error("a reset of the way back", refused, is_conflict)?;
    let state = state_of(harness, old.version).await?;
    expect_equal("its state", &state, &VersionState::Previous)?;
    registry.retire(old.version, "a case", "enough").await?;
    let refused = registry.reset(&again(old.version, &WIDE_V1)).await;
    expect_error("a reset of what is retired", refused, is_conflict)
}

async fn a_version_that_is_reset_begins_where_it_is_taken_over(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (_, mut new) = ready_pair(harness).await?;
    let mut batch = new.picture.batch(10, 11)?;
    batch.parked = vec![ParkedEvent {
        offset: Offset(10),
        key: b"an account".to_vec(),
        reason: "no such event".to_owned(),
        value: None,
    }];
    new.writer.commit(&batch).await?;
    let before = harness.registry().marks(new.version).await?;
    fail_and_reset(harness, new.version, &WIDE_V2).await?;
    let note = harness.registry().version("wide_v2").await?.note;
    expect_equal("the note", &note.as_deref(), &Some("once more"))?;
    let marks = harness.registry().marks(new.version).await?;
    let bare = |m: &MarkRow| !m.has_leaf && !m.reached_log_end && m.rows == 0;
    expect("no mark is left of the build", marks.iter().all(bare))?;
    let risen = marks.iter().zip(&before).all(|(m, b)| m.epoch > b.epoch);
    expect("every epoch rises", risen && marks.len() == before.len())?;
    // The head of the log has moved on meanwhile.
    let (version, start) = (new.version, Offset(5));
    let wanted = TakeOver::from_anyone(version, &WIDE_V2, Partition(0), start);
    let writer = harness.sink().take_over(wanted).await?;
    let lease = writer.lease();
    expect_equal(
        "where it begins",
        &(lease.start, lease.next),
        &(start, start),
    )?;
    expect("nothing is there", !lease.has_leaf && !lease.has_checkpoint)?;
    expect_equal("its rows", &lease.sums.rows(), &0)?;
    let parked = lease.parking.tainted().count();
    expect_equal("aggregates that are put aside", &parked, &0)?;
    // The first take-over said so; a later one finds it.
    let writer = take(harness, version, &WIDE_V2, 0).await?;
    expect_equal("where it stands", &writer.lease().next, &start)
}

async fn whoever_wrote_before_a_reset_writes_no_more(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (_, mut new) = ready_pair(harness).await?;
    fail_and_reset(harness, new.version, &WIDE_V2).await?;
    let late = new.writer.commit(&new.picture.batch(10, 11)?).await;
    expect("a batch of before is refused", late.is_err())?;
    let built = ready(harness, &WIDE_V2).await?;
    expect_equal("the version", &built.version, &new.version)?;
    // It stands where the writer of before stood: only the epoch tells them apart.
    let late = new.writer.commit(&new.picture.batch(10, 11)?).await;
    expect("and refused when it is built again", late.is_err())?;
    let mut writer = built.writer;
    expect_pictured(writer.as_mut(), &built.picture).await
}

async fn a_reset_version_is_built_by_other_code_and_columns(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (_, new) = ready_pair(harness).await?;
    let changed = harness.registry().register(&WIDE_V2_CHANGED, &log()).await;
    let other = |e: &RegistryError| matches!(e, RegistryError::CodeChanged { .. });
    expect_error("other code without a reset", changed, other)?;
    fail_and_reset(harness, new.version, &WIDE_V2_CHANGED).await?;
    let stale = harness.registry().register(&WIDE_V2, &log()).await;
    expect_error("the code of before", stale, other)?;
    let stale = take(harness, new.version, &WIDE_V2, 0).await;
    expect("no partition for the code of before", stale.is_err())?;
    let mut built = ready(harness, &WIDE_V2_CHANGED).await?;
    expect_equal("the version", &built.version, &new.version)?;
    expect_pictured(built.writer.as_mut(), &built.picture).await
}

async fn what_was_proven_before_a_reset_lets_no_promotion_through(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (old, new) = ready_pair(harness).await?;
    let pair = ((old.version, &WIDE_V1), (new.version, &WIDE_V2));
    let barrier = compared_barrier(harness, pair.0, pair.1).await?;
    fail_and_reset(harness, new.version, &WIDE_V2).await?;
    let registry = harness.registry();
    let order = request(new.version, barrier);
    let early = registry.promote(&order, &WIDE_V1, &WIDE_V2).await;
    expect("a version that is building is not promoted", early.is_err())?;
    ready(harness, &WIDE_V2).await?;
    let stale = registry.promote(&order, &WIDE_V1, &WIDE_V2).await;
    expect("nor by a comparison of the rows of before", stale.is_err())?;
    let barrier = compared_barrier(harness, pair.0, pair.1).await?;
    let order = request(new.version, barrier);
    let promotion = registry.promote(&order, &WIDE_V1, &WIDE_V2).await?;
    expect("a comparison of the new rows is enough", promotion.changed)
}

async fn a_build_that_failed_half_way_is_reset(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let mut writer = writer_of(harness, &WIDE_V2, 0).await?;
    let version = writer.lease().version;
    fail_and_reset(harness, version, &WIDE_V2).await?;
    let late = writer.begin_bulk(Offset(4), BulkTarget::Leaf);
    let fenced = |e: &StoreError| !matches!(e, StoreError::Retry(_));
    expect_error("a load of before", late.await, fenced)?;
    let built = ready(harness, &WIDE_V2).await?;
    expect_equal("the version", &built.version, &version)?;
    let marks = harness.registry().marks(version).await?;
    expect_equal("partitions", &marks.len(), &(PARTITIONS as usize))
}
