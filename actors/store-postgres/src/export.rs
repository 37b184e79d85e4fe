//! A leaf's rows as they lie on disk, in one snapshot with its mark and sums.
//!
//! What the rows add up to has to be what the mark's row says: that ties the
//! checksums, which the projector computed on the way in, to the table.

use futures::TryStreamExt;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::sums::SumLayout;
use refold_domain::sums::Sums;
use refold_ports::registry::RegistryError;
use refold_projection::cell::CellReader;

use crate::copy_stream::Tuples;
use crate::ddl;
use crate::session::Session;
use crate::transaction::registry_error;
use crate::verify::PgVerifier;
use crate::verify::begin_snapshot;

/// One row that is not deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportedRow<'a> {
    /// The key's cell, with its length prefix.
    pub key: &'a [u8],
    /// The columns' cells in table order, each with its length prefix.
    pub cells: &'a [u8],
    /// Version of the aggregate's last event in the row.
    pub applied_seq: u64,
    /// Offset of that event.
    pub off: Offset,
}

/// What a finished export found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportReport {
    /// Rows that were exported.
    pub rows: u64,
    /// The mark of the snapshot, exclusive.
    pub next: Offset,
    /// The sums that the mark's row holds.
    pub stored: Sums,
    /// The sums of the exported rows.
    pub recomputed: Sums,
}

impl ExportReport {
    /// Whether the rows on disk add up to what the mark's row says.
    pub fn sums_agree(&self) -> bool {
        self.stored == self.recomputed
    }
}

/// One partition of a version in an open snapshot.
#[derive(Debug)]
pub struct PartitionExport {
    session: Session,
    copy: String,
    columns: usize,
    layout: SumLayout,
    next: Offset,
    stored: Sums,
}

impl PgVerifier {
    /// Opens a snapshot of one partition. Its mark is known at once, its rows
    /// follow with [`PartitionExport::read`]. Nothing is held still for it.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] when the partition has no leaf yet; others as
    /// their names say.
    pub async fn open_export(
        &self,
        spec: &ProjectionSpec,
        partition: Partition,
    ) -> Result<PartitionExport, RegistryError> {
        let version = self.registered(spec).await?;
        let session = self.session().await?;
        let marks = begin_snapshot(&session, (version.id, version.id), partition).await?;
        let mark = marks.into_iter().next().ok_or_else(|| {
            RegistryError::Conflict(format!("{} has no table for {partition}", version.label))
        })?;
        let layout = spec.sum_layout();
        let stored = Sums::from_bytes(&layout, &mark.sums);
        let stored = stored.map_err(|e| RegistryError::Failed(format!("read the sums: {e}")))?;
        let mut names = String::new();
        for column in spec.columns {
            let name = ddl::checked(column.name).map_err(registry_error)?;
            names.push_str(&format!("\"{name}\", "));
        }
        let leaf = ddl::leaf_name(version.id, partition);
        Ok(PartitionExport {
            session,
            copy: format!(
                "copy (select key, {names}agg_version, off from {leaf} where not deleted) \
                 to stdout (format binary)"
            ),
            columns: spec.columns.len(),
            layout,
            next: mark.next,
            stored,
        })
    }
}

impl PartitionExport {
    /// The mark of the snapshot, exclusive: the rows hold every event below it.
    pub fn next(&self) -> Offset {
        self.next
    }

    /// Hands every row to `visit`, in no particular order.
    ///
    /// # Errors
    /// [`RegistryError::Unreachable`] when the connection breaks, [`RegistryError::Failed`]
    /// when the stream cannot be read.
    pub async fn read(
        self,
        mut visit: impl FnMut(ExportedRow<'_>),
    ) -> Result<ExportReport, RegistryError> {
        let session = &self.session;
        let stream = session.client().copy_out(self.copy.as_str());
        let stream = session.within("export the rows", stream).await;
        let mut stream = Box::pin(stream.map_err(registry_error)?);
        let mut recomputed = Sums::zero(&self.layout);
        let mut tuples = Tuples::default();
        let mut rows = 0;
        // Each piece has the session's deadline, not the whole.
        while let Some(piece) = session
            .within("export the rows", stream.try_next())
            .await
            .map_err(registry_error)?
        {
            tuples.feed(&piece);
            while let Some(tuple) = tuples.next(self.columns + 3).map_err(|e| broken(&e))? {
                let row = split(&tuple, self.columns)?;
                recomputed.add_row(&self.layout, row.key, row.cells, row.applied_seq);
                rows += 1;
                visit(row);
            }
        }
        Ok(ExportReport {
            rows,
            next: self.next,
            stored: self.stored,
            recomputed,
        })
    }
}

fn broken(what: &str) -> RegistryError {
    RegistryError::Failed(format!("read the exported rows: {what}"))
}

fn split(tuple: &[u8], columns: usize) -> Result<ExportedRow<'_>, RegistryError> {
    let cut_short = |e: refold_projection::cell::CellError| broken(&e.to_string());
    let mut reader = CellReader::new(tuple);
    let key = reader.next_raw().map_err(cut_short)?;
    let start = reader.rest();
    for _ in 0..columns {
        reader.next_raw().map_err(cut_short)?;
    }
    let cells = &start[..start.len() - reader.rest().len()];
    let mut number = || -> Result<i64, RegistryError> {
        let cell = reader.next_cell().map_err(cut_short)?;
        let bytes = cell.and_then(|c| c.try_into().ok());
        bytes
            .map(i64::from_be_bytes)
            .ok_or_else(|| broken("a position that is no bigint"))
    };
    Ok(ExportedRow {
        key,
        cells,
        applied_seq: number()?.cast_unsigned(),
        off: Offset(number()?),
    })
}
