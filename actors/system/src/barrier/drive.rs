//! The steps of a promotion, against the registry alone.

use std::time::Duration;
use std::time::SystemTime;

use refold_domain::cutover::Behind;
use refold_domain::cutover::Evidence;
use refold_domain::cutover::Forced;
use refold_domain::cutover::Gate;
use refold_domain::cutover::GateReport;
use refold_domain::cutover::judge;
use refold_domain::diff::comparable_columns;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;
use refold_domain::version::VersionState;
use refold_ports::Registry;
use refold_ports::registry::BarrierProgress;
use refold_ports::registry::BarrierRow;
use refold_ports::registry::PromoteRequest;
use refold_ports::registry::Promotion;
use refold_ports::registry::RegistryError;
use refold_ports::registry::VersionRow;
use tokio::time::Instant;

use super::pace::Pace;
use super::pace::Went;
use super::pace::marks;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromotionOrder {
    /// The candidate's label, `NAME_vNUMBER`.
    pub label: String,
    /// The generation that the caller saw, if it insists on it.
    pub if_generation: Option<i64>,
    /// Largest distance in events that any partition of the candidate may be behind.
    pub allowed_lag: u64,
    /// How old the last scan of both tables may be; `None` when none is asked for.
    pub max_scan_age: Option<Duration>,
    /// The gate that whoever asks answers for.
    pub forced: Option<Forced>,
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
            max_scan_age: None,
            forced: None,
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
    let unforceable = |forced: &&Forced| !forced.gate.may_be_forced();
    if let Some(forced) = order.forced.as_ref().filter(unforceable) {
        return Err(RegistryError::Conflict(format!(
            "gate {} cannot be forced: what has not passed its switch offset holds another state",
            forced.gate
        )));
    }
    let to_row = registry.version(&order.label).await?;
    let Some(active) = registry.active(&to_row.name).await? else {
        // There is nothing to compare it with, but what serves must be what is linked.
        linked(specs, &to_row)?;
        return activate(registry, to_row, order).await;
    };
    let versions = registry.versions().await?;
    let from_row = find_version(versions, active.version)?;
    let pair = Pair {
        from: linked(specs, &from_row)?,
        to: linked(specs, &to_row)?,
        from_row,
        to_row,
    };
    if active.version == pair.to_row.id {
        // The registry answers with the promotion that made it so.
        return promote(registry, &pair, order, 0).await;
    }
    if let Some(wanted) = order.if_generation.filter(|g| *g != active.generation) {
        let found = active.generation;
        return Err(RegistryError::GenerationChanged { wanted, found });
    }
    let columns = comparable_columns(pair.from, pair.to)
        .map_err(|e| RegistryError::Conflict(e.to_string()))?;
    require_ready(registry, &pair, order).await?;
    let barrier = registry
        .set_barrier(pair.from_row.id, pair.to_row.id)
        .await?;
    tracing::info!(
        barrier = barrier.id,
        from = pair.from_row.label,
        to = pair.to_row.label,
        offset_sum = barrier.switch.values().map(|x| x.0).sum::<i64>(),
        "barrier set"
    );
    let promoted = behind_barrier(registry, &pair, order, (&barrier, &columns)).await;
    if (promoted.is_err() || order.dry_run)
        && let Err(error) = registry.drop_barrier(barrier.id).await
    {
        // It is replaced by the next one; until then batches may be cut at it once.
        tracing::warn!(barrier = barrier.id, %error, "drop barrier");
    }
    promoted
}

/// The first version of a name has nothing to be compared with: it is activated
/// as soon as its history is in, and the audit says so.
async fn activate(
    registry: &dyn Registry,
    to: VersionRow,
    order: &PromotionOrder,
) -> Result<Promotion, RegistryError> {
    if let Some(wanted) = order.if_generation.filter(|g| *g != 0) {
        return Err(RegistryError::GenerationChanged { wanted, found: 0 });
    }
    let is_ready = registry.make_ready(to.id).await?;
    let state = if is_ready {
        VersionState::Ready
    } else {
        to.state
    };
    let mut gates = judge(&unproven(state, Vec::new(), order));
    gates.retain(|report| report.gate != Gate::Verified);
    if !is_ready {
        return Err(RegistryError::GateRefused(gates));
    }
    let switch = marks(registry, to.id).await?;
    let begun = Instant::now();
    let mut activated = None;
    if !order.dry_run {
        activated = Some(
            registry
                .activate_first(to.id, &order.actor, order.forced.as_ref())
                .await?,
        );
    }
    // As with any other promotion, one that was only judged has no id.
    let id = match order.dry_run {
        true => String::new(),
        false => format!("first-{}", to.label),
    };
    Ok(Promotion {
        id,
        from: None,
        to: to.id,
        generation: activated.map_or(0, |first| first.active.generation),
        switch,
        gates,
        switched_at: SystemTime::now(),
        flip: begun.elapsed(),
        changed: !order.dry_run,
        durability: activated.map(|first| first.durability),
    })
}

/// Refuses a candidate whose history is not in yet, and says how far it is behind.
async fn require_ready(
    registry: &dyn Registry,
    pair: &Pair<'_>,
    order: &PromotionOrder,
) -> Result<(), RegistryError> {
    let to = &pair.to_row;
    if to.state != VersionState::Building || registry.make_ready(to.id).await? {
        return Ok(());
    }
    let live = marks(registry, pair.from_row.id).await?;
    let new = marks(registry, to.id).await?;
    let distances = live.iter().map(|(partition, at)| Behind {
        partition: *partition,
        events: new.get(partition).copied().unwrap_or_default().lag_to(*at),
    });
    let behind = distances.filter(|b| b.events > 0).collect();
    let gates = judge(&unproven(to.state, behind, order));
    Err(RegistryError::GateRefused(gates))
}

