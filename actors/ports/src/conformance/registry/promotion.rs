//! The switch from one version to another.

use std::time::Duration;

use refold_domain::batch::EventGap;
use refold_domain::cutover::Forced;
use refold_domain::cutover::Gate;
use refold_domain::position::Offset;
use refold_domain::sums::APPLIED_SEQ;
use refold_domain::version::VersionState;

use super::compared_barrier;
use super::is_conflict;
use super::refused_by;
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
use crate::conformance::store::fixtures::BY_TEXT;
use crate::conformance::store::fixtures::WIDE_V1;
use crate::conformance::store::fixtures::WIDE_V2;
use crate::conformance::store::fixtures::WIDE_V3;
use crate::conformance::store::fixtures::int_cell;
use crate::conformance::store::fixtures::log;
use crate::registry::ActiveRow;
use crate::registry::PromoteRequest;
use crate::registry::RegistryError;
use crate::store_cases;

pub(super) fn cases() -> Vec<Case> {
    store_cases![
        a_promotion_moves_the_active_row_and_both_states,
        promoting_the_active_version_again_answers_the_first_promotion,
        a_dry_run_judges_and_changes_nothing,
        a_missing_scan_holds_back_and_is_forced_alone_with_a_reason,
        a_promotion_that_saw_another_generation_is_refused,
        of_two_promotions_at_once_one_switches,
        a_candidate_that_is_short_of_the_vector_is_refused,
        sums_that_were_not_compared_prove_nothing,
        a_row_that_differs_holds_the_promotion_back,
        a_missing_event_holds_the_promotion_back,
        a_candidate_too_far_behind_is_refused,
        a_barrier_of_other_versions_proves_nothing,
        a_barrier_that_was_withdrawn_proves_nothing,
        the_previous_version_is_promoted_back_by_a_fresh_barrier,
        a_barrier_wants_two_built_versions_of_one_projection,
        a_barrier_that_is_not_complete_is_not_compared,
        a_column_that_one_side_lacks_differs,
    ]
}

async fn a_promotion_moves_the_active_row_and_both_states(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (old, new) = ready_pair(harness).await?;
    let barrier =
        compared_barrier(harness, (old.version, &WIDE_V1), (new.version, &WIDE_V2)).await?;
    let request = request(new.version, barrier);
    let promotion = harness
        .registry()
        .promote(&request, &WIDE_V1, &WIDE_V2)
        .await?;
    expect_equal("from", &promotion.from, &Some(old.version))?;
    expect_equal("to", &promotion.to, &new.version)?;
    expect_equal("generation", &promotion.generation, &2)?;
    expect_equal("changed", &promotion.changed, &true)?;
    expect("every gate is ok", promotion.gates.iter().all(|g| g.ok))?;
    let offsets: Vec<_> = promotion.switch.values().copied().collect();
    expect_equal("switch vector", &offsets, &vec![Offset(10), Offset(10)])?;
    let active = harness.registry().active("wide").await?;
    let wanted = ActiveRow {
        version: new.version,
        generation: 2,
    };
    expect_equal("active row", &active, &Some(wanted))?;
    expect_equal(
        "old",
        &state_of(harness, old.version).await?,
        &VersionState::Previous,
    )?;
    expect_equal(
        "new",
        &state_of(harness, new.version).await?,
        &VersionState::Active,
    )
}

async fn promoting_the_active_version_again_answers_the_first_promotion(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (old, new) = ready_pair(harness).await?;
    let barrier =
        compared_barrier(harness, (old.version, &WIDE_V1), (new.version, &WIDE_V2)).await?;
    let first = PromoteRequest {
        if_generation: Some(1),
        ..request(new.version, barrier)
    };
    let registry = harness.registry();
    let promotion = registry.promote(&first, &WIDE_V1, &WIDE_V2).await?;
    // Also with the generation that the client saw before it lost the answer, and without a barrier.
    for again in [first, request(new.version, 0)] {
        let again = registry.promote(&again, &WIDE_V2, &WIDE_V2).await?;
        expect_equal("changed", &again.changed, &false)?;
        expect_equal("id", &again.id, &promotion.id)?;
        expect_equal("from", &again.from, &promotion.from)?;
        expect_equal("switch vector", &again.switch, &promotion.switch)?;
        expect_equal("gates", &again.gates, &promotion.gates)?;
        expect_equal("generation", &again.generation, &2)?;
    }
    Ok(())
}

