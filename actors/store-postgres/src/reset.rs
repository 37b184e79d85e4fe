//! A version that failed is built again.

use refold_domain::version::VersionState;
use refold_ports::registry::RegistryError;
use refold_ports::registry::ResetRequest;

use crate::parameter::Parameter;
use crate::registry::columns_json;
use crate::registry::lock_version;
use crate::registry::refuse;
use crate::retire::DROP_SETTINGS;
use crate::transaction::Sessions;
use crate::transaction::field;

const END_OWNERS: &str = include_str!("sql/reset_end_owners.sql");
const READERS: &str = include_str!("sql/reset_readers.sql");
const RESET: &str = include_str!("sql/reset.sql");

/// Gives a failed version empty marks and the code of the request.
pub(crate) async fn reset(
    sessions: &Sessions,
    request: &ResetRequest,
) -> Result<(), RegistryError> {
    let (version, spec) = (request.version, &request.spec);
    // A load in the middle of its transaction would hold its mark for as long as it takes.
    sessions
        .query("end the owners", END_OWNERS, &[&version.0])
        .await?;
    let transaction = sessions.begin(DROP_SETTINGS).await?;
    let locked = lock_version(&transaction, version).await?;
    let label = &locked.label;
    if locked.state != VersionState::Failed {
        let sentence = format!(
            "{label} is {}; only a version that failed is built again",
            locked.state
        );
        return Err(refuse(transaction, sentence).await);
    }
    if *label != spec.label() {
        let sentence = format!("{} is no code for {label}", spec.label());
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
