//! A leaf's rows as they lie on disk, in one snapshot with its mark and sums.
//!
//! What the rows add up to has to be what the mark's row says: that ties the
//! checksums, which the projector computed on the way in, to the table.

use bytes::Buf;
use bytes::BytesMut;
use futures::TryStreamExt;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::sums::SumLayout;
use refold_domain::sums::Sums;
use refold_ports::registry::RegistryError;
use refold_projection::cell::CellReader;

use crate::ddl;
use crate::session::Session;
use crate::transaction::registry_error;
use crate::verify::PgVerifier;
use crate::verify::begin_snapshot;

/// Signature, flags and length of the extension: what a binary COPY begins with.
const HEADER_SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const HEADER: usize = HEADER_SIGNATURE.len() + 8;

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
            while let Some(tuple) = tuples.next(self.columns + 3)? {
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

/// Cuts a binary COPY stream into tuples; pieces may end anywhere.
#[derive(Default)]
struct Tuples {
    buffer: BytesMut,
    header_seen: bool,
}

impl Tuples {
    fn feed(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The cells of the next whole tuple of `fields` cells.
    fn next(&mut self, fields: usize) -> Result<Option<BytesMut>, RegistryError> {
        if !self.header_seen {
            if self.buffer.len() < HEADER {
                return Ok(None);
            }
            if !self.buffer.starts_with(HEADER_SIGNATURE) {
                return Err(broken("not a binary COPY stream"));
            }
            self.buffer.advance(HEADER);
            self.header_seen = true;
        }
        let Some((head, rest)) = self.buffer.split_first_chunk::<2>() else {
            return Ok(None);
        };
        let count = i16::from_be_bytes(*head);
        if count == -1 {
            // The trailer.
            return Ok(None);
        }
        if usize::try_from(count) != Ok(fields) {
            return Err(broken(&format!("a row of {count} fields")));
        }
        let mut reader = CellReader::new(rest);
        for _ in 0..fields {
            if reader.next_raw().is_err() {
                // The rest of the tuple is in the next piece.
                return Ok(None);
            }
        }
        let length = rest.len() - reader.rest().len();
        self.buffer.advance(2);
        Ok(Some(self.buffer.split_to(length)))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(rows: &[(i64, &str)]) -> Vec<u8> {
        let mut out = HEADER_SIGNATURE.to_vec();
        out.extend_from_slice(&[0; 8]);
        for (key, text) in rows {
            out.extend_from_slice(&2i16.to_be_bytes());
            out.extend_from_slice(&8i32.to_be_bytes());
            out.extend_from_slice(&key.to_be_bytes());
            out.extend_from_slice(&(text.len() as i32).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(&(-1i16).to_be_bytes());
        out
    }

    #[test]
    fn tuples_are_the_same_wherever_the_stream_is_cut() {
        let whole = stream(&[(1, "one"), (2, ""), (3, "three")]);
        for size in 1..=whole.len() {
            let mut tuples = Tuples::default();
            let mut keys = Vec::new();
            for piece in whole.chunks(size) {
                tuples.feed(piece);
                while let Some(tuple) = tuples.next(2).expect("the stream is whole") {
                    keys.push(tuple[11]);
                }
            }
            assert_eq!(keys, [1, 2, 3], "pieces of {size}");
        }
    }

    #[test]
    fn another_number_of_fields_is_refused() {
        let mut tuples = Tuples::default();
        tuples.feed(&stream(&[(1, "one")]));
        assert!(tuples.next(3).is_err());
    }
}
