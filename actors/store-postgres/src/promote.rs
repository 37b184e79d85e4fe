//! The switch of reads from one version to another, in one transaction.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::SystemTime;

use refold_domain::barrier::OffsetVector;
use refold_domain::barrier::ROW_COUNT;
use refold_domain::barrier::SumDifference;
use refold_domain::cutover::Behind;
use refold_domain::cutover::CONFIRMED_ROWS;
use refold_domain::cutover::Evidence;
use refold_domain::cutover::Forced;
use refold_domain::cutover::Gate;
use refold_domain::cutover::GateReport;
use refold_domain::cutover::LogProof;
use refold_domain::cutover::ScanProof;
use refold_domain::cutover::judge_forced;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::sums::APPLIED_SEQ;
use refold_domain::version::VersionId;
use refold_domain::version::VersionState;
use refold_ports::registry::Activation;
use refold_ports::registry::ActiveRow;
use refold_ports::registry::Durability;
use refold_ports::registry::PromoteRequest;
use refold_ports::registry::Promotion;
use refold_ports::registry::RegistryError;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use tokio_postgres::Row;

use crate::barrier::Specs;
use crate::parameter::Parameter;
use crate::registry::LockedVersion;
use crate::registry::SETTINGS;
use crate::registry::lock_version;
use crate::registry::refuse;
use crate::registry::state_of;
use crate::stored::confirm;
use crate::stored::durability;
use crate::stored::flush;
use crate::stored::stored;
use crate::transaction::Sessions;
use crate::transaction::Transaction;
use crate::transaction::field;

const ACTIVE: &str = include_str!("sql/promote_active.sql");
const VERSIONS: &str = include_str!("sql/promote_versions.sql");
const BARRIER: &str = include_str!("sql/promote_barrier.sql");
const BEHIND: &str = include_str!("sql/promote_behind.sql");
const EVIDENCE: &str = include_str!("sql/promote_evidence.sql");
const SWITCH: &str = include_str!("sql/promote_switch.sql");
const FIRST_SWITCH: &str = include_str!("sql/promote_first_switch.sql");
const FIRST_ACTIVE: &str =
    "select version, generation from refold.active where name = $1 for update";

/// What a switch runs while it holds its locks.
const PREPARED: [&str; 6] = [ACTIVE, VERSIONS, BARRIER, BEHIND, EVIDENCE, SWITCH];

/// What the transaction read of a barrier.
struct Barrier {
    switch: OffsetVector,
    differences: Option<Vec<SumDifference>>,
}

/// Switches reads to the candidate after judging every gate on rows that this
/// transaction reads and, where they could change, locks.
pub(crate) async fn promote(
    sessions: &Sessions,
    request: &PromoteRequest,
    specs: Specs<'_>,
) -> Result<Promotion, RegistryError> {
    if request.barrier > 0 {
        // Its commit would write what the batches up to the barrier left to be written, too, while
        // the rows are locked.
        flush(sessions).await?;
    }
    let transaction = sessions.start(&PREPARED).await?;
    let started = transaction.begun();
    let (xid, found) = futures::join!(
        transaction.begin(SETTINGS),
        Found::read(&transaction, request)
    );
    let (transaction, found) = (transaction.with(xid?), found?);
    let Some(active) = found.active else {
        let reason = format!("no version of the projection of {} is active", request.to);
        return Err(refuse(transaction, reason).await);
    };
    let from = VersionId(field(&active, "version")?);
    let generation: i64 = field(&active, "generation")?;
    if from == request.to {
        let mut stored = stored(&transaction, from, started).await?;
        transaction.rollback().await?;
        stored.durability = Some(confirm(sessions).await?);
        return Ok(stored);
    }
    if let Some(wanted) = request.if_generation.filter(|g| *g != generation) {
        transaction.rollback().await?;
        let found = generation;
        return Err(RegistryError::GenerationChanged { wanted, found });
    }
    let candidate = candidate(&found.versions, request.to)?;
    let barrier = match barrier_of(found.barrier, request, from, specs)? {
        Ok(barrier) => barrier,
        Err(reason) => return Err(refuse(transaction, reason).await),
    };
    let evidence = gather(request, &candidate, &barrier, &found.behind, &found.facts)?;
    let gates = judge_forced(&evidence, request.forced.as_ref());
    if gates.iter().any(|report| !report.passes()) {
        transaction.rollback().await?;
        return Err(RegistryError::GateRefused(gates));
    }
    let mut promotion = Promotion {
        id: String::new(),
        from: Some(from),
        to: request.to,
        generation,
        switch: barrier.switch,
        gates,
        switched_at: SystemTime::now(),
        flip: started.elapsed(),
        changed: false,
        durability: None,
    };
    if request.dry_run {
        transaction.rollback().await?;
        return Ok(promotion);
    }
    let order = Order {
        name: &candidate.name,
        barrier: Some(request.barrier),
        actor: &request.actor,
    };
    let judged = started.elapsed();
    switch(transaction, &order, &mut promotion).await?;
    promotion.changed = true;
    promotion.flip = started.elapsed();
    tracing::info!(
        promotion = promotion.id,
        generation = promotion.generation,
        judged_ms = judged.as_secs_f64() * 1e3,
        committed_ms = (promotion.flip - judged).as_secs_f64() * 1e3,
        "switched"
    );
    Ok(promotion)
}

