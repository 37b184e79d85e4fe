//! What a projector is told, what it is given, and how it ends.

use std::sync::Arc;

use ractor::ActorRef;
use refold_domain::position::Partition;

use crate::context::Shared;
use crate::context::Tenure;
use crate::supervisor::SupervisorMsg;

/// Messages to a projector; one per chunk or rarer, never one per event.
pub(crate) enum ProjectorMsg {
    /// Take one turn. Cast by the projector to itself.
    Pull,
    /// Finish what is in a transaction, then end.
    Drain,
    /// The registry shows this epoch for the partition.
    EpochSeen(i64),
}

/// What a projector is started with.
pub(crate) struct ProjectorArgs {
    pub(crate) shared: Shared,
    pub(crate) partition: Partition,
    pub(crate) tenure: Arc<Tenure>,
    pub(crate) supervisor: ActorRef<SupervisorMsg>,
}

/// How a projector ended for good; it is not restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The historical end is durable and nobody asked to go on.
    Finished,
    /// It was told to drain.
    Drained,
    /// It stands in front of something that it cannot apply.
    Halted(String),
    /// Another process owns the partition.
    Fenced(String),
    /// It cannot work here, and a restart would not change that.
    Broken(String),
    /// The operator asked for something that cannot be done.
    Refused(String),
}
