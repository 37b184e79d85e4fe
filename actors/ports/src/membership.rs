//! The port to whoever decides which process works on which partition.
//!
//! What a group says is an opinion: it is formed by time-outs, and a process that was paused
//! still holds an old one when it wakes. It decides who *tries*. Who may write is decided by the
//! sink, whose fence refuses every writer but the last that took a partition over; so a wrong or
//! late opinion costs a take-over, and never a row.

use std::collections::BTreeSet;

use async_trait::async_trait;
use refold_domain::position::Partition;

use crate::source::SourceError;

/// A group of processes that share the partitions of a log among them.
pub trait Group: Send + Sync {
    /// Joins it. The group hears that this process lives until the membership is dropped.
    ///
    /// # Errors
    /// [`SourceError::Fatal`] when the client cannot be started; a group that is away is no
    /// error, it assigns nothing yet.
    fn join(&self) -> Result<Box<dyn Membership>, SourceError>;
}

/// A process's place in a group. Dropping it leaves the group, so that the others need not wait
/// for a time-out.
#[async_trait]
pub trait Membership: Send {
    /// Waits until the group gives this process other partitions than it said last (none before
    /// the first answer), and says which: all of them, not the difference.
    ///
    /// # Errors
    /// [`SourceError::Fatal`] when the group cannot be listened to any more.
    async fn changed(&mut self) -> Result<BTreeSet<Partition>, SourceError>;
}
