//! Barriers: one vector of offsets that two versions hit exactly, and their sums there.

use std::collections::BTreeMap;

use refold_domain::barrier::OffsetVector;
use refold_domain::barrier::SumDifference;
use refold_domain::barrier::compare_sums;
use refold_domain::barrier::switch_vector;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::sums::SumLayout;
use refold_domain::sums::Sums;
use refold_domain::version::VersionId;
use refold_ports::registry::BarrierProgress;
use refold_ports::registry::BarrierProof;
use refold_ports::registry::BarrierRow;
use refold_ports::registry::RegistryError;
use serde_json::Value;
use serde_json::json;
use tokio_postgres::Row;

use crate::parameter::Parameter;
use crate::registry::refuse;
use crate::registry::state_of;
use crate::transaction::Sessions;
use crate::transaction::Transaction;
use crate::transaction::field;

const PAIR: &str = include_str!("sql/barrier_pair.sql");
const LOCK_MARKS: &str = include_str!("sql/barrier_lock_marks.sql");
const MARKS: &str = include_str!("sql/barrier_marks.sql");
const INSERT: &str = include_str!("sql/barrier_insert.sql");
const COMPLETE: &str = include_str!("sql/barrier_complete.sql");
const PROGRESS: &str = include_str!("sql/barrier_progress.sql");
const MOVE: &str = include_str!("sql/barrier_move.sql");
const ACKS: &str = include_str!("sql/barrier_acks.sql");
const RECORD_PROOF: &str = include_str!("sql/barrier_record_proof.sql");

/// The settings of a transaction that does not wait for the disk, nor for a standby. A barrier is
/// of use to one switch, whose commit waits for both and stands behind it in the server's log: a
/// crash that takes the barrier takes what rests on it as well. So it is with its comparison:
/// whoever wants to know what it found does not wait for the disk either. While a barrier is set
/// the marks are locked.
const UNHURRIED: &str = "set local lock_timeout = '1s'; set local statement_timeout = '3s'; \
    set local synchronous_commit = off";

/// What is run while the marks are held.
const PREPARED: [&str; 4] = [PAIR, LOCK_MARKS, MARKS, INSERT];

/// The declarations of both ends, the serving one first.
pub(crate) type Specs<'a> = (&'a ProjectionSpec, &'a ProjectionSpec);

/// Sets a barrier at the higher mark of each partition.
///
/// The marks are read under share locks, which every fence has to wait for: no
/// batch can run past the vector between its choice and its commit. So that they wait for as
/// few turns as can be, all that comes before the choice is sent at once, and the rest with the
/// commit.
pub(crate) async fn set(
    sessions: &Sessions,
    from: VersionId,
    to: VersionId,
) -> Result<BarrierRow, RegistryError> {
    let transaction = sessions.start(&PREPARED).await?;
    let (xid, found) = futures::join!(
        transaction.begin(UNHURRIED),
        Held::read(&transaction, from, to)
    );
    let (transaction, found) = (transaction.with(xid?), found?);
    let switch = match found.switch(from, to)? {
        Ok(switch) => switch,
        Err(reason) => return Err(refuse(transaction, reason).await),
    };
    let partitions: Vec<i32> = switch.keys().map(|p| p.0).collect();
    let offsets: Vec<i64> = switch.values().map(|x| x.0).collect();
    let inserted = transaction
        .one_and_commit(
            "set the barrier",
            INSERT,
            &[&from.0, &to.0, &partitions, &offsets],
        )
        .await;
    let id: i64 = field(&inserted?.row, "id")?;
    Ok(BarrierRow {
        id,
        from,
        to,
        switch,
    })
}

/// Both versions and their marks, as they are while they are locked.
struct Held {
    versions: Vec<Row>,
    marks: Vec<Row>,
}

impl Held {
    /// Asks for everything before the first answer, as a promotion does.
    async fn read(
        transaction: &Transaction<'_>,
        from: VersionId,
        to: VersionId,
    ) -> Result<Self, RegistryError> {
        let both: [&dyn Parameter; 2] = [&from.0, &to.0];
        // This macro polls in the order in which they stand here; that is the order of the locks.
        let (versions, _, marks) = futures::try_join!(
            transaction.query("lock both versions", PAIR, &both),
            transaction.query("hold the marks", LOCK_MARKS, &both),
            transaction.query("read the marks", MARKS, &both),
        )?;
        Ok(Self { versions, marks })
    }

