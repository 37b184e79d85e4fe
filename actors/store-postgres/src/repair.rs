//! Rows that are put right from the log, in one transaction with their mark's sums.
//!
//! ```text
//! look     a snapshot: the mark, and the rows as they are         (holds nothing)
//! fold     the keys' events below that mark, by whoever asks      (not here)
//! repair   lock version and mark, refuse a live owner, take over; the mark is where it was;
//!          rows out, rows in, sums, fence [mark, mark)            (one transaction)
//! ```
//!
//! The mark does not move: the events below it are in the rows before and after.

use refold_domain::diff::cell_text;
use refold_domain::diff::row_text;
use refold_domain::fold::WitnessRow;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::rows::EncodedRows;
use refold_domain::spec::ProjectionSpec;
use refold_domain::sums::SummedRow;
use refold_domain::sums::Sums;
use refold_domain::version::VersionId;
use refold_ports::registry::RegistryError;
use refold_ports::registry::VersionRow;
use refold_ports::sink::StoreError;
use refold_projection::cell::CellReader;
use refold_projection::cell::write_bytes;
use refold_projection::cell::write_null;
use serde_json::Value;
use tokio_postgres::types::ToSql;

use crate::array::CellArray;
use crate::array::RowArray;
use crate::array::row_cells;
use crate::ddl::Leaf;
use crate::error::store_error;
use crate::leaf_rows::LeafRows;
use crate::parameter::Parameter;
use crate::parameter::typed;
use crate::session::Session;
use crate::session::SessionOptions;
use crate::transaction::field;
use crate::transaction::registry_error;
use crate::verify::PgVerifier;
use crate::verify::begin_snapshot;

const BEGIN: &str = include_str!("sql/repair_begin.sql");
const RECORD: &str = include_str!("sql/repair_record.sql");
const FENCE: &str = include_str!("sql/fence.sql");

/// A repair reads a whole leaf once, by a plan of its own.
const SETTINGS: &str = "set local lock_timeout = '2s'; set local enable_seqscan = on; \
                        set local plan_cache_mode = auto";

/// Puts rows of one partition right.
#[derive(Debug, Clone)]
pub struct PgRepairer {
    verifier: PgVerifier,
    options: SessionOptions,
}

/// A row that is not what it has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// The key's cell.
    pub key: Vec<u8>,
    /// The row of the table, without cells when it is deleted; `None` where there is none.
    pub before: Option<WitnessRow>,
    /// The row that has to be there, without cells when it is deleted; `None` where the log has
    /// no event of the aggregate.
    pub after: Option<WitnessRow>,
}

/// A key's cell, and what the log gives for it; `None` where it has no event of the aggregate.
pub type Wanted = (Vec<u8>, Option<WitnessRow>);

/// What has to be in a partition.
#[derive(Debug, Clone)]
pub struct RepairOrder<'a> {
    /// The partition.
    pub partition: Partition,
    /// Its mark when it was looked at.
    pub at: Offset,
    /// What the log gives at that mark.
    pub wanted: &'a [Wanted],
    /// Who asks, for the audit.
    pub actor: &'a str,
}

impl PgRepairer {
    /// A repairer on a migrated database.
    pub fn new(options: &SessionOptions) -> Self {
        Self {
            verifier: PgVerifier::new(options),
            options: options.clone(),
        }
    }

    /// The mark of a partition, and what the table has for these keys at that mark, deleted rows
    /// without cells. Nothing is held.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] when the partition has no table yet; others as their names say.
    pub async fn look(
        &self,
        spec: &ProjectionSpec,
        partition: Partition,
        keys: &[Vec<u8>],
    ) -> Result<(Offset, Vec<WitnessRow>), RegistryError> {
        let version = self.verifier.registered(spec).await?;
        let session = self.verifier.session().await?;
        let marks = begin_snapshot(&session, (version.id, version.id), partition).await?;
        let mark = marks.first().ok_or_else(|| {
            RegistryError::Conflict(format!("{} has no table for {partition}", version.label))
        })?;
        let leaf = leaf_of(version.id, partition, spec)?;
        Ok((mark.next, fetch(&session, &leaf, spec, keys).await?))
    }

