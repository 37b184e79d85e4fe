//! The registry: versions, their marks, barriers and the one row that says
//! which version serves reads.

mod ending;

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::SystemTime;

use async_trait::async_trait;
use refold_domain::barrier::OffsetVector;
use refold_domain::barrier::SumDifference;
use refold_domain::cutover::Forced;
use refold_domain::cutover::GateReport;
use refold_domain::log::TopicIdentity;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;
use refold_domain::version::VersionState;

pub use ending::ResetRequest;
pub use ending::RetireRequest;

/// What went wrong with the registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// No version of this label.
    #[error("version {0} does not exist; `refold list` shows those that do")]
    UnknownVersion(String),
    /// The stored fingerprint is another one.
    #[error(
        "version {label} was built by other code (stored {stored}, running {running}): \
         a changed fold or row struct needs a new version number, or `refold reset` for a build that never served"
    )]
    CodeChanged {
        /// The version.
        label: String,
        /// Fingerprint in the registry.
        stored: String,
        /// Fingerprint of the running binary.
        running: String,
    },
    /// The topic is not the one that the version was built from.
    #[error("version {label} was built from another log: {detail}")]
    LogChanged {
        /// The version.
        label: String,
        /// What differs.
        detail: String,
    },
    /// A gate holds the promotion back.
    #[error("{}", first_refusal(.0))]
    GateRefused(Vec<GateReport>),
    /// The generation is not the one that the caller saw.
    #[error("the registry is at generation {found}, not {wanted}: look again, then repeat")]
    GenerationChanged {
        /// What the caller sent.
        wanted: i64,
        /// What the registry has.
        found: i64,
    },
    /// The state machine does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// The store is away or did not answer in time. Nothing is known to have changed.
    #[error("the registry cannot be reached: {0}")]
    Unreachable(String),
    /// The store answered with something unexpected.
    #[error("the registry failed: {0}")]
    Failed(String),
}

fn first_refusal(reports: &[GateReport]) -> String {
    match reports.iter().find(|r| !r.passes()) {
        Some(report) => format!("gate {}: {}", report.gate, report.detail),
        None => "no gate refuses".to_owned(),
    }
}

/// One version as the registry holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRow {
    /// Its id.
    pub id: VersionId,
    /// The projection's name.
    pub name: String,
    /// `NAME_vNUMBER`.
    pub label: String,
    /// Its state.
    pub state: VersionState,
    /// Fingerprint of the code that builds it.
    pub code_hash: String,
    /// The log that it is built from.
    pub log: TopicIdentity,
    /// Why it failed, or what else the operator should know.
    pub note: Option<String>,
    /// When it was registered.
    pub created_at: SystemTime,
}

/// Who serves reads of a projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveRow {
    /// The version.
    pub version: VersionId,
    /// Counts the switches; the first activation is 1.
    pub generation: i64,
}

/// What would be left of a promotion if the server that took it were lost now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The store has no synchronous standby: it is on the disk of the one server.
    Local,
    /// The synchronous standbys have it too and show it to their readers.
    Replicated,
    /// It is in and serves, but the wait for a synchronous standby was given up: a failover may
    /// still undo it. Asking for the same promotion again waits again.
    Pending,
}

impl Durability {
    /// The word for people and protocols.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Replicated => "replicated",
            Self::Pending => "pending",
        }
    }
}

/// The first version of a name serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activation {
    /// Who serves.
    pub active: ActiveRow,
    /// Who has it.
    pub durability: Durability,
}

/// The durable mark of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MarkRow {
    /// The partition.
    pub partition: Partition,
    /// Epoch of the owner.
    pub epoch: i64,
    /// The mark, exclusive.
    pub next: Offset,
    /// Whether the leaf exists.
    pub has_leaf: bool,
    /// Whether the whole history was in at some commit.
    pub reached_log_end: bool,
    /// Rows that are not deleted, by the sums.
    pub rows: u64,
    /// Server time of the last commit.
    pub committed_at: Option<SystemTime>,
}

/// A barrier that was set for two versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BarrierRow {
    /// Its id.
    pub id: i64,
    /// The serving version.
    pub from: VersionId,
    /// The candidate.
    pub to: VersionId,
    /// The switch vector.
    pub switch: OffsetVector,
}

/// How far a barrier is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BarrierProgress {
    /// (version, partition) pairs that recorded their sums.
    pub acked: usize,
    /// Pairs that have to.
    pub wanted: usize,
    /// Per pair that did not: how many events are missing.
    pub waiting: Vec<(VersionId, Partition, u64)>,
}

impl BarrierProgress {
    /// Whether every partition of both versions recorded its sums.
    pub fn is_complete(&self) -> bool {
        self.acked == self.wanted
    }
}

