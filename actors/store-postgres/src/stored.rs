//! Promotions that are in: what they did, and who has them by now.

use std::time::Instant;

use refold_domain::cutover::Gate;
use refold_domain::cutover::GateReport;
use refold_domain::version::VersionId;
use refold_ports::registry::Durability;
use refold_ports::registry::Promotion;
use refold_ports::registry::RegistryError;
use serde::Deserialize;
use serde_json::Value;

use crate::promote::switch_of;
use crate::registry::SETTINGS;
use crate::transaction::Committed;
use crate::transaction::Sessions;
use crate::transaction::Transaction;
use crate::transaction::field;

const STORED: &str = include_str!("sql/promote_stored.sql");
const CONFIRM: &str = include_str!("sql/promote_confirm.sql");
const FLUSH: &str = include_str!("sql/promote_flush.sql");

/// The settings of a transaction that waits for the disk of this server and for no standby.
const HERE: &str = "set local lock_timeout = '1s'; set local statement_timeout = '3s'; \
    set local synchronous_commit = local";

/// The promotion that made the active version active.
pub(crate) async fn stored(
    transaction: &Transaction<'_>,
    active: VersionId,
    started: Instant,
) -> Result<Promotion, RegistryError> {
    let row = transaction
        .one("read the promotion", STORED, &[&active.0])
        .await?;
    let from: Option<i64> = field(&row, "version_from")?;
    Ok(Promotion {
        id: field(&row, "id")?,
        from: from.map(VersionId),
        to: VersionId(field(&row, "version_to")?),
        generation: field(&row, "generation")?,
        switch: switch_of(field(&row, "switch")?)?,
        gates: gates_of(field(&row, "gates")?)?,
        switched_at: field(&row, "switched_at")?,
        flip: started.elapsed(),
        changed: false,
        durability: None,
    })
}

#[derive(Deserialize)]
struct StoredGate {
    gate: String,
    ok: bool,
    detail: String,
    #[serde(default)]
    forced: Option<String>,
}

fn gates_of(stored: Value) -> Result<Vec<GateReport>, RegistryError> {
    let stored: Vec<StoredGate> = serde_json::from_value(stored)
        .map_err(|e| RegistryError::Failed(format!("read a promotion's gates: {e}")))?;
    let reports = stored.into_iter().filter_map(|stored| {
        let gate = Gate::parse(&stored.gate)?;
        Some(GateReport {
            gate,
            ok: stored.ok,
            detail: stored.detail,
            forced: stored.forced,
        })
    });
    Ok(reports.collect())
}

/// Has the server write to its disk what was committed before, however its own commit ended, and
/// holds no row meanwhile.
///
/// # Errors
/// [`RegistryError::Unreachable`]; what comes next may have to wait for it itself.
pub(crate) async fn flush(sessions: &Sessions) -> Result<(), RegistryError> {
    let transaction = sessions.begin(HERE).await?;
    let flushed = transaction.one_and_commit("wait for the disk", FLUSH, &[]);
    flushed.await.map(drop)
}

/// Who has what was committed before, however its own commit ended: waits for the synchronous
/// standbys as a promotion does, and holds no row meanwhile.
///
/// # Errors
/// [`RegistryError::Unreachable`]; nothing is known then.
pub(crate) async fn confirm(sessions: &Sessions) -> Result<Durability, RegistryError> {
    let transaction = sessions.begin(SETTINGS).await?;
    let confirmed = transaction
        .one_and_commit("wait for the standbys", CONFIRM, &[])
        .await;
    durability(&confirmed?)
}

/// What a commit is worth whose statement asked for a wait, if there was something to wait for.
pub(crate) fn durability(committed: &Committed) -> Result<Durability, RegistryError> {
    let awaits_standby: bool = field(&committed.row, "awaits_standby")?;
    Ok(match (committed.standby_given_up, awaits_standby) {
        (true, _) => Durability::Pending,
        (false, true) => Durability::Replicated,
        (false, false) => Durability::Local,
    })
}
