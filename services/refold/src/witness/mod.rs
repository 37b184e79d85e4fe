//! The third layer of the proof: the log, folded again by another way.
//!
//! Sums and scans compare what the product computed with what the product computed. Here the
//! log itself is asked: read the plain way, a message or a row at a time, taken apart by prost, folded an
//! event at a time into a plain map. Only the author's code is the same. A row that differs is
//! wrong on the table's side, and the version that it belongs to is named.

mod expected;
mod standing;

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use refold_domain::diff::KeyShare;
use refold_domain::diff::cell_text;
use refold_domain::fold::AnyProjection;
use refold_domain::fold::Keys;
use refold_domain::fold::WitnessFold;
use refold_domain::fold::WitnessRow;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_ports::Registry;
use refold_ports::registry::RegistryError;
use refold_ports::source::SourceError;
use refold_projection::cell::CellReader;
use refold_proto::WireFormat;
use refold_proto::decode_plain;
use refold_store_postgres::PgRegistry;
use refold_store_postgres::PgVerifier;
use refold_store_postgres::SessionOptions;

use crate::cli::Failure;
use crate::connect::Place;

pub(crate) use expected::Confirmation;
pub(crate) use expected::columns_of;
pub(crate) use expected::confirm;
pub(crate) use standing::Standing;

/// The log that is asked.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) place: Place,
    /// The topic, or the event table.
    pub(crate) name: String,
    pub(crate) form: WireFormat,
}

impl Log {
    /// Hands the value of every record of `[from, until)` to `visit`, read the plain way: by
    /// librdkafka a message at a time, or by statements that ask for rows in order. Blocks.
    fn each_record(
        &self,
        partition: Partition,
        range: (Offset, Offset),
        visit: impl FnMut(Offset, Option<&[u8]>) -> Result<(), String>,
    ) -> Result<(), SourceError> {
        let name = &self.name;
        match &self.place {
            Place::Kafka(config) => {
                refold_source_kafka::each_record(config, name, partition, range, visit)
            }
            Place::EventStore(options) => {
                refold_source_postgres::each_record(options, name, partition, range, visit)
            }
        }
    }
}

/// A row of a table that the log does not bear out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The version whose table it is.
    pub(crate) version: String,
    pub(crate) partition: i32,
    pub(crate) key: String,
    /// What is wrong.
    pub(crate) detail: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            partition,
            key,
            detail,
        } = self;
        write!(f, "{version} p{partition} key {key}: {detail}")
    }
}

/// What the log says of tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Testimony {
    /// Aggregates that were folded again, counted once for each version.
    pub(crate) keys: u64,
    /// Records that were read.
    pub(crate) records: u64,
    /// The mark of each version's partition at which it was compared: label, partition, mark.
    pub(crate) marks: Vec<(String, i32, i64)>,
    /// The rows that are wrong, at most [`Testimony::KEPT`] of them.
    pub(crate) wrong: Vec<Wrong>,
    /// How many there are.
    pub(crate) wrong_keys: u64,
}

impl Testimony {
    const KEPT: usize = 100;

    fn add(&mut self, wrong: Wrong) {
        self.wrong_keys += 1;
        if self.wrong.len() < Self::KEPT {
            self.wrong.push(wrong);
        }
    }
}

/// The rows of a share of a table's keys.
struct Stored {
    next: Offset,
    rows: HashMap<Vec<u8>, WitnessRow>,
}

