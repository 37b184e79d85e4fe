//! The rows of a leaf as they lie on disk, streamed out of an open snapshot.

use futures::StreamExt;
use refold_domain::diff::RowRef;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::sums::SumLayout;
use refold_domain::sums::Sums;
use refold_domain::version::VersionId;
use refold_ports::registry::RegistryError;
use refold_projection::cell::CellReader;

use crate::copy_stream::Tuples;
use crate::ddl;
use crate::error::store_error;
use crate::session::Session;
use crate::transaction::registry_error;

/// Rows that are taken from the connection at once, if so many are there: a deadline
/// is set for all of them and not for each.
const AT_ONCE: usize = 256;

/// How the rows of a leaf are read.
#[derive(Debug)]
pub(crate) struct LeafRows {
    copy: String,
    columns: usize,
    layout: SumLayout,
}

/// The rows of a leaf, added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeafTotal {
    pub(crate) rows: u64,
    pub(crate) sums: Sums,
}

impl LeafRows {
    /// The leaf of a partition of the version `id`, which `spec` declares.
    pub(crate) fn of(
        id: VersionId,
        partition: Partition,
        spec: &ProjectionSpec,
    ) -> Result<Self, RegistryError> {
        let mut names = String::new();
        for column in spec.columns {
            let name = ddl::checked(column.name).map_err(registry_error)?;
            names.push_str(&format!("\"{name}\", "));
        }
        let leaf = ddl::leaf_name(id, partition);
        Ok(Self {
            copy: format!(
                "copy (select key, {names}agg_version, off from {leaf} where not deleted) \
                 to stdout (format binary)"
            ),
            columns: spec.columns.len(),
            layout: spec.sum_layout(),
        })
    }

    /// The sums that a mark's row holds.
    pub(crate) fn stored_sums(&self, bytes: &[u8]) -> Result<Sums, RegistryError> {
        let stored = Sums::from_bytes(&self.layout, bytes);
        stored.map_err(|e| RegistryError::Failed(format!("read the sums: {e}")))
    }

    /// Hands every row that is not deleted to `visit`, in no particular order, and adds
    /// them up. `pause` is awaited after every few hundred rows with their number.
    pub(crate) async fn read<P: Future<Output = ()>>(
        &self,
        session: &Session,
        mut visit: impl FnMut(RowRef<'_>),
        mut pause: impl FnMut(u64) -> P,
    ) -> Result<LeafTotal, RegistryError> {
        const WHAT: &str = "read the rows";
        let stream = session.client().copy_out(self.copy.as_str());
        let stream = session.within(WHAT, stream).await;
        let mut stream = Box::pin(stream.map_err(registry_error)?).ready_chunks(AT_ONCE);
        let mut total = LeafTotal {
            rows: 0,
            sums: Sums::zero(&self.layout),
        };
        let mut tuples = Tuples::default();
        // Each piece has the session's deadline, not the whole.
        while let Some(pieces) = session
            .within(WHAT, async { Ok(stream.next().await) })
            .await
            .map_err(registry_error)?
        {
            let before = total.rows;
            for piece in pieces {
                let piece = piece.map_err(|e| registry_error(store_error(WHAT, &e)))?;
                let each = tuples.each(&piece, self.columns + 3, |tuple| {
                    let row = split(tuple, self.columns)?;
                    let sums = &mut total.sums;
                    sums.add_row(&self.layout, row.key, row.cells, row.applied_seq);
                    total.rows += 1;
                    visit(row);
                    Ok(())
                });
                each.map_err(|what| RegistryError::Failed(format!("{WHAT}: {what}")))?;
            }
            pause(total.rows - before).await;
        }
        Ok(total)
    }
}

fn split(tuple: &[u8], columns: usize) -> Result<RowRef<'_>, String> {
    let mut reader = CellReader::new(tuple);
    let key = reader.next_raw().map_err(|e| e.to_string())?;
    let start = reader.rest();
    for _ in 0..columns {
        reader.next_raw().map_err(|e| e.to_string())?;
    }
    let cells = &start[..start.len() - reader.rest().len()];
    let mut number = || -> Result<i64, String> {
        let cell = reader.next_cell().map_err(|e| e.to_string())?;
        let bytes = cell.and_then(|c| c.try_into().ok());
        let number = bytes.map(i64::from_be_bytes);
        number.ok_or_else(|| "a position that is no bigint".to_owned())
    };
    Ok(RowRef {
        key,
        cells,
        applied_seq: number()?.cast_unsigned(),
        off: Offset(number()?),
    })
}