/// What a promotion reads, each behind the locks that the ones before it took.
struct Found {
    active: Option<Row>,
    versions: Vec<Row>,
    barrier: Option<Row>,
    behind: Vec<Row>,
    facts: Row,
}

impl Found {
    /// Asks all questions before the first is answered: the server takes them one after
    /// another, each with a snapshot of its own, and both sides wait once instead of five
    /// times while the rows are locked.
    async fn read(
        transaction: &Transaction<'_>,
        request: &PromoteRequest,
    ) -> Result<Self, RegistryError> {
        let to: [&dyn Parameter; 1] = [&request.to.0];
        let barrier: [&dyn Parameter; 1] = [&request.barrier];
        let both = [barrier[0], to[0]];
        let wanted = CONFIRMED_ROWS.cast_signed();
        let facts: [&dyn Parameter; 2] = [to[0], &wanted];
        // This macro polls in the order in which they stand here; that is the order of the locks.
        let (active, versions, barrier, behind, facts) = futures::try_join!(
            transaction.first("lock the active row", ACTIVE, &to),
            transaction.query("lock both versions", VERSIONS, &to),
            transaction.first("read the barrier", BARRIER, &barrier),
            transaction.query("re-check the marks", BEHIND, &both),
            transaction.one("gather the evidence", EVIDENCE, &facts),
        )?;
        Ok(Self {
            active,
            versions,
            barrier,
            behind,
            facts,
        })
    }
}

/// The candidate among the locked versions.
fn candidate(rows: &[Row], to: VersionId) -> Result<LockedVersion, RegistryError> {
    for row in rows {
        if VersionId(field(row, "id")?) == to {
            return Ok(LockedVersion {
                name: field(row, "name")?,
                label: field(row, "label")?,
                state: state_of(row)?,
            });
        }
    }
    Err(RegistryError::UnknownVersion(to.to_string()))
}

/// The barrier that the request names, or why it proves nothing here.
fn barrier_of(
    row: Option<Row>,
    request: &PromoteRequest,
    from: VersionId,
    specs: Specs<'_>,
) -> Result<Result<Barrier, String>, RegistryError> {
    let id = request.barrier;
    let Some(row) = row else {
        return Ok(Err(format!("barrier {id} does not exist")));
    };
    let ends: (i64, i64) = (field(&row, "version_from")?, field(&row, "version_to")?);
    let state: String = field(&row, "state")?;
    if ends != (from.0, request.to.0) {
        return Ok(Err(format!(
            "barrier {id} stands between other versions: another promotion came first"
        )));
    }
    if !matches!(state.as_str(), "waiting" | "complete") {
        return Ok(Err(format!("barrier {id} is {state}")));
    }
    let recorded: Option<Value> = field(&row, "differences")?;
    let differences = recorded
        .map(|found| differences(found, specs))
        .transpose()?;
    let switch = switch_of(field(&row, "switch")?)?;
    Ok(Ok(Barrier {
        switch,
        differences,
    }))
}

/// A recorded difference.
#[derive(Deserialize)]
struct Recorded {
    partition: i32,
    column: String,
    buckets: Vec<usize>,
}

