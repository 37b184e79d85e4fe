//! Which versions a read may have to be answered from, and the statement for them.

use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use refold_domain::position::Partition;
use refold_domain::version::VersionId;
use refold_ports::registry::ReadError;
use refold_projection::KeyType;
use serde::Deserialize;
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use tokio_postgres::types::Type;

use crate::ddl;
use crate::pair_reads::sql_type;

/// Reads what [`readable_of`] wants.
pub(crate) const VERSIONS: &str = include_str!("sql/read_versions.sql");

/// Numbers the sets of versions, so that a prepared statement names its set.
static NEXT_SET: AtomicU64 = AtomicU64::new(0);

/// A version whose leaves the statement names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Branch {
    version: VersionId,
    columns: Vec<String>,
}

/// The readable versions of one projection.
#[derive(Debug)]
pub(crate) struct Readable {
    pub(crate) name: String,
    pub(crate) key_type: KeyType,
    pub(crate) partitions: i32,
    /// Distinguishes this set from every other of the process.
    pub(crate) set: u64,
    branches: Vec<Branch>,
    /// The version that served when it was last seen. A guess: what a read answers with is
    /// decided in its statement.
    serving: AtomicI64,
}

impl Readable {
    /// The version that served when it was last seen.
    pub(crate) fn serving(&self) -> VersionId {
        VersionId(self.serving.load(Ordering::Relaxed))
    }

    /// Remembers which version was seen to serve.
    pub(crate) fn saw_serving(&self, version: VersionId) {
        self.serving.store(version.0, Ordering::Relaxed);
    }

    /// Whether a statement can answer from this version.
    pub(crate) fn holds(&self, version: VersionId) -> bool {
        self.branches.iter().any(|b| b.version == version)
    }

    /// Whether both lead to the same statements.
    pub(crate) fn reads_like(&self, other: &Self) -> bool {
        (self.key_type, self.partitions) == (other.key_type, other.partitions)
            && self.branches == other.branches
    }

    /// The types of the statement's parameters: key and projection name.
    pub(crate) fn parameter_types(&self) -> [Type; 2] {
        [sql_type(self.key_type), Type::TEXT]
    }

    /// The statement for one partition while `version` serves. It always answers the active row,
    /// with the aggregate of the version that this row names as JSON text or null.
    ///
    /// Only `version`'s leaf is named in it, so that whoever holds another one locked holds no
    /// read up. Where the active row names another version of this set, which it does for reads
    /// that are on their way while a switch commits, a function looks into that one's leaf, in
    /// the same snapshot. `marked` adds the active version's mark.
    pub(crate) fn sql(&self, partition: Partition, version: VersionId, marked: bool) -> String {
        let mut columns = String::new();
        let branch = self.branches.iter().find(|b| b.version == version);
        for column in branch.map(|b| &b.columns).into_iter().flatten() {
            columns.push('"');
            columns.push_str(column);
            columns.push_str("\", ");
        }
        let leaf = ddl::leaf_name(version, partition);
        let partition = partition.0;
        let others = self.branches.iter().map(|b| b.version);
        let elsewhere: String = others
            .filter(|other| *other != version)
            .map(|other| {
                format!(" when {other} then refold.read_aggregate({other}, {partition}, $1)")
            })
            .collect();
        let mark = match marked {
            true => format!(
                ", (select o.next_offset from refold.offsets o \
                 where o.version = a.version and o.partition = {partition}) as next"
            ),
            false => String::new(),
        };
        format!(
            "select a.version, a.generation, case a.version when {version} then \
             (select row_to_json(found)::text from (select {columns}\
             agg_version as applied_seq, off as applied_offset \
             from {leaf} where key = $1 and not deleted) found){elsewhere} end as found{mark} \
             from refold.active a where a.name = $2"
        )
    }
}

/// One column of `refold.versions.columns`.
#[derive(Deserialize)]
struct StoredColumn {
    name: String,
}

/// One row of [`VERSIONS`].
struct Found {
    name: String,
    key_type: KeyType,
    partitions: i32,
    branch: Branch,
}

/// The readable versions of every projection that has one, from the rows of [`VERSIONS`].
///
/// The active version comes first, and is taken to serve until a read sees another one.
/// Versions of one name that differ from the active one in key type or partition
/// count cannot share its statement. They are left out until they are active
/// themselves; the first read after that looks again.
///
/// # Errors
/// [`ReadError::Unavailable`] for rows that cannot be read.
pub(crate) fn readable_of(rows: &[Row]) -> Result<Vec<Readable>, ReadError> {
    let unavailable = |e: tokio_postgres::Error| ReadError::Unavailable(e.to_string());
    let mut all: Vec<Readable> = Vec::new();
    for row in rows {
        let found = found(row).map_err(unavailable)?;
        let Some(found) = found else { continue };
        // They were checked when they were written; this is where they become text.
        for column in &found.branch.columns {
            ddl::checked(column).map_err(|e| ReadError::Unavailable(e.to_string()))?;
        }
        match all
            .last_mut()
            .filter(|readable| readable.name == found.name)
        {
            Some(readable) => {
                let shape = (readable.key_type, readable.partitions);
                if shape == (found.key_type, found.partitions) {
                    readable.branches.push(found.branch);
                }
            }
            None => all.push(Readable {
                name: found.name,
                key_type: found.key_type,
                partitions: found.partitions,
                set: NEXT_SET.fetch_add(1, Ordering::Relaxed),
                serving: AtomicI64::new(found.branch.version.0),
                branches: vec![found.branch],
            }),
        }
    }
    for readable in &mut all {
        readable.branches.sort_by_key(|b| b.version);
    }
    Ok(all)
}

/// `None` for a key type that this program does not know.
fn found(row: &Row) -> Result<Option<Found>, tokio_postgres::Error> {
    let key_type: &str = row.try_get("key_type")?;
    let key_types = [KeyType::Int8, KeyType::Uuid, KeyType::Text];
    let Some(key_type) = key_types.into_iter().find(|k| k.sql() == key_type) else {
        return Ok(None);
    };
    let Json(columns): Json<Vec<StoredColumn>> = row.try_get("columns")?;
    Ok(Some(Found {
        name: row.try_get("name")?,
        key_type,
        partitions: row.try_get("partitions")?,
        branch: Branch {
            version: VersionId(row.try_get("id")?),
            columns: columns.into_iter().map(|c| c.name).collect(),
        },
    }))
}
