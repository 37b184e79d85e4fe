//! The way from a wish to a switched version: barrier, proof, promotion.
//!
//! ```text
//! set_barrier -> wait until both versions stood exactly at X -> compare their sums at X -> promote
//! ```
//! Everything that decides is a row in the registry; this flow may die at any
//! await and leaves at most a barrier behind, which the next one replaces.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use refold_domain::barrier::OffsetVector;
use refold_domain::cutover::Behind;
use refold_domain::cutover::Evidence;
use refold_domain::cutover::judge;
use refold_domain::spec::ProjectionSpec;
use refold_domain::sums::APPLIED_SEQ;
use refold_domain::version::VersionState;
use refold_ports::registry::ActiveRow;
use refold_ports::registry::BarrierProgress;
use refold_ports::registry::BarrierRow;
use refold_ports::registry::PromoteRequest;
use refold_ports::registry::Promotion;
use refold_ports::registry::Registry;
use refold_ports::registry::RegistryError;
use refold_ports::registry::VersionRow;
use tokio::time::Instant;

/// Between two looks at a barrier: a batch of the apply path takes some 10 ms.
const POLL: Duration = Duration::from_millis(20);

/// How a promotion is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutoverOptions {
    /// Judge every gate, change nothing.
    pub dry_run: bool,
    /// The generation that the caller insists on.
    pub if_generation: Option<i64>,
    /// Largest distance in events that a partition of the candidate may be behind.
    pub allowed_lag: u64,
    /// How long both versions may take to reach the switch vector.
    pub barrier_deadline: Duration,
    /// Who asks, for the audit.
    pub actor: String,
}

impl Default for CutoverOptions {
    /// 100,000 events: at most some seconds of a busy topic, so that no reader
    /// sees time go back by more than that; 30 s for the barrier.
    fn default() -> Self {
        Self {
            dry_run: false,
            if_generation: None,
            allowed_lag: 100_000,
            barrier_deadline: Duration::from_secs(30),
            actor: "api".to_owned(),
        }
    }
}

/// Whoever carries promotions out.
#[async_trait]
pub trait Promoter: Send + Sync {
    /// Switches reads to the version of this label, or says why not. A version
    /// that is active already is answered with the promotion that made it so.
    ///
    /// # Errors
    /// [`RegistryError`].
    async fn promote(
        &self,
        label: &str,
        options: &CutoverOptions,
    ) -> Result<Promotion, RegistryError>;
}

/// Carries promotions out in the calling task.
pub struct RegistryPromoter {
    registry: Arc<dyn Registry>,
    specs: Vec<Arc<ProjectionSpec>>,
}

impl std::fmt::Debug for RegistryPromoter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let labels: Vec<_> = self.specs.iter().map(|s| s.label()).collect();
        f.debug_tuple("RegistryPromoter").field(&labels).finish()
    }
}

impl RegistryPromoter {
    /// Promotes among `specs`, the versions that this process is linked with.
    pub fn new(registry: Arc<dyn Registry>, specs: Vec<Arc<ProjectionSpec>>) -> Self {
        Self { registry, specs }
    }
}

#[async_trait]
impl Promoter for RegistryPromoter {
    async fn promote(
        &self,
        label: &str,
        options: &CutoverOptions,
    ) -> Result<Promotion, RegistryError> {
        let registry = self.registry.as_ref();
        cut_over(registry, &self.specs, label, options, tokio::time::sleep).await
    }
}

/// Both ends of a switch.
struct Pair<'a> {
    from: VersionRow,
    to: VersionRow,
    from_spec: &'a ProjectionSpec,
    to_spec: &'a ProjectionSpec,
}

/// Promotes `label`, pausing with `wait` between looks at the barrier.
///
/// # Errors
/// [`RegistryError`]; nothing has changed then and no barrier is left.
pub async fn cut_over<W, F>(
    registry: &dyn Registry,
    specs: &[Arc<ProjectionSpec>],
    label: &str,
    options: &CutoverOptions,
    wait: W,
) -> Result<Promotion, RegistryError>
where
    W: Fn(Duration) -> F,
    F: Future<Output = ()>,
{
    let to = registry.version(label).await?;
    let to_spec = linked(specs, &to)?;
    let Some(active) = registry.active(&to.name).await? else {
        return first_promotion(registry, to, options).await;
    };
    if active.version == to.id {
        let request = request(&to, 0, options);
        return registry.promote(&request, to_spec, to_spec).await;
    }
    same_generation(options, active)?;
    let from = registry.versions().await?;
    let from = from.into_iter().find(|v| v.id == active.version);
    let from = from.ok_or_else(|| {
        RegistryError::Failed(format!("the active version {} has no row", active.version))
    })?;
    let pair = Pair {
        from_spec: linked(specs, &from)?,
        from,
        to,
        to_spec,
    };
    ready(registry, &pair, options).await?;
    switch_at_barrier(registry, &pair, options, wait).await
}

