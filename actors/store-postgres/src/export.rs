//! A leaf's rows as they lie on disk, in one snapshot with its mark and sums.
//!
//! What the rows add up to has to be what the mark's row says: that ties the
//! checksums, which the projector computed on the way in, to the table.

use std::future::ready;

use refold_domain::diff::RowRef;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::sums::Sums;
use refold_ports::registry::RegistryError;

use crate::leaf_rows::LeafRows;
use crate::session::Session;
use crate::verify::PgVerifier;
use crate::verify::begin_snapshot;

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
    leaf: LeafRows,
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
        let leaf = LeafRows::of(version.id, partition, spec)?;
        let stored = leaf.stored_sums(&mark.sums)?;
        Ok(PartitionExport {
            session,
            leaf,
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
    pub async fn read(self, visit: impl FnMut(RowRef<'_>)) -> Result<ExportReport, RegistryError> {
        let total = self
            .leaf
            .read(&self.session, None, visit, |_| ready(()))
            .await?;
        Ok(ExportReport {
            rows: total.rows,
            next: self.next,
            stored: self.stored,
            recomputed: total.sums,
        })
    }
}