async fn a_dry_run_judges_and_changes_nothing(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let (old, new) = ready_pair(harness).await?;
    let barrier =
        compared_barrier(harness, (old.version, &WIDE_V1), (new.version, &WIDE_V2)).await?;
    let look = PromoteRequest {
        dry_run: true,
        ..request(new.version, barrier)
    };
    let registry = harness.registry();
    let seen = registry.promote(&look, &WIDE_V1, &WIDE_V2).await?;
    expect_equal("changed", &seen.changed, &false)?;
    expect_equal("gates that were judged", &seen.gates.len(), &6)?;
    expect_equal(
        "old",
        &state_of(harness, old.version).await?,
        &VersionState::Active,
    )?;
    let active = registry.active("wide").await?;
    let generation = active.map(|a| a.generation);
    expect_equal("generation", &generation, &Some(1))?;
    // The same barrier still serves the promotion itself.
    let request = request(new.version, barrier);
    let promotion = registry.promote(&request, &WIDE_V1, &WIDE_V2).await?;
    expect_equal("changed", &promotion.changed, &true)
}

async fn a_missing_scan_holds_back_and_is_forced_alone_with_a_reason(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (old, new) = ready_pair(harness).await?;
    let barrier =
        compared_barrier(harness, (old.version, &WIDE_V1), (new.version, &WIDE_V2)).await?;
    let wanting = PromoteRequest {
        max_scan_age: Some(Duration::from_secs(60)),
        ..request(new.version, barrier)
    };
    let forced_by = |gate| PromoteRequest {
        forced: Some(Forced {
            gate,
            reason: "known and waited for".to_owned(),
        }),
        ..wanting.clone()
    };
    let registry = harness.registry();
    for request in [&wanting, &forced_by(Gate::Lag), &forced_by(Gate::CaughtUp)] {
        let refused = registry.promote(request, &WIDE_V1, &WIDE_V2).await;
        expect_error("a switch without a scan", refused, |e| {
            refused_by(e, Gate::Verified)
        })?;
    }
    let promotion = registry
        .promote(&forced_by(Gate::Verified), &WIDE_V1, &WIDE_V2)
        .await?;
    let forced = promotion.gates.iter().filter(|g| g.forced.is_some());
    let forced: Vec<_> = forced.map(|g| (g.gate, g.ok)).collect();
    expect_equal("what was forced", &forced, &vec![(Gate::Verified, false)])?;
    // Who asks again is told so too.
    let again = registry.promote(&wanting, &WIDE_V2, &WIDE_V2).await?;
    expect_equal("gates", &again.gates, &promotion.gates)
}

async fn a_promotion_that_saw_another_generation_is_refused(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (old, new) = ready_pair(harness).await?;
    let barrier =
        compared_barrier(harness, (old.version, &WIDE_V1), (new.version, &WIDE_V2)).await?;
    let stale = PromoteRequest {
        if_generation: Some(7),
        ..request(new.version, barrier)
    };
    let refused = harness.registry().promote(&stale, &WIDE_V1, &WIDE_V2).await;
    let wanted = RegistryError::GenerationChanged {
        wanted: 7,
        found: 1,
    };
    expect_error("another generation", refused, |e| *e == wanted)?;
    expect_equal(
        "old",
        &state_of(harness, old.version).await?,
        &VersionState::Active,
    )
}

async fn of_two_promotions_at_once_one_switches(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let (old, new) = ready_pair(harness).await?;
    let barrier =
        compared_barrier(harness, (old.version, &WIDE_V1), (new.version, &WIDE_V2)).await?;
    let request = request(new.version, barrier);
    let registry = harness.registry();
    let (one, other) = tokio::join!(
        registry.promote(&request, &WIDE_V1, &WIDE_V2),
        registry.promote(&request, &WIDE_V1, &WIDE_V2),
    );
    let (one, other) = (one?, other?);
    expect_equal(
        "switches",
        &(u8::from(one.changed) + u8::from(other.changed)),
        &1,
    )?;
    expect_equal("the same promotion", &one.id, &other.id)?;
    expect_equal("generation", &(one.generation, other.generation), &(2, 2))
}

