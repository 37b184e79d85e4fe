//! Proof on the rows themselves: two versions compared in SQL at one offset per
//! partition, while both go on.
//!
//! A snapshot in which both marks of a partition are equal shows both leaves at
//! exactly that offset, because rows and mark move in one transaction. Where the
//! tail moves, such a moment is made: both versions are parked at the higher
//! mark, the one behind reaches it, the snapshot is taken, and the park is lifted.
//! That holds one partition's projection for some milliseconds, and no read.

use std::time::Duration;
use std::time::Instant;

use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::sums::APPLIED_SEQ;
use refold_domain::version::VersionId;
use refold_ports::Registry;
use refold_ports::registry::RegistryError;
use refold_ports::registry::VersionRow;
use serde::Serialize;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::ddl;
use crate::registry::PgRegistry;
use crate::session::Session;
use crate::session::SessionOptions;
use crate::transaction::field;
use crate::transaction::query;
use crate::transaction::registry_error;

const HOLD: &str = include_str!("sql/verify_hold.sql");
const PARK: &str = include_str!("sql/verify_park.sql");
const UNPARK: &str = include_str!("sql/verify_unpark.sql");
const MARKS: &str = include_str!("sql/verify_marks.sql");
const RECORD: &str = include_str!("sql/verify_record.sql");

/// Begins a snapshot; its first statement takes it.
pub(crate) const SNAPSHOT: &str = "begin transaction isolation level repeatable read read only";

/// Between two looks at a parked partition.
const POLL: Duration = Duration::from_millis(2);

/// How much longer than its wait a park may live when its verifier dies.
const LEASE: Duration = Duration::from_secs(2);

/// What a comparison looks at and how long it takes at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Columns that both versions have; [`APPLIED_SEQ`] stands for the rows' position in their aggregate.
    pub columns: Vec<&'static str>,
    /// Keys to name per partition where rows differ.
    pub sample: usize,
    /// How long a version may take to reach the park.
    pub hold: Duration,
    /// How long one partition's comparison may take.
    pub scan: Duration,
}

impl VerifyOptions {
    /// These columns; ten keys per partition, 10 s to reach the park, 30 min for a scan.
    pub fn of(columns: Vec<&'static str>) -> Self {
        Self {
            columns,
            sample: 10,
            hold: Duration::from_secs(10),
            scan: Duration::from_secs(1_800),
        }
    }
}

/// One partition of two versions, compared at one offset.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartitionReport {
    /// The partition.
    pub partition: i32,
    /// The offset X, exclusive: everything below is in both, nothing at or above.
    pub at: i64,
    /// Mark of the first version in the snapshot.
    pub from_next: i64,
    /// Mark of the second version in the snapshot.
    pub to_next: i64,
    /// Rows of the first version that are not deleted.
    pub from_rows: i64,
    /// Rows of the second version that are not deleted.
    pub to_rows: i64,
    /// Rows that only the first version has in this form.
    pub only_from: i64,
    /// Rows that only the second version has in this form.
    pub only_to: i64,
    /// Keys whose rows differ or that one side lacks.
    pub different_keys: i64,
    /// Some of them.
    pub sample: Vec<String>,
    /// How long the projection of this partition was held, in milliseconds.
    pub held_ms: f64,
}

/// Two versions compared over all partitions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairReport {
    /// Its id in `refold.verifications`.
    pub id: String,
    /// The first version.
    pub from: String,
    /// The second version.
    pub to: String,
    /// The columns that were compared.
    pub columns: Vec<String>,
    /// Each partition at its own offset.
    pub partitions: Vec<PartitionReport>,
}

impl PairReport {
    /// Rows of the larger side that were looked at.
    pub fn rows_compared(&self) -> i64 {
        let rows = self.partitions.iter().map(|p| p.from_rows.max(p.to_rows));
        rows.sum()
    }

    /// Keys whose rows differ.
    pub fn differences(&self) -> i64 {
        self.partitions.iter().map(|p| p.different_keys).sum()
    }