/// What is known of a candidate before any comparison.
fn unproven(state: VersionState, behind: Vec<Behind>, order: &PromotionOrder) -> Evidence {
    Evidence {
        state,
        lag: behind.iter().map(|b| b.events).max().unwrap_or_default(),
        behind,
        differences: None,
        scan: None,
        max_scan_age: order.max_scan_age,
        parked: 0,
        gaps: 0,
        without_key: Vec::new(),
        allowed_lag: order.allowed_lag,
    }
}

async fn behind_barrier(
    registry: &dyn Registry,
    pair: &Pair<'_>,
    order: &PromotionOrder,
    (barrier, columns): (&BarrierRow, &[&'static str]),
) -> Result<Promotion, RegistryError> {
    wait_complete(registry, pair, order, barrier).await?;
    let proof = registry
        .compare_at_barrier(barrier.id, pair.from, pair.to, columns)
        .await?;
    tracing::info!(
        barrier = barrier.id,
        columns = proof.columns.join(","),
        differences = proof.differences.len(),
        "checksums compared at the switch vector"
    );
    let forced = order.forced.as_ref();
    let forced = forced.is_some_and(|forced| forced.gate == Gate::Verified);
    if let Some(first) = proof.differences.first().filter(|_| !forced) {
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
        max_scan_age: order.max_scan_age,
        forced: order.forced.clone(),
        actor: order.actor.clone(),
        dry_run: order.dry_run,
    };
    registry.promote(&request, pair.from, pair.to).await
}

/// Between two looks at the marks of a barrier that waits: whether one is past the switch offset,
/// which the fence prevents, and a person at the database does not.
const CLOSER_LOOK: Duration = Duration::from_millis(500);

/// Waits until every partition of both versions recorded its sums at the switch vector.
///
/// One that takes longer than a tenth of the deadline is measured from there on, so that a refusal
/// can tell how fast both versions went; a usual one asks the registry for nothing more.
async fn wait_complete(
    registry: &dyn Registry,
    pair: &Pair<'_>,
    order: &PromotionOrder,
    barrier: &BarrierRow,
) -> Result<(), RegistryError> {
    let (serving, candidate) = (pair.from_row.id, pair.to_row.id);
    let begun = Instant::now();
    let (mut pace, mut looked) = (None, begun);
    loop {
        if registry.barrier_is_complete(barrier.id).await? {
            return Ok(());
        }
        let late = begun.elapsed() >= order.deadline;
        if late || looked.elapsed() >= CLOSER_LOOK {
            looked = Instant::now();
            let progress = registry.barrier_progress(barrier.id).await?;
            if progress.is_complete() {
                return Ok(());
            }
            if late {
                let now = Pace::read(registry, serving, candidate).await?;
                let went = pace.map(|then: Pace| then.until(&now));
                return Err(too_late(pair, order, &progress, went));
            }
        }
        if pace.is_none() && begun.elapsed() >= order.deadline / 10 {
            pace = Some(Pace::read(registry, serving, candidate).await?);
        }
        tokio::time::sleep(order.poll).await;
    }
}

/// The refusal of a barrier that was not reached in time. It names the side that
/// is missing: a serving version without a projector holds a promotion back as well.
fn too_late(
    pair: &Pair<'_>,
    order: &PromotionOrder,
    progress: &BarrierProgress,
    went: Option<Went>,
) -> RegistryError {
    let missing = progress.waiting.iter();
    let of_candidate = missing.filter(|(version, ..)| *version == pair.to_row.id);
    let behind: Vec<_> = of_candidate
        .map(|(_, partition, events)| Behind {
            partition: *partition,
            events: *events,
        })
        .collect();
    if behind.is_empty() {
        return RegistryError::Conflict(format!(
            "{} partitions of {}, which serves, did not reach the switch vector within {:.1} s: \
             does its projector run?",
            progress.waiting.len(),
            pair.from_row.label,
            order.deadline.as_secs_f64()
        ));
    }
    let mut gates = judge(&unproven(pair.to_row.state, behind, order));
    let caught_up = gates.iter_mut().find(|gate| gate.gate == Gate::CaughtUp);
    if let (Some(gate), Some(went)) = (caught_up, went) {
        let sentence = went.sentence(&pair.from_row.label, &pair.to_row.label);
        gate.detail = format!("{}; {sentence}", gate.detail);
    }
    RegistryError::GateRefused(gates)
}

fn refuse(gate: Gate, detail: String) -> RegistryError {
    RegistryError::GateRefused(vec![GateReport {
        gate,
        ok: false,
        detail,
        forced: None,
    }])
}

fn find_version(versions: Vec<VersionRow>, id: VersionId) -> Result<VersionRow, RegistryError> {
    let found = versions.into_iter().find(|v| v.id == id);
    found.ok_or_else(|| RegistryError::Failed(format!("active version {id} is not registered")))
}

/// The linked declarations of a version; its checksums cannot be read without them.
fn linked<'a>(
    specs: &'a [ProjectionSpec],
    row: &VersionRow,
) -> Result<&'a ProjectionSpec, RegistryError> {
    let found = specs.iter().find(|s| s.label() == row.label);
    let spec = found.ok_or_else(|| {
        RegistryError::Conflict(format!(
            "{} is not linked into this binary, so its columns cannot be compared",
            row.label
        ))
    })?;
    let running = spec.code_hash();
    if running != row.code_hash {
        return Err(RegistryError::CodeChanged {
            label: row.label.clone(),
            stored: row.code_hash.clone(),
            running,
        });
    }
    Ok(spec)
}