    /// Where these two meet, or why they cannot.
    fn switch(
        &self,
        from: VersionId,
        to: VersionId,
    ) -> Result<Result<OffsetVector, String>, RegistryError> {
        if let Some(reason) = unlike(&self.versions, from, to)? {
            return Ok(Err(reason));
        }
        let chosen = choose(&self.marks, from, to)?;
        Ok(chosen
            .map_err(|partition| format!("{partition} has a mark in one of the two versions only")))
    }
}

/// Why these two cannot meet at a barrier, if they cannot.
fn unlike(rows: &[Row], from: VersionId, to: VersionId) -> Result<Option<String>, RegistryError> {
    let [one, other] = rows else {
        return Ok(Some(format!("{from} and {to} are not two versions")));
    };
    for row in [one, other] {
        let (label, state): (String, _) = (field(row, "label")?, state_of(row)?);
        if !state.is_readable() {
            return Ok(Some(format!(
                "{label} is {state}; a barrier wants two versions that hold their history"
            )));
        }
    }
    for column in ["name", "cluster_id", "topic"] {
        let (a, b): (String, String) = (field(one, column)?, field(other, column)?);
        if a != b {
            return Ok(Some(format!("the versions' {column} differ: {a} and {b}")));
        }
    }
    let counts: (i32, i32) = (field(one, "partitions")?, field(other, "partitions")?);
    if counts.0 != counts.1 {
        let (a, b) = counts;
        return Ok(Some(format!("the versions have {a} and {b} partitions")));
    }
    Ok(None)
}

/// The switch vector of the marks in `rows`, or the partition that one side lacks.
fn choose(
    rows: &[Row],
    from: VersionId,
    to: VersionId,
) -> Result<Result<OffsetVector, Partition>, RegistryError> {
    let mut marks: BTreeMap<VersionId, OffsetVector> = BTreeMap::new();
    for row in rows {
        let of_version = marks.entry(VersionId(field(row, "version")?)).or_default();
        of_version.insert(
            Partition(field(row, "partition")?),
            Offset(field(row, "next_offset")?),
        );
    }
    let live = marks.remove(&from).unwrap_or_default();
    let new = marks.remove(&to).unwrap_or_default();
    Ok(switch_vector(&live, &new))
}

pub(crate) async fn is_complete(sessions: &Sessions, barrier: i64) -> Result<bool, RegistryError> {
    let what = "look whether the barrier is complete";
    let rows = sessions.query(what, COMPLETE, &[&barrier]).await?;
    field(standing(&rows, barrier)?, "complete")
}

/// The first row of a barrier that is not withdrawn.
fn standing(rows: &[Row], barrier: i64) -> Result<&Row, RegistryError> {
    let row = rows.first().ok_or_else(|| gone(barrier, "missing"))?;
    let state: String = field(row, "state")?;
    match state.as_str() {
        "waiting" | "complete" => Ok(row),
        _ => Err(gone(barrier, &state)),
    }
}

pub(crate) async fn progress(
    sessions: &Sessions,
    barrier: i64,
) -> Result<BarrierProgress, RegistryError> {
    let rows = sessions
        .query("look at the barrier", PROGRESS, &[&barrier])
        .await?;
    standing(&rows, barrier)?;
    let mut waiting = Vec::new();
    for row in &rows {
        if field::<bool>(row, "acked")? {
            continue;
        }
        let version = VersionId(field(row, "version")?);
        let partition = Partition(field(row, "partition")?);
        let switch = Offset(field(row, "x")?);
        let next = Offset(field::<Option<i64>>(row, "next_offset")?.unwrap_or_default());
        if next > switch {
            // Only a mark that moved without the fence gets here.
            move_to(sessions, barrier, "void").await?;
            return Err(gone(barrier, "void"));
        }
        waiting.push((version, partition, next.lag_to(switch)));
    }
    Ok(BarrierProgress {
        acked: rows.len() - waiting.len(),
        wanted: rows.len(),
        waiting,
    })
}

