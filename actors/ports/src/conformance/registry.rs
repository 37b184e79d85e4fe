//! The promises of the registry and of the read model, on the store's harness.

mod lifecycle;
mod promotion;
mod reads;
mod reset;
mod retirement;

use refold_domain::cutover::Gate;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;
use refold_domain::version::VersionState;

use super::store::Case;
use super::store::Failure;
use super::store::StoreHarness;
use super::store::expect;
use crate::registry::PromoteRequest;
use crate::registry::RegistryError;

/// All cases about the registry and reads.
pub fn cases() -> Vec<Case> {
    [
        lifecycle::cases(),
        promotion::cases(),
        reads::cases(),
        reset::cases(),
        retirement::cases(),
    ]
    .concat()
}

/// A request to promote that insists on nothing.
fn request(to: VersionId, barrier: i64) -> PromoteRequest {
    PromoteRequest {
        to,
        barrier,
        if_generation: None,
        allowed_lag: 1_000,
        max_scan_age: None,
        forced: None,
        actor: "a case".to_owned(),
        dry_run: false,
    }
}

/// A barrier between two built versions whose sums were compared on every column.
async fn compared_barrier(
    harness: &dyn StoreHarness,
    (from, from_spec): (VersionId, &ProjectionSpec),
    (to, to_spec): (VersionId, &ProjectionSpec),
) -> Result<i64, Failure> {
    let registry = harness.registry();
    let barrier = registry.set_barrier(from, to).await?;
    let progress = registry.barrier_progress(barrier.id).await?;
    expect("both versions stand at the barrier", progress.is_complete())?;
    let columns = to_spec.same_columns();
    let proof = registry.compare_at_barrier(barrier.id, from_spec, to_spec, &columns);
    let proof = proof.await?;
    expect("no sum differs", proof.differences.is_empty())?;
    Ok(barrier.id)
}

async fn state_of(harness: &dyn StoreHarness, version: VersionId) -> Result<VersionState, Failure> {
    let versions = harness.registry().versions().await?;
    let row = versions.into_iter().find(|v| v.id == version);
    row.map(|v| v.state)
        .ok_or_else(|| Failure(format!("version {version} is not listed")))
}

/// Whether a promotion was refused by this gate and no other.
fn refused_by(error: &RegistryError, gate: Gate) -> bool {
    match error {
        RegistryError::GateRefused(reports) => {
            let refusing = reports.iter().filter(|r| !r.passes());
            refusing.map(|r| r.gate).eq([gate])
        }
        _ => false,
    }
}

fn is_conflict(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Conflict(_))
}
