//! From previous to dropped.

use std::time::Duration;

use refold_domain::version::VersionState;

use super::compared_barrier;
use super::is_conflict;
use super::request;
use super::state_of;
use crate::conformance::store::Case;
use crate::conformance::store::Failure;
use crate::conformance::store::StoreHarness;
use crate::conformance::store::barriers::ready_pair;
use crate::conformance::store::expect;
use crate::conformance::store::expect_equal;
use crate::conformance::store::expect_error;
use crate::conformance::store::fixtures::WIDE_V1;
use crate::conformance::store::fixtures::WIDE_V2;
use crate::conformance::store::fixtures::log;
use crate::store_cases;

pub(super) fn cases() -> Vec<Case> {
    store_cases![
        the_active_version_cannot_be_retired,
        a_retired_version_is_written_and_promoted_no_more,
        retiring_twice_changes_nothing,
        a_retired_version_keeps_its_tables_for_the_grace,
        a_version_that_is_not_retired_is_not_dropped,
        a_dropped_version_has_no_marks_and_cannot_come_back,
        a_build_can_be_given_up,
    ]
}

async fn the_active_version_cannot_be_retired(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let (old, _) = ready_pair(harness).await?;
    let refused = harness
        .registry()
        .retire(old.version, "test", "why not")
        .await;
    expect_error("retiring what serves", refused, is_conflict)?;
    expect_equal(
        "its state",
        &state_of(harness, old.version).await?,
        &VersionState::Active,
    )
}

async fn a_retired_version_is_written_and_promoted_no_more(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (old, mut new) = ready_pair(harness).await?;
    let barrier =
        compared_barrier(harness, (old.version, &WIDE_V1), (new.version, &WIDE_V2)).await?;
    let registry = harness.registry();
    registry.retire(new.version, "test", "wrong turn").await?;
    let batch = new.picture.batch(10, 11)?;
    let written = new.writer.commit(&batch).await;
    expect("a batch is refused", written.is_err())?;
    let promoted = registry
        .promote(&request(new.version, barrier), &WIDE_V1, &WIDE_V2)
        .await;
    expect("a switch is refused", promoted.is_err())?;
    let set = registry.set_barrier(old.version, new.version).await;
    expect("a barrier is refused", set.is_err())?;
    let active = registry.active("wide").await?;
    expect_equal("who serves", &active.map(|a| a.version), &Some(old.version))
}

async fn retiring_twice_changes_nothing(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let (_, new) = ready_pair(harness).await?;
    let registry = harness.registry();
    registry.retire(new.version, "test", "first").await?;
    registry.retire(new.version, "test", "second").await?;
    let row = registry.version("wide_v2").await?;
    expect_equal("the note", &row.note.as_deref(), &Some("first"))
}

async fn a_retired_version_keeps_its_tables_for_the_grace(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (_, new) = ready_pair(harness).await?;
    let registry = harness.registry();
    registry.retire(new.version, "test", "done with").await?;
    let early = registry.drop_retired(new.version, Duration::from_secs(3_600), "test");
    expect_error("dropping within the grace", early.await, is_conflict)?;
    expect_equal(
        "its state",
        &state_of(harness, new.version).await?,
        &VersionState::Retired,
    )?;
    let marks = registry.marks(new.version).await?;
    expect("its marks are there", !marks.is_empty())
}

async fn a_version_that_is_not_retired_is_not_dropped(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (old, new) = ready_pair(harness).await?;
    for version in [old.version, new.version] {
        let dropped = harness
            .registry()
            .drop_retired(version, Duration::ZERO, "test");
        expect_error("dropping what is not retired", dropped.await, is_conflict)?;
    }
    Ok(())
}

async fn a_dropped_version_has_no_marks_and_cannot_come_back(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (_, new) = ready_pair(harness).await?;
    let registry = harness.registry();
    registry.retire(new.version, "test", "done with").await?;
    for _ in 0..2 {
        registry
            .drop_retired(new.version, Duration::ZERO, "test")
            .await?;
    }
    expect_equal(
        "its state",
        &state_of(harness, new.version).await?,
        &VersionState::Dropped,
    )?;
    let marks = registry.marks(new.version).await?;
    expect("no mark is left", marks.is_empty())?;
    let ready = registry.make_ready(new.version).await;
    expect_error("making it ready", ready, is_conflict)?;
    let retired = registry.retire(new.version, "test", "again").await;
    expect_error("retiring it", retired, is_conflict)
}

async fn a_build_can_be_given_up(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let registry = harness.registry();
    let version = registry.register(&WIDE_V1, &log()).await?.id;
    registry.retire(version, "test", "given up").await?;
    registry
        .drop_retired(version, Duration::ZERO, "test")
        .await?;
    expect_equal(
        "its state",
        &state_of(harness, version).await?,
        &VersionState::Dropped,
    )
}
