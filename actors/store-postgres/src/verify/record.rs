//! The record of a scan in the database.

use refold_domain::diff::ChosenPair;
use refold_ports::registry::RegistryError;
use refold_ports::registry::VersionRow;
use serde_json::Value;
use uuid::Uuid;

use super::PartitionScan;
use super::chosen::ChosenColumns;
use crate::parameter::Parameter;
use crate::session::Session;
use crate::transaction::field;
use crate::transaction::query;

const OPEN: &str = include_str!("../sql/scan_open.sql");
const ADD: &str = include_str!("../sql/scan_add.sql");
const FINISH: &str = include_str!("../sql/scan_finish.sql");
const RESUME: &str = include_str!("../sql/scan_resume.sql");
const FOUND: &str = include_str!("../sql/scan_found.sql");

/// What a scan compares.
pub(super) struct Subject<'a> {
    pub(super) from: &'a VersionRow,
    pub(super) to: &'a VersionRow,
    pub(super) columns: Vec<&'static str>,
    /// Fingerprint of the author's rule.
    pub(super) rule: Option<String>,
}

/// Writes the row of a new scan.
pub(super) async fn open(
    session: &Session,
    id: Uuid,
    subject: &Subject<'_>,
) -> Result<(), RegistryError> {
    let (from, to) = (subject.from, subject.to);
    let row: [&dyn Parameter; 7] = [
        &id,
        &from.id.0,
        &to.id.0,
        &subject.columns,
        &from.code_hash,
        &to.code_hash,
        &subject.rule,
    ];
    query(session, "record the scan", OPEN, &row).await?;
    Ok(())
}

/// The partitions that a stopped scan had finished.
///
/// # Errors
/// [`RegistryError::Conflict`] when there is no such scan, or it is one of other versions,
/// other code or another rule, or finished.
pub(super) async fn resume(
    session: &Session,
    id: Uuid,
    subject: &Subject<'_>,
) -> Result<Vec<PartitionScan>, RegistryError> {
    let found = query(session, "read the scan", RESUME, &[&id]).await?;
    let Some(row) = found.first() else {
        return Err(RegistryError::Conflict(format!("there is no scan {id}")));
    };
    if field::<bool>(row, "finished")? {
        let sentence = format!("scan {id} is finished; begin a new one");
        return Err(RegistryError::Conflict(sentence));
    }
    if field::<bool>(row, "was_reset")? {
        return Err(RegistryError::Conflict(format!(
            "a version of scan {id} was reset since; begin a new scan"
        )));
    }
    let versions: (i64, i64) = (field(row, "version_from")?, field(row, "version_to")?);
    let code: (Option<String>, Option<String>) = (field(row, "code_from")?, field(row, "code_to")?);
    let rule: Option<String> = field(row, "rule")?;
    let (from, to) = (subject.from, subject.to);
    let same = versions == (from.id.0, to.id.0)
        && code == (Some(from.code_hash.clone()), Some(to.code_hash.clone()))
        && rule == subject.rule;
    if !same {
        return Err(RegistryError::Conflict(format!(
            "scan {id} compared other versions, or the same by other code; begin a new one"
        )));
    }
    partitions(session, id).await
}

/// What a scan has found so far, partition by partition.
pub(super) async fn partitions(
    session: &Session,
    id: Uuid,
) -> Result<Vec<PartitionScan>, RegistryError> {
    let rows = query(session, "read what the scan found", FOUND, &[&id]).await?;
    let each = rows.iter().map(|row| {
        serde_json::from_value(field::<Value>(row, "found")?)
            .map_err(|e| RegistryError::Failed(format!("read scan {id}: {e}")))
    });
    each.collect()
}

/// Adds a partition to the record, and the pairs that were chosen in it.
///
/// # Errors
/// [`RegistryError::Conflict`] when somebody else finished the scan, or recorded the partition;
/// nothing is recorded then.
pub(super) async fn add(
    session: &Session,
    id: Uuid,
    scan: &PartitionScan,
    pairs: &[ChosenPair],
) -> Result<(), RegistryError> {
    let json = serde_json::to_value(scan)
        .map_err(|e| RegistryError::Failed(format!("write what was found: {e}")))?;
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let (findings, keys) = (number(scan.findings()), number(scan.keys()));
    let expected = number(scan.expected);
    let chosen = ChosenColumns::of(pairs);
    let mut row: Vec<&dyn Parameter> =
        vec![&id, &scan.partition, &findings, &keys, &expected, &json];
    row.extend(chosen.parameters());
    one(session, "record what was found", ADD, &row, id).await
}

/// Says that every partition was compared.
///
/// # Errors
/// [`RegistryError::Conflict`] when somebody else finished the scan, or a partition is missing.
pub(super) async fn finish(session: &Session, id: Uuid) -> Result<(), RegistryError> {
    one(session, "finish the scan", FINISH, &[&id], id).await
}

async fn one(
    session: &Session,
    what: &str,
    sql: &str,
    parameters: &[&dyn Parameter],
    id: Uuid,
) -> Result<(), RegistryError> {
    match query(session, what, sql, parameters).await?.len() {
        1 => Ok(()),
        _ => Err(RegistryError::Conflict(format!(
            "{what}: somebody else resumed scan {id} as well; let one go on, or begin a new scan"
        ))),
    }
}
