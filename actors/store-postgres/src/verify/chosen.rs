//! The rows that a scan chose for the log, and what the log said of them.

use refold_domain::diff::Choice;
use refold_domain::diff::ChosenPair;
use refold_domain::diff::KeptRow;
use refold_domain::diff::PairPlan;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_ports::registry::RegistryError;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::PartitionScan;
use super::PgVerifier;
use super::record;
use super::scan::not_comparable;
use crate::parameter::Parameter;
use crate::session::Session;
use crate::transaction::field;
use crate::transaction::query;

const CLOSE: &str = include_str!("../sql/scan_rows_close.sql");
const READ: &str = include_str!("../sql/scan_rows_read.sql");
const LAST: &str = include_str!("../sql/scan_last.sql");
const NAMED: &str = include_str!("../sql/testimony_named.sql");
const TESTIMONY: &str = include_str!("../sql/testimony.sql");

/// The last scan of two versions, with the rows that it chose among those that differ as expected.
#[derive(Debug, Clone)]
pub struct RecordedScan {
    /// Its id.
    pub id: String,
    /// The number that decided which rows were chosen.
    pub seed: u64,
    /// Keys that differ as expected.
    pub expected: u64,
    /// What was found, partition by partition.
    pub partitions: Vec<PartitionScan>,
    /// The chosen rows, the lowest rank first, as the scan's snapshots showed them.
    pub chosen: Vec<(Partition, ChosenPair)>,
}

/// What the log said of one version's rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Testimony {
    /// Rows that are what the log gives.
    pub confirmed: u64,
    /// Rows that are not.
    pub contradicted: u64,
    /// Some of these, for people: a JSON array.
    pub named: Value,
}

/// The seed of a scan's choice: nobody knows it before the scan begins, everybody after.
pub(super) fn seed_of(id: Uuid) -> u64 {
    let (high, low) = id.as_u64_pair();
    high ^ low
}

impl PgVerifier {
    /// The scan `id` of two versions by the code that they have now, or the last one of them.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] when there is none that read everything; others as their
    /// names say.
    pub async fn recorded_scan(
        &self,
        (one, other): (&ProjectionSpec, &ProjectionSpec),
        id: Option<&str>,
    ) -> Result<RecordedScan, RegistryError> {
        PairPlan::of(one, other).map_err(|e| not_comparable(&e))?;
        let (one, other) = (self.registered(one).await?, self.registered(other).await?);
        let id = id.map(parse).transpose()?;
        let session = self.session().await?;
        let pair: [&dyn Parameter; 3] = [&one.id.0, &other.id.0, &id];
        let found = query(&session, "read the last scan", LAST, &pair).await?;
        let Some(row) = found.first() else {
            return Err(RegistryError::Conflict(format!(
                "there is no such scan of {} and {} by the code that they have now; \
                 `refold verify -version {} -against {}` makes one",
                one.label, other.label, other.label, one.label
            )));
        };
        let id: Uuid = field(row, "id")?;
        Ok(RecordedScan {
            id: id.to_string(),
            seed: seed_of(id),
            expected: field::<i64>(row, "expected")?.unsigned_abs(),
            partitions: record::partitions(&session, id).await?,
            chosen: read(&session, id).await?,
        })
    }

    /// The rows of a version that the log contradicted among those of a scan, as far as they were
    /// named: partition and key's cell.
    ///
    /// # Errors
    /// As their names say.
    pub async fn contradicted(
        &self,
        scan: &RecordedScan,
        spec: &ProjectionSpec,
    ) -> Result<Vec<(Partition, Vec<u8>)>, RegistryError> {
        let version = self.registered(spec).await?;
        let (session, id) = (self.session().await?, parse(&scan.id)?);
        let of: [&dyn Parameter; 2] = [&id, &version.id.0];
        let rows = query(&session, "read what the log contradicted", NAMED, &of).await?;
        let named = rows
            .iter()
            .map(|row| Ok((Partition(field(row, "partition")?), field(row, "cell")?)));
        named.collect()
    }