fn differences(found: Value, specs: Specs<'_>) -> Result<Vec<SumDifference>, RegistryError> {
    let found: Vec<Recorded> = serde_json::from_value(found)
        .map_err(|e| RegistryError::Failed(format!("read the comparison: {e}")))?;
    let columns = || specs.0.columns.iter().chain(specs.1.columns);
    let differences = found.into_iter().map(|recorded| {
        let named = columns().map(|c| c.name).find(|n| *n == recorded.column);
        let of_engine = [ROW_COUNT, APPLIED_SEQ];
        let named = named.or_else(|| of_engine.into_iter().find(|n| *n == recorded.column));
        SumDifference {
            partition: Partition(recorded.partition),
            column: named.unwrap_or("a column of other code"),
            buckets: recorded.buckets,
        }
    });
    Ok(differences.collect())
}

fn gather(
    request: &PromoteRequest,
    candidate: &LockedVersion,
    barrier: &Barrier,
    behind_rows: &[Row],
    facts: &Row,
) -> Result<Evidence, RegistryError> {
    let mut behind = Vec::new();
    for row in behind_rows {
        let events: i64 = field(row, "events")?;
        behind.push(Behind {
            partition: Partition(field(row, "partition")?),
            events: events.max(1).cast_unsigned(),
        });
    }
    let facts = Facts::of(facts)?;
    Ok(Evidence {
        state: candidate.state,
        behind,
        differences: barrier.differences.clone(),
        scan: facts.scan,
        max_scan_age: request.max_scan_age,
        parked: facts.parked,
        gaps: facts.gaps,
        without_key: facts.without_key,
        lag: facts.lag,
        allowed_lag: request.allowed_lag,
    })
}

/// What the tables say of the candidate.
struct Facts {
    parked: u64,
    gaps: u64,
    without_key: Vec<Partition>,
    lag: u64,
    scan: Option<ScanProof>,
}

impl Facts {
    fn of(row: &Row) -> Result<Self, RegistryError> {
        let (parked, gaps): (i64, i64) = (field(row, "parked")?, field(row, "gaps")?);
        let without_key: Vec<i32> = field(row, "without_key")?;
        let lag: i64 = field(row, "lag")?;
        let scan = scan_proof(row)?;
        Ok(Self {
            parked: parked.cast_unsigned(),
            gaps: gaps.cast_unsigned(),
            without_key: without_key.into_iter().map(Partition).collect(),
            // A candidate that is ahead everywhere lags by nothing.
            lag: lag.max(0).cast_unsigned(),
            scan,
        })
    }
}

/// The scan on which the switch would rest, if there is one.
fn scan_proof(row: &Row) -> Result<Option<ScanProof>, RegistryError> {
    let findings: Option<i64> = field(row, "scan_findings")?;
    let age: Option<f64> = field(row, "scan_age")?;
    let expected: Option<i64> = field(row, "scan_expected")?;
    let confirmed: Option<i64> = field(row, "log_confirmed")?;
    let contradicted: Option<i64> = field(row, "log_contradicted")?;
    let log = confirmed
        .zip(contradicted)
        .map(|(confirmed, contradicted)| LogProof {
            confirmed: confirmed.unsigned_abs(),
            contradicted: contradicted.unsigned_abs(),
        });
    Ok(findings.zip(age).map(|(findings, age)| ScanProof {
        findings: findings.unsigned_abs(),
        age: Duration::try_from_secs_f64(age).unwrap_or_default(),
        expected: expected.unwrap_or_default().unsigned_abs(),
        log,
    }))
}

/// What the switch writes beside the promotion.
struct Order<'a> {
    name: &'a str,
    barrier: Option<i64>,
    actor: &'a str,
}

/// Flips the rows, commits, and completes `promotion` with what the database gave it.
async fn switch(
    transaction: Transaction<'_>,
    order: &Order<'_>,
    promotion: &mut Promotion,
) -> Result<Durability, RegistryError> {
    let vector = promotion.switch.iter();
    let vector: BTreeMap<String, i64> = vector.map(|(p, x)| (p.0.to_string(), x.0)).collect();
    let gates: Vec<Value> = promotion.gates.iter().map(gate_json).collect();
    let switched = transaction
        .one_and_commit(
            "switch the active version",
            SWITCH,
            &[
                &order.name,
                &promotion.from.map(|id| id.0),
                &promotion.to.0,
                &order.barrier,
                &json!(vector),
                &Value::Array(gates),
                &order.actor,
            ],
        )
        .await;
    let switched = switched?;
    let durability = durability(&switched)?;
    promotion.durability = Some(durability);
    let row = switched.row;
    promotion.id = field(&row, "promotion")?;
    promotion.generation = field(&row, "generation")?;
    promotion.switched_at = field(&row, "switched_at")?;
    Ok(durability)
}

