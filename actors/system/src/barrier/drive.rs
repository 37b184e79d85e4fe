//! The steps of a promotion, against the registry alone.

use std::time::Duration;

use refold_domain::cutover::Gate;
use refold_domain::cutover::GateReport;
use refold_domain::spec::ProjectionSpec;
use refold_domain::sums::APPLIED_SEQ;
use refold_domain::version::VersionId;
use refold_ports::Registry;
use refold_ports::registry::BarrierProgress;
use refold_ports::registry::BarrierRow;
use refold_ports::registry::PromoteRequest;
use refold_ports::registry::Promotion;
use refold_ports::registry::RegistryError;
use refold_ports::registry::VersionRow;
use refold_projection::Compare;
use tokio::time::Instant;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromotionOrder {
    /// The candidate's label, `NAME_vNUMBER`.
    pub label: String,
    /// The generation that the caller saw, if it insists on it.
    pub if_generation: Option<i64>,
    /// Largest distance in events that any partition of the candidate may be behind.
    pub allowed_lag: u64,
    /// Who asks, for the audit.
    pub actor: String,
    /// Judge every gate, then change nothing.
    pub dry_run: bool,
    /// Longest wait for both versions to pass the switch vector.
    pub deadline: Duration,
    /// How often their progress is looked at.
    pub poll: Duration,
}

impl PromotionOrder {
    /// An order with the usual bounds: 10,000 events of lag, 30 s for the barrier.
    pub fn of(label: impl Into<String>, actor: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            if_generation: None,
            allowed_lag: 10_000,
            actor: actor.into(),
            dry_run: false,
            deadline: Duration::from_secs(30),
            poll: Duration::from_millis(10),
        }
    }
}

/// Two versions of one projection.
struct Pair<'a> {
    from: &'a ProjectionSpec,
    to: &'a ProjectionSpec,
    from_row: VersionRow,
    to_row: VersionRow,
}

/// Promotes the version that `order` names. `specs` are the projections that
/// are linked into this binary: the schemas of both versions are needed to compare them.
///
/// The first version of a name is activated without a comparison. A version that
/// is active already is answered with [`Promotion::changed`] false.
///
/// # Errors
/// [`RegistryError::GateRefused`] names the gate that holds it back: `caught-up`
/// when the deadline passes first, `verified` when the sums differ. After any
/// error nothing is changed and no barrier is left.
pub async fn drive(
    registry: &dyn Registry,
    specs: &[ProjectionSpec],
    order: &PromotionOrder,
) -> Result<Promotion, RegistryError> {
    let to_row = registry.version(&order.label).await?;
    let Some(active) = registry.active(&to_row.name).await? else {
        return activate(registry, to_row, order).await;
    };
    let generation_differs = order.if_generation.filter(|g| *g != active.generation);
    let versions = registry.versions().await?;
    let from_row = find_version(versions, active.version)?;
    let pair = Pair {
        from: find_spec(specs, &from_row)?,
        to: find_spec(specs, &to_row)?,
        from_row,
        to_row,
    };
    if active.version == pair.to_row.id {
        // The registry answers with the promotion that made it so.
        return promote(registry, &pair, order, 0).await;
    }
    if let Some(wanted) = generation_differs {
        return Err(RegistryError::GenerationChanged {
            wanted,
            found: active.generation,
        });
    }
    let barrier = registry
        .set_barrier(pair.from_row.id, pair.to_row.id)
        .await?;
    let promoted = behind_barrier(registry, &pair, order, &barrier).await;
    if (promoted.is_err() || order.dry_run)
        && let Err(error) = registry.drop_barrier(barrier.id).await
    {
        // It is replaced by the next one; until then batches may be cut at it once.
        tracing::warn!(barrier = barrier.id, %error, "drop barrier");
    }
    promoted
}

async fn activate(
    registry: &dyn Registry,
    to: VersionRow,
    order: &PromotionOrder,
) -> Result<Promotion, RegistryError> {
    if let Some(wanted) = order.if_generation.filter(|g| *g != 0) {
        return Err(RegistryError::GenerationChanged { wanted, found: 0 });
    }
    if order.dry_run {
        return Err(RegistryError::Conflict(format!(
            "no version of {} is active: {} would be the first, there is nothing to compare it with",
            to.name, to.label
        )));
    }
    let begun = Instant::now();
    let active = registry.activate_first(to.id, &order.actor).await?;
    let flip = begun.elapsed();
    let marks = registry.marks(to.id).await?;
    Ok(Promotion {
        id: format!("{}-generation-{}", to.name, active.generation),
        from: None,
        to: to.id,
        generation: active.generation,
        switch: marks.iter().map(|m| (m.partition, m.next)).collect(),
        gates: Vec::new(),
        switched_at: std::time::SystemTime::now(),
        flip,
        changed: true,
    })
}

