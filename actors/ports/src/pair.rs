//! Reads of one aggregate in two versions at once.

use async_trait::async_trait;
use refold_domain::diff::Held;
use refold_domain::diff::RowRef;
use refold_domain::diff::Side;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;

use crate::registry::ReadError;

/// A version with what it declares.
#[derive(Debug, Clone, Copy)]
pub struct Declared<'a> {
    /// The version.
    pub version: VersionId,
    /// Its declarations.
    pub spec: &'a ProjectionSpec,
}

/// A stored row, tombstones included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow {
    /// The columns' cells in table order.
    pub cells: Vec<u8>,
    /// Version of the aggregate's last event in the row.
    pub applied_seq: u64,
    /// Offset of that event.
    pub off: Offset,
    /// Whether it is a tombstone.
    pub deleted: bool,
}

/// What one version has of an aggregate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairSide {
    /// The mark of the aggregate's partition, exclusive.
    pub next: Offset,
    /// The row, if there is a trace of one.
    pub stored: Option<StoredRow>,
}

impl PairSide {
    /// The side as it is compared; `key` is the key's cell.
    pub fn side<'a>(&'a self, key: &'a [u8]) -> Side<'a> {
        let held = match &self.stored {
            None => Held::Nothing,
            Some(row) if row.deleted => Held::Tombstone(row.off),
            Some(row) => Held::Row(RowRef {
                key,
                cells: &row.cells,
                applied_seq: row.applied_seq,
                off: row.off,
            }),
        };
        Side {
            next: self.next,
            held,
        }
    }
}

/// An aggregate in two versions, in one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The key's cell.
    pub key: Vec<u8>,
    /// The first version's side.
    pub first: PairSide,
    /// The second version's side.
    pub second: PairSide,
}

/// Reads of one aggregate in two versions, away from the path of the point reads: what holds
/// these up holds nothing else up.
#[async_trait]
pub trait PairReads: Send + Sync {
    /// What both versions have of an aggregate; `None` while one of them has no table for its
    /// partition.
    ///
    /// # Errors
    /// [`ReadError::BadKey`], [`ReadError::Unavailable`].
    async fn read_pair(
        &self,
        first: Declared<'_>,
        second: Declared<'_>,
        partition: Partition,
        key: &str,
    ) -> Result<Option<Pair>, ReadError>;
}