async fn a_candidate_that_is_short_of_the_vector_is_refused(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (mut old, new) = ready_pair(harness).await?;
    old.advance(10, 15).await?;
    let registry = harness.registry();
    let barrier = registry.set_barrier(old.version, new.version).await?;
    let progress = registry.barrier_progress(barrier.id).await?;
    expect_equal("acks", &(progress.acked, progress.wanted), &(3, 4))?;
    let missing: Vec<_> = progress
        .waiting
        .iter()
        .map(|(v, p, n)| (*v, p.0, *n))
        .collect();
    expect_equal("who is missing", &missing, &vec![(new.version, 0, 5)])?;
    let request = request(new.version, barrier.id);
    let refused = registry.promote(&request, &WIDE_V1, &WIDE_V2).await;
    expect_error("a candidate that is behind", refused, |e| match e {
        RegistryError::GateRefused(reports) => {
            reports.iter().any(|r| r.gate == Gate::CaughtUp && !r.ok)
        }
        _ => false,
    })
}

async fn sums_that_were_not_compared_prove_nothing(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (old, new) = ready_pair(harness).await?;
    let registry = harness.registry();
    let barrier = registry.set_barrier(old.version, new.version).await?;
    let request = request(new.version, barrier.id);
    let refused = registry.promote(&request, &WIDE_V1, &WIDE_V2).await;
    expect_error("no comparison", refused, |e| refused_by(e, Gate::Verified))
}

async fn a_row_that_differs_holds_the_promotion_back(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (mut old, mut new) = ready_pair(harness).await?;
    old.picture.put(&int_cell(4), 77, 2, 10)?;
    old.writer.commit(&old.picture.batch(10, 11)?).await?;
    new.picture.put(&int_cell(4), 78, 2, 10)?;
    new.writer.commit(&new.picture.batch(10, 11)?).await?;
    let registry = harness.registry();
    let barrier = registry.set_barrier(old.version, new.version).await?;
    let columns = WIDE_V2.same_columns();
    let proof = registry.compare_at_barrier(barrier.id, &WIDE_V1, &WIDE_V2, &columns);
    let proof = proof.await?;
    let total = proof.differences.iter().find(|d| d.column == "total");
    let total = total.ok_or_else(|| Failure("column total does not differ".to_owned()))?;
    expect_equal("partition", &total.partition.0, &0)?;
    expect_equal("buckets", &total.buckets.len(), &1)?;
    let rows: Vec<_> = proof.rows.values().copied().collect();
    expect_equal("rows of both", &rows, &vec![20, 20])?;
    let request = request(new.version, barrier.id);
    let refused = registry.promote(&request, &WIDE_V1, &WIDE_V2).await;
    expect_error("a different row", refused, |e| {
        refused_by(e, Gate::Verified)
    })?;
    expect_equal(
        "old",
        &state_of(harness, old.version).await?,
        &VersionState::Active,
    )
}

async fn a_missing_event_holds_the_promotion_back(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (mut old, mut new) = ready_pair(harness).await?;
    old.advance(10, 11).await?;
    new.picture.gaps.push(EventGap {
        key: "2".to_owned(),
        offset: Offset(10),
        expected: 2,
        found: 3,
    });
    new.advance(10, 11).await?;
    let barrier =
        compared_barrier(harness, (old.version, &WIDE_V1), (new.version, &WIDE_V2)).await?;
    let request = request(new.version, barrier);
    let refused = harness
        .registry()
        .promote(&request, &WIDE_V1, &WIDE_V2)
        .await;
    expect_error("a gap", refused, |e| refused_by(e, Gate::Gaps))
}

async fn a_candidate_too_far_behind_is_refused(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let (mut old, new) = ready_pair(harness).await?;
    let barrier =
        compared_barrier(harness, (old.version, &WIDE_V1), (new.version, &WIDE_V2)).await?;
    old.advance(10, 15).await?;
    let registry = harness.registry();
    let near = |allowed_lag| PromoteRequest {
        allowed_lag,
        ..request(new.version, barrier)
    };
    let refused = registry.promote(&near(4), &WIDE_V1, &WIDE_V2).await;
    expect_error("five events behind", refused, |e| refused_by(e, Gate::Lag))?;
    let promotion = registry.promote(&near(5), &WIDE_V1, &WIDE_V2).await?;
    expect_equal("changed", &promotion.changed, &true)
}

async fn a_barrier_of_other_versions_proves_nothing(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (old, new) = ready_pair(harness).await?;
    let third = ready(harness, &WIDE_V3).await?;
    let barrier =
        compared_barrier(harness, (old.version, &WIDE_V1), (new.version, &WIDE_V2)).await?;
    let request = request(third.version, barrier);
    let refused = harness
        .registry()
        .promote(&request, &WIDE_V1, &WIDE_V3)
        .await;
    expect_error("a barrier of other versions", refused, is_conflict)
}