/// What a promotion asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromoteRequest {
    /// The candidate.
    pub to: VersionId,
    /// The barrier whose sums are the proof.
    pub barrier: i64,
    /// The generation that the caller saw, if it insists on it.
    pub if_generation: Option<i64>,
    /// Largest distance in events that any partition of the candidate may be behind.
    pub allowed_lag: u64,
    /// How old the last scan of both tables may be; `None` when none is asked for.
    pub max_scan_age: Option<Duration>,
    /// The gate that whoever asks answers for.
    pub forced: Option<Forced>,
    /// Who asks, for the audit.
    pub actor: String,
    /// Judge every gate in the same transaction, then change nothing.
    pub dry_run: bool,
}

/// What a promotion did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    /// The promotion's id, also in the audit.
    pub id: String,
    /// The version that served before.
    pub from: Option<VersionId>,
    /// The version that serves now.
    pub to: VersionId,
    /// Generation after the switch.
    pub generation: i64,
    /// The switch vector.
    pub switch: OffsetVector,
    /// Every gate's verdict.
    pub gates: Vec<GateReport>,
    /// Server time of the switch.
    pub switched_at: SystemTime,
    /// Time of the switching transaction from begin to commit, as the client saw it.
    pub flip: Duration,
    /// `false` when the version was active already and nothing changed.
    pub changed: bool,
    /// Who has the promotion, also when an earlier one is told again; `None` when every gate
    /// was only judged.
    pub durability: Option<Durability>,
}

/// The sums of two versions at a barrier, compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BarrierProof {
    /// The barrier.
    pub barrier: i64,
    /// Columns that were compared.
    pub columns: Vec<String>,
    /// Rows per version at the switch vector.
    pub rows: BTreeMap<VersionId, u64>,
    /// Differences; empty is the proof.
    pub differences: Vec<SumDifference>,
}

/// The registry.
///
/// # Promise
/// Every method is one transaction. A refusal changes nothing.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Registers a version as building, or returns the row that is there.
    ///
    /// # Errors
    /// [`RegistryError::CodeChanged`] and [`RegistryError::LogChanged`] when it is there with another
    /// fingerprint or another log.
    async fn register(
        &self,
        spec: &ProjectionSpec,
        log: &TopicIdentity,
    ) -> Result<VersionRow, RegistryError>;

    /// All versions, newest last.
    ///
    /// # Errors
    /// [`RegistryError::Unreachable`].
    async fn versions(&self) -> Result<Vec<VersionRow>, RegistryError>;

    /// One version by label.
    ///
    /// # Errors
    /// [`RegistryError::UnknownVersion`].
    async fn version(&self, label: &str) -> Result<VersionRow, RegistryError>;

    /// Who serves reads of `name`; `None` before the first activation.
    ///
    /// # Errors
    /// [`RegistryError::Unreachable`].
    async fn active(&self, name: &str) -> Result<Option<ActiveRow>, RegistryError>;

    /// The durable marks of a version, by partition.
    ///
    /// # Errors
    /// [`RegistryError::Unreachable`].
    async fn marks(&self, version: VersionId) -> Result<Vec<MarkRow>, RegistryError>;

    /// Moves a building version to ready when every partition has its leaf and reached the
    /// end of the log once; creates its read-only view. `true` when it is ready (or further) now.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] when the version failed or is retired.
    async fn make_ready(&self, version: VersionId) -> Result<bool, RegistryError>;

    /// Activates the first version of a name. There is nothing to compare it with; the audit says so.
    /// One that is active already is answered again, with who has it now.
    ///
    /// Parked events hold nothing back where nothing serves yet; another gate may be forced.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] when another version is active or this one is not ready;
    /// [`RegistryError::GateRefused`] when a gate holds it back.
    async fn activate_first(
        &self,
        version: VersionId,
        actor: &str,
        forced: Option<&Forced>,
    ) -> Result<Activation, RegistryError>;

    /// Marks a version failed with a reason; not for an active one.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`].
    async fn fail(&self, version: VersionId, reason: &str) -> Result<(), RegistryError>;

    /// Sets a barrier at the switch vector of both versions' durable marks and
    /// records the sums of whichever side already stands there. Replaces an
    /// older barrier that is not complete.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] when the two are not versions of one name and one log.
    async fn set_barrier(
        &self,
        from: VersionId,
        to: VersionId,
    ) -> Result<BarrierRow, RegistryError>;

    /// How far a barrier is.
    ///
    /// # Errors
    /// [`RegistryError::Unreachable`].
    async fn barrier_progress(&self, barrier: i64) -> Result<BarrierProgress, RegistryError>;

    /// Whether every partition of both versions recorded its sums at a barrier: the part of
    /// [`Registry::barrier_progress`] that whoever waits asks many times a second.
    ///
    /// # Errors
    /// Those of [`Registry::barrier_progress`].
    async fn barrier_is_complete(&self, barrier: i64) -> Result<bool, RegistryError> {
        Ok(self.barrier_progress(barrier).await?.is_complete())
    }

    /// Compares the sums that a complete barrier recorded on `columns`.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] while it is not complete.
    async fn compare_at_barrier(
        &self,
        barrier: i64,
        from: &ProjectionSpec,
        to: &ProjectionSpec,
        columns: &[&'static str],
    ) -> Result<BarrierProof, RegistryError>;

    /// Withdraws a barrier, so that no batch is cut at it any more.
    ///
    /// # Errors
    /// [`RegistryError::Unreachable`].
    async fn drop_barrier(&self, barrier: i64) -> Result<(), RegistryError>;

    /// Switches reads to the candidate in one transaction, after re-checking
    /// every gate on durable rows inside it. For a version that is active already, the
    /// promotion that made it so is told again, with who has it now.
    ///
    /// # Errors
    /// [`RegistryError::GateRefused`], [`RegistryError::GenerationChanged`], [`RegistryError::Conflict`].
    async fn promote(
        &self,
        request: &PromoteRequest,
        from: &ProjectionSpec,
        to: &ProjectionSpec,
    ) -> Result<Promotion, RegistryError>;

    /// Retires a version that does not serve: its projectors are refused from now on, no
    /// switch goes to it, and reads forget it. Its tables stay. One that is retired already
    /// is answered with `Ok`, and nothing changes.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] for the active version and for a dropped one.
    async fn retire(
        &self,
        version: VersionId,
        actor: &str,
        reason: &str,
    ) -> Result<(), RegistryError> {
        let request = RetireRequest {
            version,
            abort: false,
            if_generation: None,
            actor: actor.to_owned(),
            reason: reason.to_owned(),
        };
        self.retire_as(&request).await
    }

    /// Retires a version under the conditions of the request. The projectors of a build lose
    /// their sessions, also in the middle of a transaction.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] as [`Registry::retire`], and for what is no build when one is
    /// meant; [`RegistryError::GenerationChanged`].
    async fn retire_as(&self, request: &RetireRequest) -> Result<(), RegistryError>;

    /// Drops the tables of a version that was retired at least `grace` ago, when no
    /// transaction is left that began before. This is the step that cannot be undone: a
    /// rollback to it is a rebuild. One that is dropped already is answered with `Ok`.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] when it is not retired, not for long enough, or may still
    /// be read.
    async fn drop_retired(
        &self,
        version: VersionId,
        grace: Duration,
        actor: &str,
    ) -> Result<(), RegistryError>;

    /// Makes a build one that has not begun, by the code of the request. It fails, and its
    /// projectors lose their sessions; then its tables, marks, gaps and parked events go, its epochs
    /// rise, and what was compared and scanned of it proves nothing any more.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] when it serves, served or has ended, or the code is of another
    /// label: nothing has changed. Also while a transaction is left that began before it failed:
    /// it stays failed, and asking again goes on.
    async fn reset(&self, request: &ResetRequest) -> Result<(), RegistryError>;
}