fn gone(barrier: i64, state: &str) -> RegistryError {
    RegistryError::Conflict(format!(
        "barrier {barrier} is {state}: another promotion replaced it, or it was withdrawn"
    ))
}

/// Compares the recorded sums and records the outcome, which `promote` goes by.
pub(crate) async fn compare(
    sessions: &Sessions,
    barrier: i64,
    specs: Specs<'_>,
    columns: &[&'static str],
) -> Result<BarrierProof, RegistryError> {
    let rows = sessions
        .query("read the barrier's sums", ACKS, &[&barrier])
        .await?;
    let labels = (specs.0.label(), specs.1.label());
    let layouts = (specs.0.sum_layout(), specs.1.sum_layout());
    let (mut differences, mut counted) = (Vec::new(), (0, 0));
    for row in &rows {
        let state: String = field(row, "state")?;
        if !matches!(state.as_str(), "waiting" | "complete") {
            return Err(gone(barrier, &state));
        }
        let found: (String, String) = (field(row, "from_label")?, field(row, "to_label")?);
        if found != labels {
            let (from, to) = found;
            return Err(RegistryError::Conflict(format!(
                "barrier {barrier} stands between {from} and {to}"
            )));
        }
        let left = side(row, barrier, &layouts.0, ("from_sums", "from_rows"))?;
        let right = side(row, barrier, &layouts.1, ("to_sums", "to_rows"))?;
        counted = (counted.0 + left.1, counted.1 + right.1);
        let partition = Partition(field(row, "partition")?);
        let (left, right) = ((&layouts.0, &left.0), (&layouts.1, &right.0));
        differences.extend(compare_sums(partition, left, right, columns));
    }
    if rows.is_empty() {
        return Err(gone(barrier, "missing"));
    }
    let ids = record(sessions, barrier, columns, &differences).await?;
    Ok(BarrierProof {
        barrier,
        columns: columns.iter().map(|c| (*c).to_owned()).collect(),
        rows: BTreeMap::from([(ids.0, counted.0), (ids.1, counted.1)]),
        differences,
    })
}

/// Sums and rows of one side of one partition.
fn side(
    row: &Row,
    barrier: i64,
    layout: &SumLayout,
    (sums, rows): (&str, &str),
) -> Result<(Sums, u64), RegistryError> {
    let bytes: Option<&[u8]> = field(row, sums)?;
    let bytes = bytes
        .ok_or_else(|| RegistryError::Conflict(format!("barrier {barrier} is not complete yet")))?;
    let sums = Sums::from_bytes(layout, bytes);
    let sums = sums.map_err(|e| RegistryError::Failed(format!("read the barrier's sums: {e}")))?;
    let rows: i64 = field(row, rows)?;
    Ok((sums, rows.cast_unsigned()))
}

async fn record(
    sessions: &Sessions,
    barrier: i64,
    columns: &[&'static str],
    differences: &[SumDifference],
) -> Result<(VersionId, VersionId), RegistryError> {
    let found: Vec<Value> = differences.iter().map(difference_json).collect();
    let transaction = sessions.start(&[RECORD_PROOF]).await?;
    let xid = transaction.begin(UNHURRIED).await?;
    let recorded = transaction
        .with(xid)
        .one_and_commit(
            "record the comparison",
            RECORD_PROOF,
            &[&barrier, &columns.to_vec(), &Value::Array(found)],
        )
        .await;
    let row = recorded?.row;
    Ok((
        VersionId(field(&row, "version_from")?),
        VersionId(field(&row, "version_to")?),
    ))
}

fn difference_json(difference: &SumDifference) -> Value {
    json!({
        "partition": difference.partition.0,
        "column": difference.column,
        "buckets": difference.buckets,
    })
}

pub(crate) async fn withdraw(sessions: &Sessions, barrier: i64) -> Result<(), RegistryError> {
    move_to(sessions, barrier, "dropped").await
}

async fn move_to(sessions: &Sessions, barrier: i64, state: &str) -> Result<(), RegistryError> {
    let transaction = sessions.begin(UNHURRIED).await?;
    transaction
        .query("move the barrier", MOVE, &[&barrier, &state])
        .await?;
    transaction.commit().await
}
