//! A partition read the plain way: pages of rows in order, each by its own statement.
//!
//! It shares the user's connection settings and the meaning of errors with the readers of the
//! replay path and nothing else, so that what a witness reads does not pass their code. It is
//! told where to end, and settles nothing: that end was a mark.

use refold_domain::log::Watermarks;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::source::SourceError;
use refold_ports::source::inside;
use tokio::runtime::Handle;

use crate::lines::quoted;
use crate::options::EventStoreOptions;
use crate::options::check_name;
use crate::session::Session;

/// Rows of one statement.
const PAGE: usize = 5_000;

/// The start of the log, and one past the last position that was handed out.
const ENDS: &str = "select low, coalesce(pg_sequence_last_value(
        (select sequence.oid from pg_class sequence
            where sequence.relnamespace = 'refold_events'::regnamespace
                and sequence.relname = name || '_position')) + 1, 0)
    from refold_events.logs where name = $1";

/// Hands the value of every event of `[from, until)` to `visit`, in order, and ends. The log
/// has to hold `from`, which is 0 for whoever folds it from the first event on. Blocks, on a
/// thread of a runtime that may.
///
/// # Errors
/// [`SourceError::Truncated`] when the log begins behind `from`, [`SourceError::BeyondEnd`] when it
/// ends before `until`, [`SourceError::Corrupt`] with what `visit` said of a record, others
/// as their names say.
pub fn each_record(
    options: &EventStoreOptions,
    table: &str,
    partition: Partition,
    (from, until): (Offset, Offset),
    visit: impl FnMut(Offset, Option<&[u8]>) -> Result<(), String>,
) -> Result<(), SourceError> {
    if until <= from {
        return Ok(());
    }
    check_name(table).map_err(|error| SourceError::Fatal(error.to_string()))?;
    Handle::current().block_on(pages(options, table, partition, (from, until), visit))
}

async fn pages(
    options: &EventStoreOptions,
    table: &str,
    partition: Partition,
    (from, until): (Offset, Offset),
    mut visit: impl FnMut(Offset, Option<&[u8]>) -> Result<(), String>,
) -> Result<(), SourceError> {
    let session = Session::open(options, table).await?;
    let what = "read events for a witness";
    let fatal = |error: tokio_postgres::Error| SourceError::Fatal(format!("{what}: {error}"));
    let sql = format!(
        "select position, value from only {} where partition = $1 and position >= $2
             and position < $3 order by position limit {PAGE}",
        quoted(table)
    );
    let read = session.prepare(what, &sql).await?;
    let mut next = from;
    loop {
        let rows = session
            .rows(what, &read, &[&partition.0, &next.0, &until.0])
            .await?;
        for row in &rows {
            let offset = Offset(row.try_get(0).map_err(fatal)?);
            let value: Option<&[u8]> = row.try_get(1).map_err(fatal)?;
            visit(offset, value).map_err(|reason| SourceError::Corrupt {
                partition,
                offset,
                reason,
            })?;
            next = offset.next();
        }
        if rows.len() < PAGE {
            break;
        }
    }
    // Asked behind the rows: what was deleted while they were read is missed.
    let row = session
        .within(what, session.client().query_opt(ENDS, &[&table]))
        .await?;
    let row = row.ok_or_else(|| SourceError::TopicMissing(table.to_owned()))?;
    let ends = Watermarks {
        low: Offset(row.try_get(0).map_err(fatal)?),
        high: Offset(row.try_get(1).map_err(fatal)?),
    };
    inside(ends, partition, from)?;
    inside(ends, partition, until)
}
