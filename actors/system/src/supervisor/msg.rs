//! What a supervisor is told, and what it tells.

use std::sync::Arc;

use refold_domain::position::Partition;
use tokio::sync::Notify;
use tokio::sync::watch;

use crate::context::Shared;
use crate::outcome::Failure;
use crate::outcome::Outcome;

/// Messages to the supervisor.
pub(crate) enum SupervisorMsg {
    /// Start a partition's projector, first or again.
    Start(Partition),
    /// The partitions that the group gives to this process, in the order in which those that are
    /// new are started.
    Assigned(Vec<Partition>),
    /// A partition's whole history is in.
    ReachedEnd(Partition),
    /// Epochs as the registry shows them.
    Epochs(Vec<(Partition, i64)>),
    /// The version is not projected any more: failed, retired or dropped.
    NotProjected(String),
    /// Let every projector finish what it has in a transaction, then end.
    Drain,
    /// The bound of the drain has passed.
    DrainExpired,
}

/// What a supervisor is started with.
pub(crate) struct SupervisorArgs {
    pub(crate) shared: Shared,
    /// Partitions in the order in which they are started.
    pub(crate) order: Vec<Partition>,
    pub(crate) status: watch::Sender<Status>,
    /// Whether a group decides which partitions these are, now and later.
    pub(crate) by_group: bool,
    /// Told once when every partition had its whole history in.
    pub(crate) all_reached_end: Arc<Notify>,
}

/// How a projector process is, as one value that can be awaited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Every partition of this process had its whole history in at some commit.
    pub all_reached_end: bool,
    /// The registry says that the version is ready, or further.
    pub ready: bool,
    /// How it ended, once it has.
    pub ended: Option<Result<Outcome, Failure>>,
}