/// One answer of the read model.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadAnswer {
    /// The version that answered.
    pub version: VersionId,
    /// The generation of the active row in the same snapshot.
    pub generation: i64,
    /// The partition of the key.
    pub partition: Partition,
    /// The row as a JSON object text with its columns, `applied_seq` and
    /// `applied_offset`; `None` when the aggregate does not exist.
    pub row: Option<String>,
}

/// What went wrong with a read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The key is not of the projection's key type.
    #[error("{0}")]
    BadKey(String),
    /// No version of the projection is active.
    #[error("no version of {0} is active yet")]
    NoActiveVersion(String),
    /// The store is away or too slow.
    #[error("the read model cannot be reached: {0}")]
    Unavailable(String),
}

/// An answer with the mark that it stands on.
#[derive(Debug, Clone, PartialEq)]
pub struct MarkedAnswer {
    /// The answer.
    pub answer: ReadAnswer,
    /// The mark, exclusive, of the answering version in the key's partition, in the same
    /// snapshot: the row holds every event of the aggregate below it, and none at or above.
    pub next: Offset,
}

/// Point reads. The active version is resolved inside the read statement.
#[async_trait]
pub trait ReadModel: Send + Sync {
    /// The current row of an aggregate, by the canonical text of its key.
    ///
    /// # Errors
    /// [`ReadError`].
    async fn read(&self, name: &str, key: &str) -> Result<ReadAnswer, ReadError>;

    /// The current row of an aggregate and the mark of its partition, in one snapshot.
    ///
    /// # Errors
    /// [`ReadError`].
    async fn read_marked(&self, name: &str, key: &str) -> Result<MarkedAnswer, ReadError>;

    /// Resolves once the mark of whichever version serves `name` was seen past `offset` in
    /// `partition`. That is a hint: the version may have changed since, so look again. It may
    /// never resolve, and costs nothing more when it is dropped.
    async fn mark_passes(&self, name: &str, partition: Partition, offset: Offset);
}