async fn behind_barrier(
    registry: &dyn Registry,
    pair: &Pair<'_>,
    order: &PromotionOrder,
    barrier: &BarrierRow,
) -> Result<Promotion, RegistryError> {
    wait_complete(registry, pair, order, barrier).await?;
    let columns = comparable_columns(pair.from, pair.to);
    let proof = registry
        .compare_at_barrier(barrier.id, pair.from, pair.to, &columns)
        .await?;
    if let Some(first) = proof.differences.first() {
        return Err(refuse(
            Gate::Verified,
            format!(
                "{} checksums of {} and {} differ at the switch vector; first: column {} in {}",
                proof.differences.len(),
                pair.from_row.label,
                pair.to_row.label,
                first.column,
                first.partition
            ),
        ));
    }
    promote(registry, pair, order, barrier.id).await
}

async fn promote(
    registry: &dyn Registry,
    pair: &Pair<'_>,
    order: &PromotionOrder,
    barrier: i64,
) -> Result<Promotion, RegistryError> {
    let request = PromoteRequest {
        to: pair.to_row.id,
        barrier,
        if_generation: order.if_generation,
        allowed_lag: order.allowed_lag,
        actor: order.actor.clone(),
        dry_run: order.dry_run,
    };
    registry.promote(&request, pair.from, pair.to).await
}

/// Waits until every partition of both versions recorded its sums at the switch vector.
async fn wait_complete(
    registry: &dyn Registry,
    pair: &Pair<'_>,
    order: &PromotionOrder,
    barrier: &BarrierRow,
) -> Result<(), RegistryError> {
    let begun = Instant::now();
    loop {
        let progress = registry.barrier_progress(barrier.id).await?;
        if progress.is_complete() {
            return Ok(());
        }
        if begun.elapsed() >= order.deadline {
            return Err(refuse(Gate::CaughtUp, too_late(pair, order, &progress)));
        }
        tokio::time::sleep(order.poll).await;
    }
}

fn too_late(pair: &Pair<'_>, order: &PromotionOrder, progress: &BarrierProgress) -> String {
    let worst = progress.waiting.iter().max_by_key(|(_, _, events)| *events);
    let seconds = order.deadline.as_secs_f64();
    match worst {
        None => format!(
            "after {seconds:.1} s {} of {} partitions recorded their sums",
            progress.acked, progress.wanted
        ),
        Some((version, partition, events)) => {
            let label = if *version == pair.from_row.id {
                &pair.from_row.label
            } else {
                &pair.to_row.label
            };
            format!(
                "after {seconds:.1} s {} partitions have not passed the switch offset; \
                 {partition} of {label} is {events} events behind",
                progress.waiting.len()
            )
        }
    }
}

fn refuse(gate: Gate, detail: String) -> RegistryError {
    RegistryError::GateRefused(vec![GateReport {
        gate,
        ok: false,
        detail,
    }])
}

fn find_version(versions: Vec<VersionRow>, id: VersionId) -> Result<VersionRow, RegistryError> {
    let found = versions.into_iter().find(|v| v.id == id);
    found.ok_or_else(|| RegistryError::Failed(format!("active version {id} is not registered")))
}

fn find_spec<'a>(
    specs: &'a [ProjectionSpec],
    row: &VersionRow,
) -> Result<&'a ProjectionSpec, RegistryError> {
    let found = specs.iter().find(|s| s.label() == row.label);
    found.ok_or_else(|| {
        RegistryError::Conflict(format!(
            "{} is not linked into this binary, so its columns cannot be compared",
            row.label
        ))
    })
}

/// The columns that two versions must agree on, in either direction, [`APPLIED_SEQ`] last.
///
/// Where one version replaces the other, they are the ones that the newer one
/// declares `same`. Two versions without such a tie are compared on every column
/// that both have with one type and that neither declares to differ.
pub fn comparable_columns(from: &ProjectionSpec, to: &ProjectionSpec) -> Vec<&'static str> {
    let mut columns = if to.replaces == Some(from.number) {
        to.same_columns()
    } else if from.replaces == Some(to.number) {
        from.same_columns()
    } else {
        shared_columns(from, to)
    };
    columns.push(APPLIED_SEQ);
    columns
}

fn shared_columns(from: &ProjectionSpec, to: &ProjectionSpec) -> Vec<&'static str> {
    let theirs = |name: &str| from.columns.iter().find(|c| c.name == name);
    let comparable = to.columns.iter().filter(|column| {
        theirs(column.name).is_some_and(|other| {
            other.ty == column.ty
                && column.compare != Compare::Differs
                && other.compare != Compare::Differs
        })
    });
    comparable.map(|column| column.name).collect()
}