async fn switch_at_barrier<W, F>(
    registry: &dyn Registry,
    pair: &Pair<'_>,
    options: &CutoverOptions,
    wait: W,
) -> Result<Promotion, RegistryError>
where
    W: Fn(Duration) -> F,
    F: Future<Output = ()>,
{
    let columns = comparable_columns(pair.from_spec, pair.to_spec)?;
    let barrier = registry.set_barrier(pair.from.id, pair.to.id).await?;
    tracing::info!(
        barrier = barrier.id, from = %pair.from.label, to = %pair.to.label,
        offset_sum = barrier.switch.values().map(|x| x.0).sum::<i64>(), "barrier set"
    );
    let outcome = async {
        reached(registry, pair, &barrier, options, wait).await?;
        let (from, to) = (pair.from_spec, pair.to_spec);
        let compared = registry.compare_at_barrier(barrier.id, from, to, &columns);
        let proof = compared.await?;
        tracing::info!(
            barrier = barrier.id,
            differences = proof.differences.len(),
            columns = proof.columns.join(","),
            "checksums compared at the switch vector"
        );
        let request = request(&pair.to, barrier.id, options);
        registry.promote(&request, from, to).await
    };
    let outcome = outcome.await;
    let stays = outcome
        .as_ref()
        .is_ok_and(|p| p.changed && !options.dry_run);
    if !stays && let Err(error) = registry.drop_barrier(barrier.id).await {
        tracing::warn!(barrier = barrier.id, %error, "the barrier could not be withdrawn");
    }
    outcome
}

/// Waits until both versions stood exactly at the switch vector.
async fn reached<W, F>(
    registry: &dyn Registry,
    pair: &Pair<'_>,
    barrier: &BarrierRow,
    options: &CutoverOptions,
    wait: W,
) -> Result<(), RegistryError>
where
    W: Fn(Duration) -> F,
    F: Future<Output = ()>,
{
    let deadline = Instant::now() + options.barrier_deadline;
    loop {
        let progress = registry.barrier_progress(barrier.id).await?;
        if progress.is_complete() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(too_slow(pair, &progress, options));
        }
        wait(POLL).await;
    }
}

/// The refusal of a barrier that was not reached in time. It names the side that
/// is missing: a serving version without a projector holds a promotion back as well.
fn too_slow(
    pair: &Pair<'_>,
    progress: &BarrierProgress,
    options: &CutoverOptions,
) -> RegistryError {
    let waited = options.barrier_deadline.as_secs_f32();
    let of_candidate = progress.waiting.iter().filter(|w| w.0 == pair.to.id);
    let behind: Vec<_> = of_candidate
        .map(|(_, partition, events)| Behind {
            partition: *partition,
            events: *events,
        })
        .collect();
    if behind.is_empty() {
        let missing = progress.waiting.len();
        return RegistryError::Conflict(format!(
            "{missing} partitions of {}, which serves, did not reach the switch vector within {waited} s: does its projector run?",
            pair.from.label
        ));
    }
    let lag = behind.iter().map(|b| b.events).max().unwrap_or_default();
    RegistryError::GateRefused(judge(&Evidence {
        behind,
        ..unproven(pair.to.state, lag, options)
    }))
}

/// What is known of a version before any comparison.
fn unproven(state: VersionState, lag: u64, options: &CutoverOptions) -> Evidence {
    Evidence {
        state,
        behind: Vec::new(),
        differences: None,
        parked: 0,
        gaps: 0,
        without_key: Vec::new(),
        lag,
        allowed_lag: options.allowed_lag,
    }
}