fn gate_json(report: &GateReport) -> Value {
    let mut json = json!({"gate": report.gate.word(), "ok": report.ok, "detail": report.detail});
    if let Some(reason) = &report.forced {
        json["forced"] = json!(reason);
    }
    json
}

/// A switch vector as it is stored, as JSON.
pub(crate) fn switch_of(stored: Option<Value>) -> Result<OffsetVector, RegistryError> {
    let unreadable = |what: String| RegistryError::Failed(format!("read a switch vector: {what}"));
    let stored = stored.unwrap_or_else(|| json!({}));
    let stored: BTreeMap<String, i64> =
        serde_json::from_value(stored).map_err(|e| unreadable(e.to_string()))?;
    let entries = stored.into_iter().map(|(partition, x)| {
        let partition = partition.parse().map_err(|_| unreadable(partition))?;
        Ok((Partition(partition), Offset(x)))
    });
    entries.collect()
}

/// Activates the first version of a name. Nothing can be compared; the other
/// gates hold, and the audit says `compared: false`.
pub(crate) async fn activate_first(
    sessions: &Sessions,
    version: VersionId,
    actor: &str,
    forced: Option<&Forced>,
) -> Result<Activation, RegistryError> {
    let transaction = sessions.begin(SETTINGS).await?;
    let locked = lock_version(&transaction, version).await?;
    let found = transaction
        .first("lock the active row", FIRST_ACTIVE, &[&locked.name])
        .await?;
    if let Some(row) = found {
        let active = ActiveRow {
            version: VersionId(field(&row, "version")?),
            generation: field(&row, "generation")?,
        };
        if active.version == version {
            transaction.rollback().await?;
            let durability = confirm(sessions).await?;
            return Ok(Activation { active, durability });
        }
        let reason = format!("version {} of {} is active", active.version, locked.name);
        return Err(refuse(transaction, reason).await);
    }
    if locked.state != VersionState::Ready {
        let reason = format!("{} is {}, not ready", locked.label, locked.state);
        return Err(refuse(transaction, reason).await);
    }
    let wanted = CONFIRMED_ROWS.cast_signed();
    let facts = transaction
        .one("gather the evidence", EVIDENCE, &[&version.0, &wanted])
        .await;
    let facts = Facts::of(&facts?)?;
    let evidence = Evidence {
        state: locked.state,
        behind: Vec::new(),
        differences: None,
        scan: None,
        max_scan_age: None,
        parked: facts.parked,
        gaps: facts.gaps,
        without_key: facts.without_key,
        lag: 0,
        allowed_lag: 0,
    };
    let mut gates = judge_forced(&evidence, forced);
    gates.retain(|report| report.gate != Gate::Verified);
    // Nothing else serves, and whoever projects with -park has said what to do with such events.
    for report in &mut gates {
        if report.gate == Gate::Parked && !report.passes() {
            report.forced = Some("the first version, projected with -park".to_owned());
        }
    }
    if gates.iter().any(|report| !report.passes()) {
        transaction.rollback().await?;
        return Err(RegistryError::GateRefused(gates));
    }
    let marks = transaction
        .one("read the marks", FIRST_SWITCH, &[&version.0])
        .await;
    let mut promotion = Promotion {
        id: String::new(),
        from: None,
        to: version,
        generation: 1,
        switch: switch_of(field(&marks?, "switch")?)?,
        gates,
        switched_at: SystemTime::now(),
        flip: Duration::ZERO,
        changed: true,
        durability: None,
    };
    let order = Order {
        name: &locked.name,
        barrier: None,
        actor,
    };
    let durability = switch(transaction, &order, &mut promotion).await?;
    let generation = promotion.generation;
    let active = ActiveRow {
        version,
        generation,
    };
    Ok(Activation { active, durability })
}
