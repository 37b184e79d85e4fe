//! Proof on the rows themselves: the tables of two versions, read as they lie on
//! disk, while both go on.
//!
//! ```text
//! hold: a snapshot that shows both leaves of a partition at one offset
//!   |
//! scan: all rows of the old leaf, then all of the new one, streamed out of it
//!   |- sums of the rows = sums of the mark's row      (ties the checksums to the disk)
//!   |- row against row, column by column              (finds keys, not only buckets)
//! record: what was found, partition by partition, so that a scan goes on where it stopped
//! ```
//!
//! A snapshot in which both marks of a partition are equal shows both leaves at
//! exactly that offset, because rows and mark move in one transaction. Where the
//! tail moves, such a moment is made: both versions are parked at the higher
//! mark, the one behind reaches it, the snapshot is taken, and the park is lifted.
//! That holds one partition's projection for some milliseconds, and no read.

mod chosen;
mod hold;
mod options;
mod pace;
mod record;
mod report;
mod scan;

use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;
use refold_ports::Registry;
use refold_ports::registry::RegistryError;
use refold_ports::registry::VersionRow;

use crate::parameter::Parameter;
use crate::registry::PgRegistry;
use crate::session::Session;
use crate::session::SessionOptions;
use crate::transaction::field;
use crate::transaction::query;
use crate::transaction::registry_error;

pub use chosen::RecordedScan;
pub use chosen::Testimony;
pub use options::ScanOptions;
pub use options::ScanProgress;
pub use report::FoundKey;
pub use report::PartitionScan;
pub use report::ScanReport;

const MARKS: &str = include_str!("../sql/verify_marks.sql");

/// Begins a snapshot; its first statement takes it.
const SNAPSHOT: &str = "begin transaction isolation level repeatable read read only";

/// Compares versions, and exports their rows.
#[derive(Debug, Clone)]
pub struct PgVerifier {
    registry: PgRegistry,
    options: SessionOptions,
}

/// The leaf of one version of a partition in a snapshot.
#[derive(Debug)]
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
        // A scan reads whole leaves, each by a plan of its own.
        let settings = "set enable_seqscan = on; set plan_cache_mode = auto";
        let set = session.batch("set the session up", settings).await;
        set.map_err(registry_error)?;
        Ok(session)
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
    let parameters: [&dyn Parameter; 3] = [&versions.0.0, &versions.1.0, &partition.0];
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
