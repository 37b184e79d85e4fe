//! The apply path: a batch of changed rows on top of a table that exists.

use futures::future;
use refold_domain::batch::EventGap;
use refold_domain::batch::WriteBatch;
use refold_domain::position::Offset;
use refold_domain::rows::EncodedRows;
use refold_domain::sums::Sums;
use refold_ports::sink::Committed;
use refold_ports::sink::StoreError;
use tokio_postgres::Row;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use crate::array::CellArray;
use crate::array::RowArray;
use crate::array::row_cells;
use crate::error::store_error;
use crate::parked::ParkedArrays;
use crate::session::Session;
use crate::writer::PostgresWriter;

/// The fence's answer.
pub(crate) struct Fenced {
    /// The switch offset of a barrier above the new mark.
    pub(crate) switch: Option<Offset>,
    /// The transaction's id, which its commit is checked by.
    pub(crate) xid: String,
}

impl Fenced {
    pub(crate) fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            switch: row.try_get::<_, Option<i64>>("switch")?.map(Offset),
            xid: row.try_get("xid")?,
        })
    }
}

/// Gaps as one array per column.
pub(crate) struct GapArrays {
    offsets: Vec<i64>,
    keys: Vec<String>,
    expected: Vec<i64>,
    found: Vec<i64>,
}

impl GapArrays {
    pub(crate) fn new(gaps: &[EventGap]) -> Self {
        Self {
            offsets: gaps.iter().map(|g| g.offset.0).collect(),
            keys: gaps.iter().map(|g| g.key.clone()).collect(),
            expected: gaps.iter().map(|g| g.expected.cast_signed()).collect(),
            found: gaps.iter().map(|g| g.found.cast_signed()).collect(),
        }
    }

    /// Stores the gaps; does not go to the server for none.
    pub(crate) async fn insert(
        &self,
        session: &Session,
        statement: &Statement,
        owner: (i64, i32),
    ) -> Result<u64, tokio_postgres::Error> {
        if self.offsets.is_empty() {
            return Ok(0);
        }
        let (version, partition) = owner;
        let parameters: [&(dyn ToSql + Sync); 6] = [
            &version,
            &partition,
            &self.offsets,
            &self.keys,
            &self.expected,
            &self.found,
        ];
        session.client().execute(statement, &parameters).await
    }
}

impl PostgresWriter {
    /// Commits a batch in two round trips.
    ///
    /// Begin, fence and writes are sent together: whatever the fence raises makes
    /// the server refuse all that follows in the transaction. The commit is sent
    /// only after the number of written rows is known, because no statement
    /// raises when the row guard leaves a row alone.
    pub(crate) async fn apply(&mut self, batch: &WriteBatch) -> Result<Committed, StoreError> {
        self.require_leaf(true)?;
        let upsert = self.upsert_statement().await?;
        let session = self.session()?;
        let elements = self.leaf.elements();
        let array = RowArray::new(&batch.rows, upsert.params().first(), elements)
            .map_err(|e| StoreError::Refused(format!("encode the batch: {e}")))?;
        let sums = batch.sums.to_bytes();
        let last_record = batch.last_record.map(|r| r.to_bytes().to_vec());
        let rows = batch.sums.rows().cast_signed();
        let lease = &self.lease;
        let range = batch.range;
        let fence: [&(dyn ToSql + Sync); 9] = [
            &lease.version.0,
            &lease.partition.0,
            &lease.epoch,
            &range.from.0,
            &range.to.0,
            &last_record,
            &sums,
            &rows,
            &batch.at_log_end,
        ];
        let gaps = GapArrays::new(&batch.gaps);
        let parked = ParkedArrays::new(&batch.parked);
        // Polled in this order, and each sends when it is polled first.
        let sent = future::join5(
            session.client().batch_execute("begin"),
            session.client().query_one(&self.fence, &fence),
            write_rows(session, &upsert, &array, &batch.rows),
            gaps.insert(session, &self.gaps, (lease.version.0, lease.partition.0)),
            parked.insert(session, (lease.version.0, lease.partition.0)),
        );
        let answers = session.within("apply a batch", async { Ok(sent.await) });
        let (began, fenced, written, stored, aside) = answers.await?;
        began.map_err(|e| store_error("begin", &e))?;
        let fenced = fenced.and_then(|row| Fenced::read(&row));
        let fenced = fenced.map_err(|e| store_error("take the fence", &e))?;
        let written = written.map_err(|e| store_error("write the rows", &e))?;
        stored.map_err(|e| store_error("store the gaps", &e))?;
        aside.map_err(|e| store_error("store the parked events", &e))?;
        require_written(written, batch.rows.len())?;
        self.end_transaction(&fenced.xid).await?;

        self.advance(batch.range.to, &batch.sums, fenced.switch);
        self.lease.last_record = batch.last_record.or(self.lease.last_record);
        self.lease.reached_log_end |= batch.at_log_end;
        self.lease.parking.note(&batch.parked);
        Ok(Committed {
            next: batch.range.to,
            switch: fenced.switch,
        })
    }