    /// Sum of the offsets at which the partitions were compared.
    pub fn offset_sum(&self) -> i64 {
        self.partitions.iter().map(|p| p.at).sum()
    }
}

/// Compares versions, and exports their rows.
#[derive(Debug, Clone)]
pub struct PgVerifier {
    pub(crate) registry: PgRegistry,
    pub(crate) options: SessionOptions,
}

/// What one comparison works with.
struct Run<'a> {
    id: Uuid,
    from: VersionRow,
    to: VersionRow,
    options: &'a VerifyOptions,
    /// Takes and lifts parks.
    control: Session,
    /// Holds one snapshot at a time.
    reader: Session,
}

/// The leaf of one version of a partition in a snapshot.
pub(crate) struct SnapshotMark {
    pub(crate) version: VersionId,
    pub(crate) next: Offset,
    pub(crate) sums: Vec<u8>,
}

impl PgVerifier {
    /// A verifier on a migrated database.
    pub fn new(options: &SessionOptions) -> Self {
        Self {
            registry: PgRegistry::new(options),
            options: options.clone(),
        }
    }

    /// Compares two versions of one log with EXCEPT in both directions, each
    /// partition at an offset at which both stand, and records the outcome.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] when a column is not in both, when a leaf is
    /// missing, or when a version does not reach the park in time because no
    /// projector moves it; others as their names say. No park is left behind.
    pub async fn verify_pair(
        &self,
        from: &ProjectionSpec,
        to: &ProjectionSpec,
        options: &VerifyOptions,
    ) -> Result<PairReport, RegistryError> {
        let columns = sql_columns(from, to, &options.columns)?;
        let run = Run {
            id: Uuid::new_v4(),
            from: self.registered(from).await?,
            to: self.registered(to).await?,
            options,
            control: self.session().await?,
            reader: self.session().await?,
        };
        run.check_pair()?;
        let mut partitions = Vec::new();
        for partition in (0..run.from.log.partitions).map(Partition) {
            let report = run.compare(partition, &columns).await;
            if report.is_err() {
                run.unpark().await?;
            }
            partitions.push(report?);
        }
        let report = PairReport {
            id: run.id.to_string(),
            from: run.from.label.clone(),
            to: run.to.label.clone(),
            columns: options.columns.iter().map(|c| (*c).to_owned()).collect(),
            partitions,
        };
        run.record(&report).await?;
        Ok(report)
    }

    /// The registry's row of a version that this code belongs to.
    pub(crate) async fn registered(
        &self,
        spec: &ProjectionSpec,
    ) -> Result<VersionRow, RegistryError> {
        let row = self.registry.version(&spec.label()).await?;
        let running = spec.code_hash();
        if row.code_hash == running {
            return Ok(row);
        }
        Err(RegistryError::CodeChanged {
            label: row.label,
            stored: row.code_hash,
            running,
        })
    }

    /// A session for scans.
    pub(crate) async fn session(&self) -> Result<Session, RegistryError> {
        let session = Session::open(&self.options, "refold verify").await;
        let session = session.map_err(registry_error)?;
        // A comparison reads whole leaves, each by a plan of its own.
        let settings = "set enable_seqscan = on; set plan_cache_mode = auto; set work_mem = '64MB'";
        let set = session.batch("set the session up", settings).await;
        set.map_err(registry_error)?;
        Ok(session)
    }
}

