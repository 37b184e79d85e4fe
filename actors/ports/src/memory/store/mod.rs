//! A store in memory with the semantics of the one on Postgres: fence, epochs,
//! barriers, the state machine of versions and reads, one lock around it all.
//!
//! Commits can be made to fail at a chosen point, so that the actor system and
//! the conformance suite meet lost answers without a server.

mod barrier;
mod omission;
mod pair;
mod promote;
mod read;
mod registry;
mod render;
mod reset;
mod seen;
mod state;
mod writer;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use async_trait::async_trait;
use refold_domain::duty::ReadLatency;
use refold_domain::position::Partition;
use refold_domain::throttle::Readings;
use refold_domain::version::VersionId;

use crate::pressure::Pressure;
use crate::pressure::ReadReport;
use crate::pressure::ReadTimes;
use crate::registry::RegistryError;
use crate::sink::PartitionWriter;
use crate::sink::Sink;
use crate::sink::StoreError;
use crate::sink::TakeOver;

use state::State;
use writer::MemoryWriter;

pub use omission::Omission;
pub use seen::SeenPlace;

/// What happens to a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitFault {
    /// The connection breaks before the commit arrives: nothing is in, and the writer cannot know.
    LostBefore,
    /// The connection breaks after the commit: everything is in, and the writer cannot know.
    LostAfter,
    /// The server rolls back for a reason that passes.
    Retry,
    /// The disk is full.
    DiskFull,
}

/// The store. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the `nth` commit from now (1 is the next one, bulk or batch) meet `fault`.
    pub fn fail_commit(&self, nth: u64, fault: CommitFault) {
        let mut state = self.lock();
        let at = state.commits + nth;
        state.faults.insert(at, fault);
    }

    /// Takes the store away, or gives it back. While it is away, every call fails as
    /// if no server answered.
    pub fn set_reachable(&self, reachable: bool) {
        self.lock().away = !reachable;
    }

    /// Sets what every look at the store finds from now on.
    pub fn set_pressure(&self, readings: Readings) {
        self.lock().pressure = readings;
    }

    /// Sets what every look at the reads finds from now on.
    pub fn set_read_latency(&self, reads: ReadLatency) {
        self.lock().read_latency = reads;
    }

    /// What was told of the reads last.
    pub fn read_latency(&self) -> ReadLatency {
        self.lock().read_latency
    }

    /// Looks so far, answered or not.
    pub fn looks(&self) -> u64 {
        self.lock().looks
    }

    /// Commits that were asked for so far, failed ones included.
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// The cells of all rows of a leaf, tombstones included, by key cell.
    pub fn rows(&self, version: VersionId, partition: Partition) -> Vec<Vec<u8>> {
        let state = self.lock();
        let mark = state.marks.get(&(version, partition));
        mark.map_or_else(Vec::new, |m| {
            m.leaf.values().map(|r| r.cells.clone()).collect()
        })
    }

    /// Changes one column of a row behind everybody's back, as a bad hand on the database
    /// would: the twelfth byte behind the key, the last one of a first column that is a `bigint`.
    pub fn corrupt(&self, version: VersionId, partition: Partition, key: &[u8]) {
        let mut state = self.lock();
        let mark = state.marks.get_mut(&(version, partition));
        let row = mark.and_then(|mark| mark.leaf.get_mut(key));
        if let Some(last) = row.and_then(|row| row.cells.get_mut(key.len() + 11)) {
            *last ^= 1;
        }
    }

    /// What happened to versions, in order, one sentence each.
    pub fn audit(&self) -> Vec<String> {
        self.lock().audit.clone()
    }

    /// The state. A panic of another thread leaves it whole: every change is
    /// made after the last check that can fail.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Sink for MemoryStore {
    async fn take_over(
        &self,
        wanted: TakeOver<'_>,
    ) -> Result<Box<dyn PartitionWriter>, StoreError> {
        let lease = self.lock().take_over(wanted)?;
        Ok(Box::new(MemoryWriter::new(self.clone(), lease)))
    }
}

#[async_trait]
impl Pressure for MemoryStore {
    async fn look(&self) -> Result<Readings, StoreError> {
        let mut state = self.lock();
        state.looks += 1;
        state.reach()?;
        Ok(state.pressure)
    }

    async fn reads(&self) -> Result<ReadLatency, StoreError> {
        let mut state = self.lock();
        state.looks += 1;
        state.reach()?;
        Ok(state.read_latency)
    }
}

#[async_trait]
impl ReadReport for MemoryStore {
    async fn tell(&self, _api: &str, times: ReadTimes) -> Result<(), RegistryError> {
        let mut state = self.reached()?;
        state.read_latency = ReadLatency::P99(times.p99);
        Ok(())
    }
}
