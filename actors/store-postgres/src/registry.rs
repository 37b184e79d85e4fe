//! The registry on Postgres: versions, their marks, and who serves reads.

use std::time::Duration;
use std::time::SystemTime;

use async_trait::async_trait;
use refold_domain::cutover::Forced;
use refold_domain::log::TopicIdentity;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;
use refold_domain::version::VersionState;
use refold_ports::Registry;
use refold_ports::registry::Activation;
use refold_ports::registry::ActiveRow;
use refold_ports::registry::BarrierProgress;
use refold_ports::registry::BarrierProof;
use refold_ports::registry::BarrierRow;
use refold_ports::registry::MarkRow;
use refold_ports::registry::PromoteRequest;
use refold_ports::registry::Promotion;
use refold_ports::registry::RegistryError;
use refold_ports::registry::ResetRequest;
use refold_ports::registry::RetireRequest;
use refold_ports::registry::VersionRow;
use refold_projection::Compare;
use serde_json::Value;
use serde_json::json;
use tokio_postgres::Row;

use crate::barrier;
use crate::promote;
use crate::reset;
use crate::retire;
use crate::session::SessionOptions;
use crate::transaction::Sessions;
use crate::transaction::Transaction;
use crate::transaction::field;
use crate::views;

const VERSIONS: &str = include_str!("sql/registry_versions.sql");
const REGISTER: &str = include_str!("sql/registry_register.sql");
const MARKS: &str = include_str!("sql/registry_marks.sql");
const READINESS: &str = include_str!("sql/registry_readiness.sql");
const MAKE_READY: &str = include_str!("sql/registry_make_ready.sql");
pub(crate) const FAIL: &str = include_str!("sql/registry_fail.sql");
const ACTIVE: &str = "select version, generation from refold.active where name = $1";
const LEARN_TOPIC_ID: &str =
    "update refold.versions set topic_id = $2 where id = $1 and topic_id is null";
const LOCK_VERSION: &str =
    "select name, label, state from refold.versions where id = $1 for update";

/// Who changes a version's state where nobody asked by name.
const ACTOR: &str = "projector";

/// The settings of the registry's transactions. The time-outs bound how long a
/// row that others want may stay locked.
pub(crate) const SETTINGS: &str =
    "set local lock_timeout = '1s'; set local statement_timeout = '3s'";

/// The registry on Postgres. Cheap to clone; connections are pooled.
#[derive(Debug, Clone)]
pub struct PgRegistry {
    sessions: Sessions,
}

impl PgRegistry {
    /// A registry on a migrated database (see [`crate::migrate`]). Connections
    /// are made when they are needed.
    pub fn new(options: &SessionOptions) -> Self {
        Self {
            sessions: Sessions::new(options),
        }
    }

    /// Where its questions go.
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    async fn find(&self, label: Option<&str>) -> Result<Vec<VersionRow>, RegistryError> {
        let rows = self
            .sessions
            .query("read the versions", VERSIONS, &[&label])
            .await;
        rows?.iter().map(version_row).collect()
    }
}

/// A version that is locked against every other change of its state.
pub(crate) struct LockedVersion {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) state: VersionState,
}

pub(crate) async fn lock_version(
    transaction: &Transaction<'_>,
    version: VersionId,
) -> Result<LockedVersion, RegistryError> {
    let row = transaction
        .first("lock the version", LOCK_VERSION, &[&version.0])
        .await?
        .ok_or_else(|| RegistryError::UnknownVersion(version.to_string()))?;
    Ok(LockedVersion {
        name: field(&row, "name")?,
        label: field(&row, "label")?,
        state: state_of(&row)?,
    })
}

pub(crate) fn state_of(row: &Row) -> Result<VersionState, RegistryError> {
    let word: String = field(row, "state")?;
    VersionState::parse(&word)
        .ok_or_else(|| RegistryError::Failed(format!("{word:?} is no state of a version")))
}

fn version_row(row: &Row) -> Result<VersionRow, RegistryError> {
    Ok(VersionRow {
        id: VersionId(field(row, "id")?),
        name: field(row, "name")?,
        label: field(row, "label")?,
        state: state_of(row)?,
        code_hash: field(row, "code_hash")?,
        log: TopicIdentity {
            cluster_id: field(row, "cluster_id")?,
            topic: field(row, "topic")?,
            topic_id: field(row, "topic_id")?,
            partitions: field(row, "partitions")?,
        },
        note: field(row, "note")?,
        created_at: field(row, "created_at")?,
    })
}

