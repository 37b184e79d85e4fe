//! The read-only views that carry the labels. Nothing on the read path uses them.

use refold_domain::version::VersionId;
use refold_ports::registry::RegistryError;

use crate::transaction::Transaction;
use crate::transaction::field;

const CREATE: &str = "select refold.create_version_view($1) as created";

/// Creates `public.<label>` over the leaves of a version. `false` when a relation
/// of that name is there already. The text is put together inside the database,
/// where the label is quoted; every leaf has to exist.
pub(crate) async fn create(
    transaction: &Transaction<'_>,
    version: VersionId,
) -> Result<bool, RegistryError> {
    let created = transaction
        .one("create the version's view", CREATE, &[&version.0])
        .await;
    field(&created?, "created")
}