    /// Puts the rows of a partition right that are not what is wanted, and returns what was
    /// changed; nothing is written when nothing has to be.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] while a projector owns the partition, when the mark is not
    /// where it was looked at, and when rows and sums are apart by more than these rows; others
    /// as their names say. Nothing is changed then.
    pub async fn repair(
        &self,
        spec: &ProjectionSpec,
        order: &RepairOrder<'_>,
    ) -> Result<Vec<RowChange>, RegistryError> {
        let version = self.verifier.registered(spec).await?;
        let name = format!("refold repair v{} {}", version.id, order.partition);
        let session = Session::open(&self.options, &name).await;
        let session = session.map_err(registry_error)?;
        let xid = session.begin(SETTINGS).await.map_err(registry_error)?;
        // Whatever fails here leaves the session's transaction open: dropping the session ends it.
        let changes = Repair {
            session: &session,
            version: &version,
            spec,
            order,
        };
        let changes = changes.run().await?;
        if changes.is_empty() {
            session.rollback().await.map_err(registry_error)?;
        } else {
            session.commit(&xid).await.map_err(registry_error)?;
        }
        Ok(changes)
    }
}

/// One repair in its open transaction.
struct Repair<'a> {
    session: &'a Session,
    version: &'a VersionRow,
    spec: &'a ProjectionSpec,
    order: &'a RepairOrder<'a>,
}