fn mark_row(row: &Row) -> Result<MarkRow, RegistryError> {
    let rows: i64 = field(row, "rows")?;
    let committed_at: Option<SystemTime> = field(row, "committed_at")?;
    Ok(MarkRow {
        partition: Partition(field(row, "partition")?),
        epoch: field(row, "epoch")?,
        next: Offset(field(row, "next_offset")?),
        has_leaf: field(row, "has_leaf")?,
        reached_log_end: field(row, "reached_log_end")?,
        rows: rows.cast_unsigned(),
        committed_at,
    })
}

/// The columns of a version as `refold.versions.columns` holds them.
pub(crate) fn columns_json(spec: &ProjectionSpec) -> Value {
    let columns = spec.columns.iter().map(|column| {
        let compare = match column.compare {
            Compare::Same => "same",
            Compare::New => "new",
            Compare::Differs => "differs",
        };
        json!({
            "name": column.name,
            "type": column.ty.sql(),
            "nullable": column.nullable,
            "compare": compare,
        })
    });
    Value::Array(columns.collect())
}

/// Refuses when the stored version was built by other code or from another log.
fn check_registered(
    row: &VersionRow,
    spec: &ProjectionSpec,
    log: &TopicIdentity,
) -> Result<(), RegistryError> {
    let running = spec.code_hash();
    if row.code_hash != running {
        return Err(RegistryError::CodeChanged {
            label: row.label.clone(),
            stored: row.code_hash.clone(),
            running,
        });
    }
    match log_difference(&row.log, log) {
        None => Ok(()),
        Some(detail) => Err(RegistryError::LogChanged {
            label: row.label.clone(),
            detail,
        }),
    }
}

fn log_difference(stored: &TopicIdentity, found: &TopicIdentity) -> Option<String> {
    let ids = stored.topic_id.as_ref().zip(found.topic_id.as_ref());
    if stored.topic != found.topic {
        Some(format!("topic {}, now {}", stored.topic, found.topic))
    } else if stored.cluster_id != found.cluster_id {
        let (stored, found) = (&stored.cluster_id, &found.cluster_id);
        Some(format!("cluster {stored}, now {found}"))
    } else if stored.partitions != found.partitions {
        // A key's partition depends on the count, so the leaves are wrong from here on.
        let (stored, found) = (stored.partitions, found.partitions);
        Some(format!("{stored} partitions, now {found}"))
    } else if let Some((stored, found)) = ids.filter(|(a, b)| a != b) {
        Some(format!(
            "topic id {stored}, now {found}: the topic was deleted and created again"
        ))
    } else {
        None
    }
}

#[async_trait]
impl Registry for PgRegistry {
    async fn register(
        &self,
        spec: &ProjectionSpec,
        log: &TopicIdentity,
    ) -> Result<VersionRow, RegistryError> {
        let label = spec.label();
        let number = i32::try_from(spec.number).map_err(|_| {
            RegistryError::Conflict(format!("version number {} is too large", spec.number))
        })?;
        let replaces = spec.replaces.and_then(|n| i32::try_from(n).ok());
        let (code, columns) = (spec.code_hash(), columns_json(spec));
        if self.find(Some(&label)).await?.is_empty() {
            // Whoever comes second inserts nothing and is compared with the first.
            let what = "register the version";
            let transaction = self.sessions.begin(SETTINGS).await?;
            transaction
                .query(
                    what,
                    REGISTER,
                    &[
                        &spec.name,
                        &number,
                        &label,
                        &code,
                        &spec.key_type.sql(),
                        &columns,
                        &replaces,
                        &log.cluster_id,
                        &log.topic,
                        &log.topic_id,
                        &log.partitions,
                    ],
                )
                .await?;
            transaction.commit().await?;
        }
        let row = self.version(&label).await?;
        check_registered(&row, spec, log)?;
        if row.log.topic_id.is_none() && log.topic_id.is_some() {
            let transaction = self.sessions.begin(SETTINGS).await?;
            transaction
                .query(
                    "learn the topic's id",
                    LEARN_TOPIC_ID,
                    &[&row.id.0, &log.topic_id],
                )
                .await?;
            transaction.commit().await?;
        }
        Ok(row)
    }

    async fn versions(&self) -> Result<Vec<VersionRow>, RegistryError> {
        self.find(None).await
    }

    async fn version(&self, label: &str) -> Result<VersionRow, RegistryError> {
        let found = self.find(Some(label)).await?.into_iter().next();
        found.ok_or_else(|| RegistryError::UnknownVersion(label.to_owned()))
    }

