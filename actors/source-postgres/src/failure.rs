//! From what the server or the connection says to a [`SourceError`]: one table.

use refold_ports::source::SourceError;
use tokio_postgres::error::DbError;

/// What an error means. `what` is the step that failed, in verb form; `table` the event table
/// that was asked about.
pub(crate) fn source_error(what: &str, table: &str, error: &tokio_postgres::Error) -> SourceError {
    match error.as_db_error() {
        Some(db) => server_error(what, table, db),
        // A value that cannot be sent is a bug of the caller, not of the connection.
        None if error.to_string().starts_with("error serializing parameter") => {
            SourceError::Fatal(format!("{what}: {error}"))
        }
        None => {
            let source = std::error::Error::source(error);
            let why = source.map_or_else(String::new, |source| format!(": {source}"));
            SourceError::Unreachable(format!("{what}: {error}{why}"))
        }
    }
}

fn server_error(what: &str, table: &str, db: &DbError) -> SourceError {
    let code = db.code().code();
    let sentence = format!("{what}: {} ({code})", db.message());
    match code {
        // no such table, no such schema
        "42P01" | "3F000" => SourceError::TopicMissing(table.to_owned()),
        // serialization failure, deadlock, lock or statement time-out, too many connections
        "40001" | "40P01" | "55P03" | "57014" | "53300" => SourceError::Unreachable(sentence),
        // every kind of shutdown, and a connection that broke
        _ if code.starts_with("57P") || code.starts_with("08") => {
            SourceError::Unreachable(sentence)
        }
        _ => SourceError::Fatal(sentence),
    }
}

/// A stalled answer: what it was about and how long it was waited for.
pub(crate) fn too_late(what: &str, deadline: std::time::Duration) -> SourceError {
    SourceError::Unreachable(format!("{what}: no answer within {deadline:?}"))
}