    /// Fetches rows by key, outside of any transaction: nobody but the owner of
    /// this epoch changes them, and the fence finds out when that is someone else.
    pub(crate) async fn fetch_rows(
        &mut self,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        if keys.is_empty() || !self.lease.has_leaf {
            return Ok(Vec::new());
        }
        self.require_leaf(true)?;
        let statement = self.fetch_statement().await?;
        let session = self.session()?;
        let mut array = CellArray::new(self.leaf.key_element());
        keys.iter().for_each(|key| array.push(key));
        let what = "fetch rows";
        let asked: [&(dyn ToSql + Sync); 1] = [&array];
        let rows = session
            .within(what, session.client().query(&statement, &asked))
            .await?;
        let cells: Result<_, _> = rows.iter().map(row_cells).collect();
        cells.map_err(|e| store_error(what, &e))
    }

    /// Moves the lease behind a commit.
    pub(crate) fn advance(&mut self, to: Offset, sums: &Sums, switch: Option<Offset>) {
        self.lease.next = to;
        self.lease.sums = sums.clone();
        self.lease.switch = switch;
    }

    async fn upsert_statement(&mut self) -> Result<Statement, StoreError> {
        if let Some(statement) = &self.upsert {
            return Ok(statement.clone());
        }
        let session = self.session()?;
        let statement = session
            .prepare("prepare the upsert", &self.leaf.upsert())
            .await?;
        Ok(self.upsert.insert(statement).clone())
    }

    async fn fetch_statement(&mut self) -> Result<Statement, StoreError> {
        if let Some(statement) = &self.fetch {
            return Ok(statement.clone());
        }
        let session = self.session()?;
        let statement = session
            .prepare("prepare the fetch", &self.leaf.fetch())
            .await?;
        Ok(self.fetch.insert(statement).clone())
    }
}

async fn write_rows(
    session: &Session,
    upsert: &Statement,
    array: &RowArray,
    rows: &EncodedRows,
) -> Result<u64, tokio_postgres::Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    session.client().execute(upsert, &[array]).await
}

/// Every row of a batch is later than the stored one, or the writer's picture of
/// the table is wrong and nothing of the batch may stay.
#[cfg(not(feature = "mutation-no-row-guard"))]
fn require_written(written: u64, rows: usize) -> Result<(), StoreError> {
    match (rows as u64).checked_sub(written) {
        Some(0) => Ok(()),
        Some(refused) => Err(StoreError::Refused(format!(
            "the row guard refused {refused} of {rows} rows: the table is ahead of this writer"
        ))),
        None => Err(StoreError::Refused(format!(
            "{written} rows were written for {rows}"
        ))),
    }
}

/// The deliberately broken build: whatever was written is fine.
#[cfg(feature = "mutation-no-row-guard")]
fn require_written(_: u64, _: usize) -> Result<(), StoreError> {
    Ok(())
}
