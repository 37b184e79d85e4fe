//! The end of a version: retired, and dropped when nobody can read it any more.

use std::time::Duration;

use refold_domain::version::VersionId;
use refold_domain::version::VersionState;
use refold_ports::registry::RegistryError;
use refold_ports::registry::RetireRequest;

use crate::registry::SETTINGS;
use crate::registry::lock_version;
use crate::registry::refuse;
use crate::transaction::Sessions;
use crate::transaction::Transaction;
use crate::transaction::field;

const LOCK_SERVING: &str = "select a.generation from refold.active a
    where a.name = (select v.name from refold.versions v where v.id = $1) for share";
const END_OWNERS: &str = "select refold.end_owner(o.version, o.partition)
    from refold.offsets o where o.version = $1";
const RETIRE: &str = "select refold.retire_version($1, $2, $3)";
const RETIRED: &str = "select extract(epoch from clock_timestamp() - v.retired_at)::float8 as age,
    array(select refold.readers_before(v.retired_at)) as readers
    from refold.versions v where v.id = $1";
const DROP: &str = "select refold.drop_version($1, $2) as tables";

/// Dropping many tables takes longer than changing a row.
pub(crate) const DROP_SETTINGS: &str =
    "set local lock_timeout = '1s'; set local statement_timeout = '60s'";

/// Retires a version whose state, and what the request insists on, allow it.
pub(crate) async fn retire(
    sessions: &Sessions,
    request: &RetireRequest,
) -> Result<(), RegistryError> {
    let (version, actor, reason) = (request.version, &request.actor, &request.reason);
    let transaction = sessions.begin(SETTINGS).await?;
    // In the order of a promotion, which locks who serves before it locks the versions.
    let serving = transaction
        .first("lock who serves", LOCK_SERVING, &[&version.0])
        .await?;
    let locked = lock_version(&transaction, version).await?;
    if let Some(wanted) = request.if_generation {
        let found = serving.map(|row| field(&row, 0)).transpose()?.unwrap_or(0);
        if found != wanted {
            transaction.rollback().await?;
            return Err(RegistryError::GenerationChanged { wanted, found });
        }
    }
    match locked.state {
        VersionState::Retired => return transaction.rollback().await,
        VersionState::Previous if request.abort => {
            let sentence = format!("{} served before; retire it instead", locked.label);
            return Err(refuse(transaction, sentence).await);
        }
        state if state.may_become(VersionState::Retired) => {}
        VersionState::Active => {
            let sentence = format!(
                "{} serves reads; promote another version first",
                locked.label
            );
            return Err(refuse(transaction, sentence).await);
        }
        state => {
            let sentence = format!("{} is {state} and cannot be retired", locked.label);
            return Err(refuse(transaction, sentence).await);
        }
    }
    transaction
        .query("retire the version", RETIRE, &[&version.0, actor, reason])
        .await?;
    transaction.commit().await?;
    if locked.state.may_be_aborted() {
        end_owners(sessions, version).await;
    }
    Ok(())
}

/// Ends the sessions of a build's projectors. They would meet the fence anyway; one that is in
/// the middle of a load would hold its table until then.
async fn end_owners(sessions: &Sessions, version: VersionId) {
    let ended = sessions
        .query("end the owners", END_OWNERS, &[&version.0])
        .await;
    if let Err(error) = ended {
        tracing::warn!(%version, %error, "the build's projectors go on until they meet the fence");
    }
}

/// Drops what a version left that was retired at least `grace` ago.
pub(crate) async fn drop_retired(
    sessions: &Sessions,
    version: VersionId,
    grace: Duration,
    actor: &str,
) -> Result<(), RegistryError> {
    let transaction = sessions.begin(DROP_SETTINGS).await?;
    let locked = lock_version(&transaction, version).await?;
    let label = &locked.label;
    match locked.state {
        VersionState::Dropped => return transaction.rollback().await,
        VersionState::Retired => {}
        state => {
            let sentence = format!("{label} is {state}; retire it first");
            return Err(refuse(transaction, sentence).await);
        }
    }
    if let Some(sentence) = still_read(&transaction, version, label, grace).await? {
        return Err(refuse(transaction, sentence).await);
    }
    transaction
        .query("drop the version's tables", DROP, &[&version.0, &actor])
        .await?;
    transaction.commit().await
}

/// Why a retired version may still be read.
async fn still_read(
    transaction: &Transaction<'_>,
    version: VersionId,
    label: &str,
    grace: Duration,
) -> Result<Option<String>, RegistryError> {
    let row = transaction
        .one("see who reads it", RETIRED, &[&version.0])
        .await?;
    let age: Option<f64> = field(&row, "age")?;
    let age = Duration::try_from_secs_f64(age.unwrap_or_default()).unwrap_or_default();
    if age < grace {
        return Ok(Some(format!(
            "{label} was retired {:.1} s ago; its tables stay for {:.1} s",
            age.as_secs_f64(),
            grace.as_secs_f64()
        )));
    }
    let readers: Vec<String> = field(&row, "readers")?;
    Ok(readers.first().map(|first| {
        format!(
            "{} transactions are older than the retirement of {label}; first: {first}",
            readers.len()
        )
    }))
}