impl Repair<'_> {
    async fn run(&self) -> Result<Vec<RowChange>, RegistryError> {
        let (session, order) = (self.session, self.order);
        let (id, partition) = (self.version.id.0, order.partition.0);
        let begin: [&dyn Parameter; 3] = [&id, &partition, &self.version.code_hash];
        let begun = ask(session, "begin the repair", BEGIN, &begin).await?;
        let mark = begun.first().ok_or_else(|| {
            RegistryError::Failed("begin the repair: no row came back".to_owned())
        })?;
        let next = Offset(field(mark, "next_offset")?);
        if next != order.at {
            return Err(RegistryError::Conflict(format!(
                "{} of {} was at {} when it was looked at and is at {next}: a projector went on",
                order.partition, self.version.label, order.at
            )));
        }
        let leaf = leaf_of(self.version.id, order.partition, self.spec)?;
        let keys: Vec<_> = order.wanted.iter().map(|(key, _)| key.clone()).collect();
        let stored = fetch(session, &leaf, self.spec, &keys).await?;
        let changes = changes_of(order.wanted, &stored);
        if changes.is_empty() {
            return Ok(changes);
        }
        let sums = self.mended(field(mark, "sums")?, &changes).await?;
        self.write(&leaf, &changes).await?;
        self.record(&changes).await?;
        let epoch: i64 = field(mark, "epoch")?;
        let (none, bytes, rows) = (None::<Vec<u8>>, sums.to_bytes(), sums.rows().cast_signed());
        let fence: [&dyn Parameter; 9] = [
            &id, &partition, &epoch, &next.0, &next.0, &none, &bytes, &rows, &false,
        ];
        ask(session, "take the fence", FENCE, &fence).await?;
        Ok(changes)
    }

    /// The mark's sums after the changes.
    async fn mended(&self, stored: &[u8], changes: &[RowChange]) -> Result<Sums, RegistryError> {
        let leaf = LeafRows::of(self.version.id, self.order.partition, self.spec)?;
        let stored = leaf.stored_sums(stored)?;
        let disk = leaf
            .read(self.session, None, |_| (), |_| std::future::ready(()))
            .await?;
        let layout = self.spec.sum_layout();
        fn summed(row: &WitnessRow) -> Option<SummedRow<'_>> {
            row.cells.as_deref().map(|cells| (cells, row.applied_seq))
        }
        let deltas = changes.iter().map(|change| {
            let before = change.before.as_ref().and_then(summed);
            let after = change.after.as_ref().and_then(summed);
            Sums::change(&layout, &change.key, before, after)
        });
        let deltas: Vec<_> = deltas.collect();
        stored.mended(&layout, &disk.sums, &deltas).map_err(|found| {
            RegistryError::Conflict(format!(
                "the rows of {} of {} and the sums of its mark are apart by more than these keys explain ({found}): \
                 repair all keys at once that `refold verify` names, with a larger -sample where it names some only",
                self.order.partition, self.version.label
            ))
        })
    }

    async fn write(&self, leaf: &Leaf, changes: &[RowChange]) -> Result<(), RegistryError> {
        let mut rows = EncodedRows::new();
        let mut unknown = (CellArray::new(leaf.key_element()), 0);
        let fields = i16::try_from(leaf.fields()).unwrap_or(i16::MAX);
        for change in changes {
            match &change.after {
                Some(row) => rows.push_with(fields, |out| encode(out, self.spec, row)),
                None => {
                    unknown.0.push(&change.key);
                    unknown.1 += 1;
                }
            }
        }
        if !rows.is_empty() {
            let put = leaf.put();
            let put = self.session.prepare("prepare the write", &put).await;
            let put = put.map_err(registry_error)?;
            let array = RowArray::new(&rows, put.params().first(), leaf.elements());
            let array = array.map_err(|e| RegistryError::Failed(format!("write rows: {e}")))?;
            let array: [&(dyn ToSql + Sync); 1] = [&array];
            let written = self.session.client().execute(&put, &array);
            self.all("write the rows", written, rows.len()).await?;
        }
        let (keys, unknown) = unknown;
        if unknown > 0 {
            let (remove, keys): (_, [&(dyn ToSql + Sync); 1]) = (leaf.remove(), [&keys]);
            let removed = self.session.client().execute(&remove, &keys);
            self.all("remove rows", removed, unknown).await?;
        }
        Ok(())
    }

    async fn all(
        &self,
        what: &str,
        written: impl Future<Output = Result<u64, tokio_postgres::Error>>,
        rows: usize,
    ) -> Result<(), RegistryError> {
        let written = self.session.within(what, written).await;
        match written.map_err(registry_error)? {
            n if n == rows as u64 => Ok(()),
            n => Err(RegistryError::Failed(format!("{what}: {n} of {rows}"))),
        }
    }

    async fn record(&self, changes: &[RowChange]) -> Result<(), RegistryError> {
        let key_type = self.spec.key_type.column_type();
        let keys: Vec<_> = changes
            .iter()
            .map(|change| cell_text(key_type, &change.key))
            .collect();
        let before: Vec<_> = changes
            .iter()
            .map(|change| self.json(change.before.as_ref()))
            .collect();
        let after: Vec<_> = changes
            .iter()
            .map(|change| self.json(change.after.as_ref()))
            .collect();
        let (id, order) = (self.version.id.0, self.order);
        let row: [&dyn Parameter; 7] = [
            &id,
            &order.partition.0,
            &order.at.0,
            &order.actor,
            &keys,
            &before,
            &after,
        ];
        ask(self.session, "record the repair", RECORD, &row).await?;
        Ok(())
    }

    /// A row's columns as text by name; null for no row.
    fn json(&self, row: Option<&WitnessRow>) -> Value {
        let Some(cells) = row.and_then(|row| row.cells.as_ref()) else {
            return Value::Null;
        };
        let columns = self.spec.columns;
        let texts = row_text(columns, cells);
        let named = columns.iter().map(|column| column.name.to_owned());
        Value::Object(named.zip(texts.into_iter().map(Value::String)).collect())
    }
}