/// Folds the log again for a share of the keys and compares each version's rows with it, each
/// partition at that version's own mark. Nothing is held still.
///
/// # Errors
/// When the log cannot be read from its first event on, or a table not at all.
pub(crate) async fn testify(
    session: &SessionOptions,
    log: &Log,
    projections: &[Arc<dyn AnyProjection>],
    share: KeyShare,
) -> Result<Testimony, Failure> {
    if projections.is_empty() {
        return Err(Failure::usage("no version was named"));
    }
    let partitions = same_log(session, log, projections).await?;
    let mut testimony = Testimony::default();
    for partition in (0..partitions).map(Partition) {
        let (mut tables, mut parts) = (Vec::new(), Vec::new());
        for projection in projections {
            let table = stored(session, projection.spec(), partition, share).await?;
            // Behind the mark, so that none below it is missed.
            parts.push(part_of(session, projection, partition, table.next).await?);
            tables.push(table);
        }
        let log = log.clone();
        let folded =
            tokio::task::spawn_blocking(move || fold_again(&log, partition, &parts, &share.into()));
        let folded = folded
            .await
            .map_err(|error| Failure::error("fold the log again", error))?;
        let (records, folded) = folded?;
        testimony.records += records;
        for ((projection, table), rows) in projections.iter().zip(tables).zip(folded) {
            compare(projection.spec(), partition, table, rows, &mut testimony);
        }
    }
    Ok(testimony)
}

/// The partitions of the log, once it is known to be the one that every version was built from:
/// of another log each row would be found wrong, and the table be blamed.
pub(crate) async fn same_log(
    session: &SessionOptions,
    log: &Log,
    projections: &[Arc<dyn AnyProjection>],
) -> Result<i32, Failure> {
    let asked = log.place.log(&log.name)?.identity().await?;
    let registry = PgRegistry::new(session);
    for projection in projections {
        let version = registry.version(&projection.spec().label()).await?;
        if !version.log.is_same_log(&asked) {
            let detail = format!("{}, asked is {asked}", version.log);
            let label = version.label;
            return Err(RegistryError::LogChanged { label, detail }.into());
        }
    }
    Ok(asked.partitions)
}

/// The table's rows of the share, in one snapshot with its mark.
async fn stored(
    session: &SessionOptions,
    spec: &ProjectionSpec,
    partition: Partition,
    share: KeyShare,
) -> Result<Stored, Failure> {
    let export = PgVerifier::new(session)
        .open_export(spec, partition)
        .await?;
    let next = export.next();
    let mut rows = HashMap::new();
    let read = export.read(|row| {
        if share.has(row.key) {
            let stored = WitnessRow {
                key: row.key.to_vec(),
                cells: Some(row.cells.to_vec()),
                applied_seq: row.applied_seq,
                off: row.off,
            };
            rows.insert(row.key.to_vec(), stored);
        }
    });
    read.await?;
    Ok(Stored { next, rows })
}

/// The part of a partition's history that is in a version's rows.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    projection: Arc<dyn AnyProjection>,
    /// Where it ends, exclusive.
    mark: Offset,
    /// The events below it that the version has put aside.
    parked: BTreeSet<Offset>,
}

impl Part {
    fn has(&self, offset: Offset) -> bool {
        offset < self.mark && !self.parked.contains(&offset)
    }
}

/// What of a partition below `mark` is in the rows of a version.
pub(crate) async fn part_of(
    session: &SessionOptions,
    projection: &Arc<dyn AnyProjection>,
    partition: Partition,
    mark: Offset,
) -> Result<Part, Failure> {
    let registry = PgRegistry::new(session);
    let version = registry.version(&projection.spec().label()).await?;
    let parked = registry.parked(version.id, Some(partition), None).await?;
    Ok(Part {
        projection: Arc::clone(projection),
        mark,
        parked: parked.into_iter().map(|(_, event)| event.offset).collect(),
    })
}

/// What the log says: the records that were read, and each version's rows at its mark.
fn fold_again(
    log: &Log,
    partition: Partition,
    parts: &[Part],
    keys: &Keys,
) -> Result<(u64, Vec<Vec<WitnessRow>>), Failure> {
    let mut folds = folds_of(parts, keys);
    let records = read_on(log, partition, Offset(0), parts, &mut folds)?;
    Ok((records, folds.iter().map(|fold| fold.rows()).collect()))
}

