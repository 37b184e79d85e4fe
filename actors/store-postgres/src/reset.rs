//! A build that came to nothing is built again.

use refold_domain::version::VersionState;
use refold_ports::registry::RegistryError;
use refold_ports::registry::ResetRequest;

use crate::parameter::Parameter;
use crate::registry::FAIL;
use crate::registry::SETTINGS;
use crate::registry::columns_json;
use crate::registry::lock_version;
use crate::registry::refuse;
use crate::retire::DROP_SETTINGS;
use crate::transaction::Sessions;
use crate::transaction::field;

const END_OWNERS: &str = include_str!("sql/reset_end_owners.sql");
const READERS: &str = include_str!("sql/reset_readers.sql");
const RESET: &str = include_str!("sql/reset.sql");

/// Gives a build empty marks and the code of the request, in two steps: it fails, and then what
/// was built of it goes. Whatever ends this in between leaves a version that failed.
pub(crate) async fn reset(
    sessions: &Sessions,
    request: &ResetRequest,
) -> Result<(), RegistryError> {
    let (version, spec) = (request.version, &request.spec);
    fail(sessions, request).await?;
    // A load in the middle of its transaction would hold its mark for as long as it takes.
    sessions
        .query("end the owners", END_OWNERS, &[&version.0])
        .await?;
    let transaction = sessions.begin(DROP_SETTINGS).await?;
    let locked = lock_version(&transaction, version).await?;
    let label = &locked.label;
    if locked.state != VersionState::Failed {
        let sentence = format!(
            "{label} is {} by now: somebody else reset or ended it",
            locked.state
        );
        return Err(refuse(transaction, sentence).await);
    }
    let what = "see who reads it";
    let row = transaction.one(what, READERS, &[&version.0]).await?;
    let readers: Vec<String> = field(&row, "readers")?;
    if let Some(first) = readers.first() {
        let sentence = format!(
            "{} transactions are older than the failure of {label}; first: {first}",
            readers.len()
        );
        return Err(refuse(transaction, sentence).await);
    }
    let replaces = spec.replaces.and_then(|n| i32::try_from(n).ok());
    let (code, columns) = (spec.code_hash(), columns_json(spec));
    let key_type = spec.key_type.sql();
    let row: [&dyn Parameter; 7] = [
        &version.0,
        &code,
        &key_type,
        &columns,
        &replaces,
        &request.actor,
        &request.reason,
    ];
    transaction
        .query("build the version again", RESET, &row)
        .await?;
    transaction.commit().await
}

/// Fails a build, whose state is looked at under the lock: what served meanwhile is the way back.
async fn fail(sessions: &Sessions, request: &ResetRequest) -> Result<(), RegistryError> {
    let transaction = sessions.begin(SETTINGS).await?;
    let locked = lock_version(&transaction, request.version).await?;
    let (label, code) = (&locked.label, request.spec.label());
    if !locked.state.may_be_aborted() {
        let state = locked.state;
        let sentence = format!("{label} is {state}; only a build that never served is reset");
        return Err(refuse(transaction, sentence).await);
    }
    if *label != code {
        let sentence = format!("{code} is no code for {label}");
        return Err(refuse(transaction, sentence).await);
    }
    if locked.state == VersionState::Failed {
        return transaction.rollback().await;
    }
    let reason = format!("to be built again: {}", request.reason);
    let failed: [&dyn Parameter; 3] = [&request.version.0, &reason, &request.actor];
    transaction.query("fail the build", FAIL, &failed).await?;
    transaction.commit().await
}