/// The rows that are not what is wanted, of those that [`PgRepairer::look`] found.
pub fn changes_of(wanted: &[Wanted], stored: &[WitnessRow]) -> Vec<RowChange> {
    let change = |(key, row): &Wanted| {
        let found = stored.iter().find(|found| found.key == *key);
        (found != row.as_ref()).then(|| RowChange {
            key: key.clone(),
            before: found.cloned(),
            after: row.clone(),
        })
    };
    wanted.iter().filter_map(change).collect()
}

fn leaf_of(
    version: VersionId,
    partition: Partition,
    spec: &ProjectionSpec,
) -> Result<Leaf, RegistryError> {
    Leaf::new(version, partition, spec).map_err(registry_error)
}

/// Runs a statement; what the server refuses for good is a conflict.
async fn ask(
    session: &Session,
    what: &str,
    sql: &str,
    parameters: &[&dyn Parameter],
) -> Result<Vec<tokio_postgres::Row>, RegistryError> {
    let typed = typed(parameters);
    let rows = session.client().query_typed(sql, &typed);
    session
        .within(what, rows)
        .await
        .map_err(|error| match error {
            StoreError::Refused(sentence) | StoreError::Fenced(sentence) => {
                RegistryError::Conflict(sentence)
            }
            other => registry_error(other),
        })
}

/// The rows of these keys, deleted ones without cells.
async fn fetch(
    session: &Session,
    leaf: &Leaf,
    spec: &ProjectionSpec,
    keys: &[Vec<u8>],
) -> Result<Vec<WitnessRow>, RegistryError> {
    const WHAT: &str = "fetch rows";
    let mut array = CellArray::new(leaf.key_element());
    keys.iter().for_each(|key| array.push(key));
    let statement = session.prepare(WHAT, &leaf.fetch()).await;
    let statement = statement.map_err(registry_error)?;
    let asked: [&(dyn ToSql + Sync); 1] = [&array];
    let rows = session.within(WHAT, session.client().query(&statement, &asked));
    let rows = rows.await.map_err(registry_error)?;
    let stored = rows.iter().map(|row| {
        let cells = row_cells(row).map_err(|e| registry_error(store_error(WHAT, &e)))?;
        split(&cells, spec.columns.len()).map_err(|e| RegistryError::Failed(format!("{WHAT}: {e}")))
    });
    stored.collect()
}

/// A row's cells: key, columns, version, offset, whether it is deleted.
fn split(cells: &[u8], columns: usize) -> Result<WitnessRow, String> {
    let mut reader = CellReader::new(cells);
    let key = reader.next_raw().map_err(|e| e.to_string())?.to_vec();
    let start = reader.rest();
    for _ in 0..columns {
        reader.next_raw().map_err(|e| e.to_string())?;
    }
    let columns = start[..start.len() - reader.rest().len()].to_vec();
    let mut number = || -> Result<i64, String> {
        let cell = reader.next_cell().map_err(|e| e.to_string())?;
        let number = cell.and_then(|c| c.try_into().ok()).map(i64::from_be_bytes);
        number.ok_or_else(|| "a position that is no bigint".to_owned())
    };
    let (applied_seq, off) = (number()?.cast_unsigned(), Offset(number()?));
    let deleted = reader.next_cell().map_err(|e| e.to_string())? == Some(&[1][..]);
    Ok(WitnessRow {
        key,
        cells: (!deleted).then_some(columns),
        applied_seq,
        off,
    })
}

/// The cells of a row as the leaf wants them; one without columns is a tombstone.
fn encode(out: &mut Vec<u8>, spec: &ProjectionSpec, row: &WitnessRow) {
    out.extend_from_slice(&row.key);
    match &row.cells {
        Some(cells) => out.extend_from_slice(cells),
        None => spec.columns.iter().for_each(|_| write_null(out)),
    }
    write_bytes(out, &row.applied_seq.to_be_bytes());
    write_bytes(out, &row.off.0.to_be_bytes());
    write_bytes(out, &[u8::from(row.cells.is_none())]);
}