impl Run<'_> {
    fn check_pair(&self) -> Result<(), RegistryError> {
        let (from, to) = (&self.from, &self.to);
        let same = |a: &VersionRow, b: &VersionRow| {
            (&a.log.cluster_id, &a.log.topic, a.log.partitions)
                == (&b.log.cluster_id, &b.log.topic, b.log.partitions)
        };
        if same(from, to) {
            return Ok(());
        }
        Err(RegistryError::Conflict(format!(
            "{} and {} are built from different logs",
            from.label, to.label
        )))
    }

    async fn compare(
        &self,
        partition: Partition,
        columns: &str,
    ) -> Result<PartitionReport, RegistryError> {
        let (marks, held) = self.snapshot_at_equal_marks(partition).await?;
        let what = format!("compare {partition}");
        let leaf = |version| ddl::leaf_name(version, partition);
        let sql = comparison(&leaf(self.from.id), &leaf(self.to.id), columns);
        let sample = i64::try_from(self.options.sample).unwrap_or(i64::MAX);
        let parameters: [&(dyn ToSql + Sync); 1] = [&sample];
        let row = self.reader.client().query_one(sql.as_str(), &parameters);
        let row = self.reader.within_time(&what, self.options.scan, row).await;
        let row = row.map_err(registry_error)?;
        self.reader.rollback().await.map_err(registry_error)?;
        Ok(PartitionReport {
            partition: partition.0,
            at: marks.0.next.0,
            from_next: marks.0.next.0,
            to_next: marks.1.next.0,
            from_rows: field(&row, "from_rows")?,
            to_rows: field(&row, "to_rows")?,
            only_from: field(&row, "only_from")?,
            only_to: field(&row, "only_to")?,
            different_keys: field(&row, "different_keys")?,
            sample: field(&row, "sample")?,
            held_ms: held.as_secs_f64() * 1_000.0,
        })
    }

    /// Leaves the reader inside a snapshot that shows both versions at one offset,
    /// and says for how long the partition was held for it.
    async fn snapshot_at_equal_marks(
        &self,
        partition: Partition,
    ) -> Result<((SnapshotMark, SnapshotMark), Duration), RegistryError> {
        // A quiet tail needs no park.
        let marks = self.snapshot(partition).await?;
        if marks.0.next == marks.1.next {
            return Ok((marks, Duration::ZERO));
        }
        let started = Instant::now();
        self.park(partition).await?;
        loop {
            self.reader.rollback().await.map_err(registry_error)?;
            let marks = self.snapshot(partition).await?;
            if marks.0.next == marks.1.next {
                self.unpark().await?;
                return Ok((marks, started.elapsed()));
            }
            if started.elapsed() >= self.options.hold {
                return Err(self.not_reached(partition, &marks));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn not_reached(
        &self,
        partition: Partition,
        marks: &(SnapshotMark, SnapshotMark),
    ) -> RegistryError {
        let (a, b) = (marks.0.next, marks.1.next);
        let (label, at, wanted) = if a < b {
            (&self.from.label, a, b)
        } else {
            (&self.to.label, b, a)
        };
        let waited = self.options.hold;
        RegistryError::Conflict(format!(
            "{label} stands at {at} in {partition} and did not reach {wanted} within {waited:?}: does its projector run?"
        ))
    }

    /// Begins a snapshot and reads both marks in it.
    async fn snapshot(
        &self,
        partition: Partition,
    ) -> Result<(SnapshotMark, SnapshotMark), RegistryError> {
        let (from, to) = (&self.from, &self.to);
        let marks = begin_snapshot(&self.reader, (from.id, to.id), partition).await?;
        let mut left = None;
        let mut right = None;
        for mark in marks {
            if mark.version == from.id {
                left = Some(mark);
            } else {
                right = Some(mark);
            }
        }
        // A version compared with itself has one mark.
        left.zip(right).ok_or_else(|| {
            RegistryError::Conflict(format!(
                "{} and {} do not both have a table for {partition}",
                from.label, to.label
            ))
        })
    }

    /// Parks both versions at the higher mark of the partition.
    async fn park(&self, partition: Partition) -> Result<(), RegistryError> {
        let parked = self.park_in_transaction(partition).await;
        if parked.is_err() {
            // What went wrong is the answer; a session that cannot roll back is gone anyway.
            drop(self.control.rollback().await);
        }
        parked
    }

    async fn park_in_transaction(&self, partition: Partition) -> Result<(), RegistryError> {
        let control = &self.control;
        let pair = (&self.from.id.0, &self.to.id.0);
        let lease = (self.options.hold + LEASE).as_secs_f64();
        let begin = control.batch("begin the park", "begin").await;
        begin.map_err(registry_error)?;
        let both: [&(dyn ToSql + Sync); 3] = [pair.0, pair.1, &partition.0];
        query(control, "hold the partition's marks", HOLD, &both).await?;
        let what = "park the partition";
        let park: [&(dyn ToSql + Sync); 5] = [pair.0, pair.1, &partition.0, &self.id, &lease];
        let parked = query(control, what, PARK, &park).await?;
        let row = parked
            .first()
            .ok_or_else(|| RegistryError::Failed(format!("{what}: no row came back")))?;
        let xid: String = field(row, "xid")?;
        control.commit(&xid).await.map_err(registry_error)
    }

    async fn unpark(&self) -> Result<(), RegistryError> {
        query(&self.control, "lift the park", UNPARK, &[&self.id]).await?;
        Ok(())
    }

    async fn record(&self, report: &PairReport) -> Result<(), RegistryError> {
        let partitions = serde_json::to_value(&report.partitions)
            .map_err(|e| RegistryError::Failed(format!("write the report: {e}")))?;
        let record: [&(dyn ToSql + Sync); 6] = [
            &self.id,
            &self.from.id.0,
            &self.to.id.0,
            &report.columns,
            &partitions,
            &report.differences(),
        ];
        query(&self.control, "record the verification", RECORD, &record).await?;
        Ok(())
    }
}

/// Begins a snapshot on `reader` and reads the marks of these versions in it.
/// Refuses one that is older than a leaf: COPY FREEZE shows it rows that it must not see.
pub(crate) async fn begin_snapshot(
    reader: &Session,
    versions: (VersionId, VersionId),
    partition: Partition,
) -> Result<Vec<SnapshotMark>, RegistryError> {
    let begun = reader.batch("begin a snapshot", SNAPSHOT).await;
    begun.map_err(registry_error)?;
    let parameters: [&(dyn ToSql + Sync); 3] = [&versions.0.0, &versions.1.0, &partition.0];
    let rows = query(reader, "read the marks", MARKS, &parameters).await?;
    let mut marks = Vec::with_capacity(rows.len());
    for row in &rows {
        let version = VersionId(field(row, "version")?);
        if !field::<bool>(row, "readable")? {
            return Err(RegistryError::Conflict(format!(
                "{partition} of version {version} is still being loaded"
            )));
        }
        marks.push(SnapshotMark {
            version,
            next: Offset(field(row, "next_offset")?),
            sums: field(row, "sums")?,
        });
    }
    Ok(marks)
}

/// The columns as SQL text, after a check that both versions have them.
fn sql_columns(
    from: &ProjectionSpec,
    to: &ProjectionSpec,
    columns: &[&'static str],
) -> Result<String, RegistryError> {
    let mut sql = String::from("key");
    for name in columns {
        if *name == APPLIED_SEQ {
            sql.push_str(", agg_version");
            continue;
        }
        let find = |spec: &ProjectionSpec| spec.columns.iter().find(|c| c.name == *name).copied();
        let both = find(from).zip(find(to));
        if both.is_none_or(|(a, b)| a.ty != b.ty) {
            return Err(RegistryError::Conflict(format!(
                "{} and {} do not share a column {name}",
                from.label(),
                to.label()
            )));
        }
        let name = ddl::checked(name).map_err(registry_error)?;
        sql.push_str(&format!(", \"{name}\""));
    }
    Ok(sql)
}

/// One statement, so that everything it counts is of one snapshot. Keys are
/// unique in a leaf, so EXCEPT removes no duplicates.
fn comparison(from: &str, to: &str, columns: &str) -> String {
    let rows = |leaf: &str| format!("select {columns} from {leaf} where not deleted");
    let (a, b) = (rows(from), rows(to));
    format!(
        "with only_from as ({a} except {b}), only_to as ({b} except {a}),
            different as (select key from only_from union select key from only_to)
        select (select count(*) from only_from) as only_from,
            (select count(*) from only_to) as only_to,
            (select count(*) from different) as different_keys,
            array(select key::text from different order by key limit $1) as sample,
            (select count(*) from {from} where not deleted) as from_rows,
            (select count(*) from {to} where not deleted) as to_rows"
    )
}