    /// Keeps what the log said of a version's rows among those of a scan.
    ///
    /// # Errors
    /// As their names say.
    pub async fn testify(
        &self,
        scan: &str,
        spec: &ProjectionSpec,
        testimony: &Testimony,
    ) -> Result<(), RegistryError> {
        let version = self.registered(spec).await?;
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let counts = (number(testimony.confirmed), number(testimony.contradicted));
        let scan = parse(scan)?;
        let row: [&dyn Parameter; 5] =
            [&scan, &version.id.0, &counts.0, &counts.1, &testimony.named];
        let session = self.session().await?;
        query(&session, "keep what the log said", TESTIMONY, &row).await?;
        Ok(())
    }
}

/// The id of a scan.
pub(super) fn parse(text: &str) -> Result<Uuid, RegistryError> {
    Uuid::parse_str(text)
        .map_err(|_| RegistryError::Conflict(format!("{text:?} is not the id of a scan")))
}

/// The pairs that were chosen in a partition, a list for each column of their table.
pub(super) struct ChosenColumns<'a> {
    rank: Vec<i64>,
    key: Vec<&'a [u8]>,
    old: SideColumns<'a>,
    new: SideColumns<'a>,
}

struct SideColumns<'a> {
    cells: Vec<&'a [u8]>,
    seq: Vec<i64>,
    off: Vec<i64>,
}

impl<'a> ChosenColumns<'a> {
    pub(super) fn of(pairs: &'a [ChosenPair]) -> Self {
        Self {
            rank: pairs.iter().map(|p| p.rank.cast_signed()).collect(),
            key: pairs.iter().map(|p| p.key.as_slice()).collect(),
            old: SideColumns::of(pairs.iter().map(|pair| &pair.old)),
            new: SideColumns::of(pairs.iter().map(|pair| &pair.new)),
        }
    }

    /// In the order of the table.
    pub(super) fn parameters(&self) -> [&dyn Parameter; 8] {
        let (old, new) = (&self.old, &self.new);
        [
            &self.rank, &self.key, &old.cells, &old.seq, &old.off, &new.cells, &new.seq, &new.off,
        ]
    }
}

impl<'a> SideColumns<'a> {
    fn of(rows: impl Iterator<Item = &'a KeptRow> + Clone) -> Self {
        Self {
            cells: rows.clone().map(|row| row.cells.as_slice()).collect(),
            seq: rows
                .clone()
                .map(|row| row.applied_seq.cast_signed())
                .collect(),
            off: rows.map(|row| row.off.0).collect(),
        }
    }
}

/// Leaves what was chosen of the whole scan, and nothing of the ones before it.
pub(super) async fn close(
    session: &Session,
    id: Uuid,
    choice: &Choice,
) -> Result<(), RegistryError> {
    let last = choice.last_rank().map_or(i64::MAX, u64::cast_signed);
    query(session, "close the choice", CLOSE, &[&id, &last]).await?;
    Ok(())
}

/// What was chosen so far.
pub(super) async fn read(
    session: &Session,
    id: Uuid,
) -> Result<Vec<(Partition, ChosenPair)>, RegistryError> {
    let rows = query(session, "read the chosen rows", READ, &[&id]).await?;
    rows.iter().map(pair_of).collect()
}

fn pair_of(row: &Row) -> Result<(Partition, ChosenPair), RegistryError> {
    let kept = |cells, seq, off| -> Result<KeptRow, RegistryError> {
        Ok(KeptRow {
            cells: field(row, cells)?,
            applied_seq: field::<i64>(row, seq)?.cast_unsigned(),
            off: Offset(field(row, off)?),
        })
    };
    let pair = ChosenPair {
        rank: field::<i64>(row, "rank")?.cast_unsigned(),
        key: field(row, "key")?,
        old: kept("old_cells", "old_seq", "old_off")?,
        new: kept("new_cells", "new_seq", "new_off")?,
    };
    Ok((Partition(field(row, "partition")?), pair))
}