    async fn active(&self, name: &str) -> Result<Option<ActiveRow>, RegistryError> {
        let rows = self
            .sessions
            .query("read the active version", ACTIVE, &[&name])
            .await?;
        let row = rows.first().map(|row| {
            Ok(ActiveRow {
                version: VersionId(field(row, "version")?),
                generation: field(row, "generation")?,
            })
        });
        row.transpose()
    }

    async fn marks(&self, version: VersionId) -> Result<Vec<MarkRow>, RegistryError> {
        let rows = self
            .sessions
            .query("read the marks", MARKS, &[&version.0])
            .await;
        rows?.iter().map(mark_row).collect()
    }

    async fn make_ready(&self, version: VersionId) -> Result<bool, RegistryError> {
        let what = "see whether the version is ready";
        let rows = self.sessions.query(what, READINESS, &[&version.0]).await?;
        let row = rows
            .first()
            .ok_or_else(|| RegistryError::UnknownVersion(version.to_string()))?;
        if state_of(row)? == VersionState::Building && !field::<bool>(row, "complete")? {
            return Ok(false);
        }
        let transaction = self.sessions.begin(SETTINGS).await?;
        let locked = lock_version(&transaction, version).await?;
        if locked.state.is_readable() {
            transaction.rollback().await?;
            return Ok(true);
        }
        if locked.state != VersionState::Building {
            let (label, state) = (&locked.label, locked.state);
            return Err(refuse(transaction, format!("{label} is {state}")).await);
        }
        let has_view = views::create(&transaction, version).await?;
        transaction
            .query(
                "make the version ready",
                MAKE_READY,
                &[&version.0, &has_view, &ACTOR],
            )
            .await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn activate_first(
        &self,
        version: VersionId,
        actor: &str,
        forced: Option<&Forced>,
    ) -> Result<Activation, RegistryError> {
        promote::activate_first(&self.sessions, version, actor, forced).await
    }

    async fn fail(&self, version: VersionId, reason: &str) -> Result<(), RegistryError> {
        let transaction = self.sessions.begin(SETTINGS).await?;
        let locked = lock_version(&transaction, version).await?;
        if !locked.state.may_become(VersionState::Failed) {
            let (label, state) = (&locked.label, locked.state);
            return Err(refuse(transaction, format!("{label} is {state} and cannot fail")).await);
        }
        transaction
            .query(
                "mark the version failed",
                FAIL,
                &[&version.0, &reason, &ACTOR],
            )
            .await?;
        transaction.commit().await
    }

    async fn set_barrier(
        &self,
        from: VersionId,
        to: VersionId,
    ) -> Result<BarrierRow, RegistryError> {
        barrier::set(&self.sessions, from, to).await
    }

    async fn barrier_progress(&self, barrier: i64) -> Result<BarrierProgress, RegistryError> {
        barrier::progress(&self.sessions, barrier).await
    }

    async fn barrier_is_complete(&self, barrier: i64) -> Result<bool, RegistryError> {
        barrier::is_complete(&self.sessions, barrier).await
    }

    async fn compare_at_barrier(
        &self,
        barrier: i64,
        from: &ProjectionSpec,
        to: &ProjectionSpec,
        columns: &[&'static str],
    ) -> Result<BarrierProof, RegistryError> {
        barrier::compare(&self.sessions, barrier, (from, to), columns).await
    }

    async fn drop_barrier(&self, barrier: i64) -> Result<(), RegistryError> {
        barrier::withdraw(&self.sessions, barrier).await
    }

    async fn promote(
        &self,
        request: &PromoteRequest,
        from: &ProjectionSpec,
        to: &ProjectionSpec,
    ) -> Result<Promotion, RegistryError> {
        promote::promote(&self.sessions, request, (from, to)).await
    }

    async fn retire_as(&self, request: &RetireRequest) -> Result<(), RegistryError> {
        retire::retire(&self.sessions, request).await
    }

    async fn drop_retired(
        &self,
        version: VersionId,
        grace: Duration,
        actor: &str,
    ) -> Result<(), RegistryError> {
        retire::drop_retired(&self.sessions, version, grace, actor).await
    }

    async fn reset(&self, request: &ResetRequest) -> Result<(), RegistryError> {
        reset::reset(&self.sessions, request).await
    }
}

/// Rolls back and says why.
pub(crate) async fn refuse(transaction: Transaction<'_>, reason: String) -> RegistryError {
    match transaction.rollback().await {
        Ok(()) => RegistryError::Conflict(reason),
        Err(error) => error,
    }
}
