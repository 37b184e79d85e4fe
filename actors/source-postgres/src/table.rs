//! Event tables created, and their head deleted.

use std::time::Duration;

use refold_domain::position::Offset;
use refold_ports::source::SourceError;
use uuid::Uuid;

use crate::follower::Follower;
use crate::options::EventStoreOptions;
use crate::options::check_name;
use crate::session::Session;

const SCHEMA: &str = include_str!("sql/schema.sql");

/// One at a time: two that create the schema at once fail each other.
const TURN: &str = "begin; select pg_advisory_xact_lock(hashtext('refold_events'))";

/// Rows may take long to delete.
const DELETE_DEADLINE: Duration = Duration::from_secs(3_600);

/// Creates what event tables have in common, or brings it up to date: a schema, the catalogue
/// and functions.
///
/// # Errors
/// [`SourceError::Fatal`] when the server refuses, [`SourceError::Unreachable`] when it does not answer.
pub async fn install(options: &EventStoreOptions) -> Result<(), SourceError> {
    let session = Session::connect(options, "logs").await?;
    let what = "set the schema of event tables up";
    session.batch(what, TURN).await?;
    session.batch(what, SCHEMA).await?;
    session.batch(what, "commit").await
}

/// Creates the event table `name` with `partitions` partitions (1 to 4096) and answers its id.
///
/// # Errors
/// [`SourceError::Fatal`] when the server refuses, as where the table is there already, or the
/// name is not one; [`SourceError::Unreachable`] when it does not answer.
pub async fn create(
    options: &EventStoreOptions,
    name: &str,
    partitions: i32,
) -> Result<Uuid, SourceError> {
    check_name(name).map_err(|error| SourceError::Fatal(error.to_string()))?;
    install(options).await?;
    let session = Session::connect(options, name).await?;
    let what = "create the event table";
    let sql = "select refold_events.create_log($1, $2)";
    let row = session
        .within(what, session.client().query_one(sql, &[&name, &partitions]))
        .await?;
    row.try_get(0)
        .map_err(|error| SourceError::Fatal(format!("{what}: {error}")))
}

/// Deletes the events of the event table `name` that lie below `low`, in all partitions, and
/// answers how many there were. Only what is settled can be deleted.
///
/// # Errors
/// [`SourceError::Fatal`] when `low` lies above the settled end or the server refuses,
/// [`SourceError::Unreachable`] when it does not answer.
pub async fn delete_below(
    options: &EventStoreOptions,
    name: &str,
    low: Offset,
) -> Result<u64, SourceError> {
    check_name(name).map_err(|error| SourceError::Fatal(error.to_string()))?;
    let ends = Follower::new(options, name).ask(options.deadline).await?;
    if low > ends.end {
        return Err(SourceError::Fatal(format!(
            "event table {name} ends at {}: what lies above that cannot be deleted",
            ends.end
        )));
    }
    let patient = EventStoreOptions {
        deadline: DELETE_DEADLINE,
        ..options.clone()
    };
    let session = Session::connect(&patient, name).await?;
    let what = "delete the head of the event table";
    let sql = "select refold_events.delete_below($1, $2)";
    let row = session
        .within(what, session.client().query_one(sql, &[&name, &low.0]))
        .await?;
    let deleted: i64 = row
        .try_get(0)
        .map_err(|error| SourceError::Fatal(format!("{what}: {error}")))?;
    Ok(u64::try_from(deleted).unwrap_or_default())
}
