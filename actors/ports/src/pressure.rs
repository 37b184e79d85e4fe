//! The port to what a rebuild may do harm to: the database's write-ahead log and its standbys, and
//! the reads of the version that serves.

use std::time::Duration;

use async_trait::async_trait;
use refold_domain::duty::ReadLatency;
use refold_domain::throttle::Readings;

use crate::registry::RegistryError;
use crate::sink::StoreError;

/// Somebody who looks at what bears on the database.
///
/// # Promise
/// A look changes nothing, holds no transaction or lock open, and answers or fails within a few
/// seconds, whatever the database does. Each of its figures is at least as young as the call.
#[async_trait]
pub trait Pressure: Send + Sync {
    /// Looks.
    ///
    /// # Errors
    /// Any [`StoreError`]; nothing is known of the moment then. That the role may not look at
    /// something is no error: it is [`Hidden`](refold_domain::throttle::Reading::Hidden).
    async fn look(&self) -> Result<Readings, StoreError>;

    /// What the reads took, as those who answer them told it since the last call: the api where
    /// they took longest counts.
    ///
    /// # Errors
    /// Any [`StoreError`]; nothing is known of the moment then.
    async fn reads(&self) -> Result<ReadLatency, StoreError>;
}

/// What the reads of one api took in a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadTimes {
    /// Reads that ended in it, refused ones included.
    pub reads: u64,
    /// 99 of 100 took no longer.
    pub p99: Duration,
}

/// Where an api tells what its reads take, for those who can spare them something.
///
/// # Promise
/// What is told is seen by [`Pressure::reads`] until an api is silent for [`SILENT_AFTER`]. It is
/// news and no history: it may be lost when the database ends, and nothing waits for it to be durable.
#[async_trait]
pub trait ReadReport: Send + Sync {
    /// Tells the times of the api that calls itself `api`, in place of what it told before.
    ///
    /// # Errors
    /// [`RegistryError::Unreachable`]; what was told before may stand.
    async fn tell(&self, api: &str, times: ReadTimes) -> Result<(), RegistryError>;
}

/// An api that told nothing for so long has no reads, or is gone.
pub const SILENT_AFTER: Duration = Duration::from_secs(5);