async fn a_barrier_that_was_withdrawn_proves_nothing(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (old, new) = ready_pair(harness).await?;
    let registry = harness.registry();
    let barrier = registry.set_barrier(old.version, new.version).await?;
    registry.drop_barrier(barrier.id).await?;
    let columns = WIDE_V2.same_columns();
    let compared = registry.compare_at_barrier(barrier.id, &WIDE_V1, &WIDE_V2, &columns);
    expect_error("a withdrawn barrier", compared.await, is_conflict)?;
    let request = request(new.version, barrier.id);
    let refused = registry.promote(&request, &WIDE_V1, &WIDE_V2).await;
    expect_error("a withdrawn barrier", refused, is_conflict)
}

async fn the_previous_version_is_promoted_back_by_a_fresh_barrier(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (mut old, mut new) = ready_pair(harness).await?;
    let barrier =
        compared_barrier(harness, (old.version, &WIDE_V1), (new.version, &WIDE_V2)).await?;
    let registry = harness.registry();
    let there = request(new.version, barrier);
    registry.promote(&there, &WIDE_V1, &WIDE_V2).await?;
    let with_old_barrier = request(old.version, barrier);
    let refused = registry
        .promote(&with_old_barrier, &WIDE_V2, &WIDE_V1)
        .await;
    expect_error("the barrier of the way there", refused, is_conflict)?;
    old.advance(10, 12).await?;
    new.advance(10, 12).await?;
    let back = compared_barrier(harness, (new.version, &WIDE_V2), (old.version, &WIDE_V1)).await?;
    let back = request(old.version, back);
    let promotion = registry.promote(&back, &WIDE_V2, &WIDE_V1).await?;
    expect_equal("generation", &promotion.generation, &3)?;
    expect_equal(
        "old",
        &state_of(harness, old.version).await?,
        &VersionState::Active,
    )?;
    expect_equal(
        "new",
        &state_of(harness, new.version).await?,
        &VersionState::Previous,
    )
}

async fn a_barrier_wants_two_built_versions_of_one_projection(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (old, new) = ready_pair(harness).await?;
    let registry = harness.registry();
    let building = registry.register(&WIDE_V3, &log()).await?.id;
    let refused = registry.set_barrier(old.version, building).await;
    expect_error("a building version", refused, is_conflict)?;
    let other = registry.register(&BY_TEXT, &log()).await?.id;
    let refused = registry.set_barrier(old.version, other).await;
    expect_error("another projection", refused, is_conflict)?;
    let refused = registry.set_barrier(new.version, new.version).await;
    expect_error("one version", refused, is_conflict)
}

async fn a_barrier_that_is_not_complete_is_not_compared(
    harness: &dyn StoreHarness,
) -> Result<(), Failure> {
    let (mut old, mut new) = ready_pair(harness).await?;
    old.advance(10, 15).await?;
    let registry = harness.registry();
    let barrier = registry.set_barrier(old.version, new.version).await?;
    let columns = WIDE_V2.same_columns();
    let compared = registry.compare_at_barrier(barrier.id, &WIDE_V1, &WIDE_V2, &columns);
    expect_error("an incomplete barrier", compared.await, is_conflict)?;
    new.advance(10, 15).await?;
    let progress = registry.barrier_progress(barrier.id).await?;
    expect("complete now", progress.is_complete())?;
    // The serving version goes on; what was recorded at the vector stays.
    old.advance(15, 19).await?;
    let columns = [columns, vec![APPLIED_SEQ]].concat();
    let compared = registry.compare_at_barrier(barrier.id, &WIDE_V1, &WIDE_V2, &columns);
    expect_equal("differences", &compared.await?.differences, &vec![])
}

async fn a_column_that_one_side_lacks_differs(harness: &dyn StoreHarness) -> Result<(), Failure> {
    let (old, _) = ready_pair(harness).await?;
    let third = ready(harness, &WIDE_V3).await?;
    let registry = harness.registry();
    let barrier = registry.set_barrier(old.version, third.version).await?;
    let columns = ["total", "extra"];
    let proof = registry.compare_at_barrier(barrier.id, &WIDE_V1, &WIDE_V3, &columns);
    let proof = proof.await?;
    expect("only the missing column differs", {
        !proof.differences.is_empty() && proof.differences.iter().all(|d| d.column == "extra")
    })
}