/// One for each part.
type Folds = Vec<Box<dyn WitnessFold>>;

fn folds_of(parts: &[Part], keys: &Keys) -> Folds {
    let folds = parts.iter().map(|p| p.projection.witness(keys.clone()));
    folds.collect()
}

/// Goes on with folds that have everything below `from`, up to each part's end; the records that
/// were read.
fn read_on(
    log: &Log,
    partition: Partition,
    from: Offset,
    parts: &[Part],
    folds: &mut Folds,
) -> Result<u64, Failure> {
    let until = parts.iter().map(|part| part.mark).max().unwrap_or_default();
    let mut records = 0;
    log.each_record(partition, (from, until), |offset, value| {
        records += 1;
        if !parts.iter().any(|part| part.has(offset)) {
            return Ok(());
        }
        let value = value.ok_or("a record without a value")?;
        let event = decode_plain(log.form, value)?;
        for (fold, part) in folds.iter_mut().zip(parts) {
            if part.has(offset) {
                fold.event(&event, offset)?;
            }
        }
        Ok(())
    })?;
    Ok(records)
}

/// What the log gives for these keys of a part. Blocks.
///
/// # Errors
/// When the log cannot be read from its first event on, or ends before the mark.
pub(crate) fn fold_keys(
    log: &Log,
    partition: Partition,
    part: Part,
    keys: Vec<Vec<u8>>,
) -> Result<Vec<WitnessRow>, Failure> {
    let (_, folded) = fold_again(log, partition, &[part], &Keys::these(keys))?;
    Ok(folded.into_iter().next().unwrap_or_default())
}

/// Compares a table's rows with what the log says.
fn compare(
    spec: &ProjectionSpec,
    partition: Partition,
    mut table: Stored,
    folded: Vec<WitnessRow>,
    testimony: &mut Testimony,
) {
    let version = spec.label();
    testimony
        .marks
        .push((version.clone(), partition.0, table.next.0));
    let wrong = |key: &[u8], detail: String| Wrong {
        version: version.clone(),
        partition: partition.0,
        key: cell_text(spec.key_type.column_type(), key),
        detail,
    };
    for row in folded {
        testimony.keys += 1;
        let found = table.rows.remove(&row.key);
        let detail = match (&row.cells, &found) {
            (None, None) => None,
            (None, Some(_)) => Some("a row, but the log says that there is none".to_owned()),
            (Some(_), None) => Some("no row, but the log says that there is one".to_owned()),
            (Some(_), Some(found)) => difference(spec, &row, found),
        };
        if let Some(detail) = detail {
            testimony.add(wrong(&row.key, detail));
        }
    }
    for key in table.rows.keys() {
        testimony.keys += 1;
        let detail = "a row of an aggregate that the log does not know".to_owned();
        testimony.add(wrong(key, detail));
    }
}

/// The first thing in which a table's row is not what the log says.
fn difference(spec: &ProjectionSpec, log: &WitnessRow, found: &WitnessRow) -> Option<String> {
    if log == found {
        return None;
    }
    let cells = |row: &WitnessRow| row.cells.clone().unwrap_or_default();
    let (wanted, got) = (cells(log), cells(found));
    let (mut wanted, mut got) = (CellReader::new(&wanted), CellReader::new(&got));
    for column in spec.columns {
        let (Ok(a), Ok(b)) = (wanted.next_raw(), got.next_raw()) else {
            return Some(format!("{} cannot be read", column.name));
        };
        if a != b {
            let (a, b) = (cell_text(column.ty, a), cell_text(column.ty, b));
            return Some(format!("{} is {b}, the log says {a}", column.name));
        }
    }
    Some(format!(
        "its last event is number {} at offset {}, the log says {} at {}",
        found.applied_seq, found.off, log.applied_seq, log.off
    ))
}

#[cfg(test)]
mod tests;