/// Refuses a version whose history is not in yet, naming how far it is behind.
async fn ready(
    registry: &dyn Registry,
    pair: &Pair<'_>,
    options: &CutoverOptions,
) -> Result<(), RegistryError> {
    if pair.to.state != VersionState::Building || registry.make_ready(pair.to.id).await? {
        return Ok(());
    }
    let live = marks(registry, &pair.from).await?;
    let new = marks(registry, &pair.to).await?;
    let behind: Vec<_> = live
        .iter()
        .map(|(partition, at)| Behind {
            partition: *partition,
            events: new.get(partition).copied().unwrap_or_default().lag_to(*at),
        })
        .filter(|b| b.events > 0)
        .collect();
    let lag = behind.iter().map(|b| b.events).max().unwrap_or_default();
    Err(RegistryError::GateRefused(judge(&Evidence {
        behind,
        ..unproven(pair.to.state, lag, options)
    })))
}

async fn marks(
    registry: &dyn Registry,
    version: &VersionRow,
) -> Result<OffsetVector, RegistryError> {
    let rows = registry.marks(version.id).await?;
    Ok(rows.into_iter().map(|m| (m.partition, m.next)).collect())
}

/// The first version of a name has nothing to be compared with: it is activated
/// as soon as its history is in, and the audit says so.
async fn first_promotion(
    registry: &dyn Registry,
    to: VersionRow,
    options: &CutoverOptions,
) -> Result<Promotion, RegistryError> {
    if let Some(wanted) = options.if_generation.filter(|g| *g != 0) {
        return Err(RegistryError::GenerationChanged { wanted, found: 0 });
    }
    let is_ready = registry.make_ready(to.id).await?;
    let state = if is_ready {
        VersionState::Ready
    } else {
        to.state
    };
    let mut gates = judge(&unproven(state, 0, options));
    gates.retain(|report| report.gate != refold_domain::cutover::Gate::Verified);
    if !is_ready {
        return Err(RegistryError::GateRefused(gates));
    }
    let switch = marks(registry, &to).await?;
    let started = Instant::now();
    let (generation, changed) = if options.dry_run {
        (0, false)
    } else {
        let active = registry.activate_first(to.id, &options.actor).await?;
        (active.generation, true)
    };
    Ok(Promotion {
        id: format!("first-{}", to.label),
        from: None,
        to: to.id,
        generation,
        switch,
        gates,
        switched_at: std::time::SystemTime::now(),
        flip: started.elapsed(),
        changed,
    })
}

fn request(to: &VersionRow, barrier: i64, options: &CutoverOptions) -> PromoteRequest {
    PromoteRequest {
        to: to.id,
        barrier,
        if_generation: options.if_generation,
        allowed_lag: options.allowed_lag,
        actor: options.actor.clone(),
        dry_run: options.dry_run,
    }
}

fn same_generation(options: &CutoverOptions, active: ActiveRow) -> Result<(), RegistryError> {
    match options.if_generation {
        Some(wanted) if wanted != active.generation => Err(RegistryError::GenerationChanged {
            wanted,
            found: active.generation,
        }),
        _ => Ok(()),
    }
}

/// The linked declarations of a version; its checksums cannot be read without them.
fn linked<'a>(
    specs: &'a [Arc<ProjectionSpec>],
    version: &VersionRow,
) -> Result<&'a ProjectionSpec, RegistryError> {
    let spec = specs.iter().find(|s| s.label() == version.label);
    let spec = spec.ok_or_else(|| {
        RegistryError::Conflict(format!(
            "this server is not linked with the code of {}",
            version.label
        ))
    })?;
    let running = spec.code_hash();
    if running != version.code_hash {
        return Err(RegistryError::CodeChanged {
            label: version.label.clone(),
            stored: version.code_hash.clone(),
            running,
        });
    }
    Ok(spec)
}

/// The columns that must be equal in both versions at every offset: those that
/// the newer one declares so, or all of them when both run the same fold.
/// `applied_seq` is among them when both see the same events.
///
/// # Errors
/// [`RegistryError::Conflict`] when neither says how it compares with the other:
/// a switch without a proof is not offered.
pub fn comparable_columns(
    from: &ProjectionSpec,
    to: &ProjectionSpec,
) -> Result<Vec<&'static str>, RegistryError> {
    let same_fold = from.code == to.code && from.columns == to.columns;
    let mut columns = if same_fold {
        to.columns.iter().map(|c| c.name).collect()
    } else if to.replaces == Some(from.number) {
        to.same_columns()
    } else if from.replaces == Some(to.number) {
        from.same_columns()
    } else {
        return Err(RegistryError::Conflict(format!(
            "neither {} nor {} declares that it replaces the other, so nothing says which columns must be equal",
            from.label(),
            to.label()
        )));
    };
    if from.handles == to.handles {
        columns.push(APPLIED_SEQ);
    }
    Ok(columns)
}
