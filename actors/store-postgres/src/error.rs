//! From what the server or the connection says to a [`StoreError`]: one table.

use refold_domain::position::Offset;
use refold_ports::sink::StoreError;
use tokio_postgres::error::DbError;

/// Raised by the fence: another epoch or another mark.
pub(crate) const FENCED: &str = "PF001";
/// Raised by the fence: a barrier waits inside the batch, DETAIL is its offset.
pub(crate) const BARRIER_INSIDE: &str = "PF002";
/// Raised by the fence: wrong state, other code, unknown version.
pub(crate) const REFUSED: &str = "PF003";
/// Raised by the fence: a verification holds the mark still for a moment.
pub(crate) const PARKED: &str = "PF010";
/// A lock was not got within `lock_timeout`.
pub(crate) const LOCK_NOT_AVAILABLE: &str = "55P03";

/// What an error of `tokio-postgres` means for the writer. `what` is the step
/// that failed, in verb form.
pub(crate) fn store_error(what: &str, error: &tokio_postgres::Error) -> StoreError {
    match error.as_db_error() {
        Some(db) => server_error(what, db),
        // A value that cannot be sent is a bug of the caller, not of the connection.
        None if error.to_string().starts_with("error serializing parameter") => {
            StoreError::Refused(format!("{what}: {error}"))
        }
        None => StoreError::Disconnected(format!("{what}: {error}{}", source_of(error))),
    }
}

fn server_error(what: &str, db: &DbError) -> StoreError {
    let sentence = format!("{what}: {}", db.message());
    let code = db.code().code();
    match code {
        FENCED => StoreError::Fenced(db.message().to_owned()),
        BARRIER_INSIDE => match db.detail().and_then(|d| d.parse().ok()) {
            Some(at) => StoreError::CutAt { at: Offset(at) },
            None => StoreError::Refused(sentence),
        },
        REFUSED => StoreError::Refused(db.message().to_owned()),
        // serialization failure, deadlock, lock or statement time-out
        PARKED | "40001" | "40P01" | LOCK_NOT_AVAILABLE | "57014" => StoreError::Retry(sentence),
        "53100" => StoreError::DiskFull(sentence),
        // too many connections, the idle-in-transaction time-out and every kind of
        // shutdown: the session is over, a commit in flight may be in
        "53300" | "25P03" => StoreError::Disconnected(sentence),
        _ if code.starts_with("57P") || code.starts_with("08") => {
            StoreError::Disconnected(sentence)
        }
        _ => StoreError::Refused(format!("{sentence} ({code})")),
    }
}

fn source_of(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"))
}
