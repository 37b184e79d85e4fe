//! A hook for metrics that are recorded per transaction.

use std::time::Duration;

use crate::options::Mode;

/// A transaction that became durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommittedBatch<'a> {
    /// The version's label.
    pub version: &'a str,
    /// Why the process projects.
    pub mode: Mode,
    /// Events in it.
    pub events: u64,
    /// Rows written by it.
    pub rows: u64,
    /// From its begin to the answer of its commit.
    pub took: Duration,
}

/// Told of every transaction that became durable: a batch, or a whole bulk load.
pub trait BatchObserver: Send + Sync {
    /// Called on an async thread: it must not block.
    fn committed(&self, batch: &CommittedBatch<'_>);
}
