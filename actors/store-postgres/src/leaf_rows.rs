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
use crate::portions::Pages;
use crate::portions::Portions;
use crate::session::Session;
use crate::transaction::field;
use crate::transaction::query;
use crate::transaction::registry_error;

/// Rows that are taken from the connection at once, if so many are there: a deadline
/// is set for all of them and not for each.
const AT_ONCE: usize = 256;

/// How the rows of a leaf are read.
#[derive(Debug)]
pub(crate) struct LeafRows {
    leaf: String,
    /// The columns to read, all of them.
    list: String,
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
        Ok(Self {
            leaf: ddl::leaf_name(id, partition),
            list: format!("key, {names}agg_version, off"),
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
    /// them up. `pause` is awaited after every few hundred rows with their number. Who pauses
    /// to keep to `rate` rows a second says so: then the server is asked for a little at a time.
    /// The session is in one snapshot from before to behind it.
    pub(crate) async fn read<P: Future<Output = ()>>(
        &self,
        session: &Session,
        rate: Option<u64>,
        mut visit: impl FnMut(RowRef<'_>),
        mut pause: impl FnMut(u64) -> P,
    ) -> Result<LeafTotal, RegistryError> {
        let pages = match rate {
            Some(_) => self.pages(session).await?,
            None => 0,
        };
        let mut portions = Portions::new(rate, pages);
        let mut total = LeafTotal {
            rows: 0,
            sums: Sums::zero(&self.layout),
        };
        while let Some(pages) = portions.next(total.rows) {
            let totals = &mut total;
            self.portion(session, pages, totals, &mut visit, &mut pause)
                .await?;
        }
        Ok(total)
    }

    /// How many pages the leaf has by now: no fewer than hold the rows of the session's snapshot.
    async fn pages(&self, session: &Session) -> Result<u64, RegistryError> {
        let size = format!(
            "select pg_relation_size('{}') / current_setting('block_size')::bigint as pages",
            self.leaf
        );
        let rows = query(session, "ask for the pages of a leaf", &size, &[]).await?;
        let pages = rows.first().map(|row| field::<i64>(row, "pages"));
        Ok(pages.transpose()?.unwrap_or(0).unsigned_abs())
    }

    async fn portion<P: Future<Output = ()>>(
        &self,
        session: &Session,
        pages: Pages,
        total: &mut LeafTotal,
        visit: &mut impl FnMut(RowRef<'_>),
        pause: &mut impl FnMut(u64) -> P,
    ) -> Result<(), RegistryError> {
        const WHAT: &str = "read the rows";
        let (list, leaf, of_pages) = (&self.list, &self.leaf, pages.condition());
        let copy = format!(
            "copy (select {list} from {leaf} where not deleted{of_pages}) to stdout (format binary)"
        );
        let stream = session.client().copy_out(copy.as_str());
        let stream = session.within(WHAT, stream).await;
        let mut stream = Box::pin(stream.map_err(registry_error)?).ready_chunks(AT_ONCE);
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
        Ok(())
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
