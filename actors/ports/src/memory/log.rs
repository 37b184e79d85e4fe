//! The log in memory: a topic that a test scripts record by record.
//!
//! It can do what real logs do and tests of the core need: holes, transaction
//! markers, open and aborted transactions, a start that moves up, corruption,
//! calls that fail, a topic that vanishes or is re-created under its name.

mod partition;
mod reader;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use async_trait::async_trait;
use refold_domain::log::TopicIdentity;
use refold_domain::log::Watermarks;
use refold_domain::position::Offset;
use refold_domain::position::Partition;

use crate::memory::log::partition::PartitionLog;
use crate::memory::log::reader::MemoryReader;
use crate::source::ChunkReader;
use crate::source::LogSource;
use crate::source::ReadMode;
use crate::source::SourceError;
use crate::source::inside;

pub use crate::memory::log::partition::TransactionId;

/// A record that is to be appended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewRecord {
    /// Key bytes; empty for none.
    pub key: Vec<u8>,
    /// Value bytes; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Milliseconds since the Unix epoch.
    pub ts_millis: i64,
}

impl NewRecord {
    /// A record with a key and a value, at time 0.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self {
            key: key.into(),
            value: Some(value.into()),
            ts_millis: 0,
        }
    }

    /// A record with a key and no value, at time 0.
    pub fn tombstone(key: impl Into<Vec<u8>>) -> Self {
        Self {
            key: key.into(),
            value: None,
            ts_millis: 0,
        }
    }

    /// The same record at another time.
    #[must_use]
    pub fn at(mut self, ts_millis: i64) -> Self {
        self.ts_millis = ts_millis;
        self
    }
}

/// A topic in memory. Clones are handles of the same topic.
///
/// # Panics
/// Every method that takes a partition panics when the topic does not have it:
/// the script is wrong then.
#[derive(Debug, Clone)]
pub struct MemoryLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    topic: String,
    state: Mutex<State>,
    /// Told about every change, for readers that wait.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    identity: TopicIdentity,
    /// `None` while the topic does not exist.
    partitions: Option<Vec<PartitionLog>>,
    failing_calls: VecDeque<SourceError>,
    creations: u64,
}

impl State {
    fn partitions(&self) -> Result<&[PartitionLog], SourceError> {
        match &self.partitions {
            Some(partitions) => Ok(partitions),
            None => Err(SourceError::TopicMissing(self.identity.topic.clone())),
        }
    }

    fn partition(&self, partition: Partition) -> Result<&PartitionLog, SourceError> {
        let partitions = self.partitions()?;
        usize::try_from(partition.0)
            .ok()
            .and_then(|index| partitions.get(index))
            .ok_or_else(|| {
                SourceError::Fatal(format!(
                    "topic {} has no partition {partition}: it has {}, counted from 0",
                    self.identity.topic,
                    partitions.len()
                ))
            })
    }

    fn next_failure(&mut self, partition: Partition) -> Option<SourceError> {
        let index = usize::try_from(partition.0).ok()?;
        let log = self.partitions.as_mut()?.get_mut(index)?;
        log.next_failure()
    }

    fn create(&mut self, partitions: i32) {
        self.creations += 1;
        self.identity.topic_id = Some(format!("memory-topic-{}", self.creations));
        self.identity.partitions = partitions;
        self.partitions = Some((0..partitions).map(|_| PartitionLog::default()).collect());
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A script that panics half-way must not hide its message behind a
        // second panic in a reader.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryLog {
    /// An empty topic.
    pub fn new(topic: impl Into<String>, partitions: i32) -> Self {
        let log = Self::missing(topic);
        log.shared.lock().create(partitions);
        log
    }

    /// A topic that does not exist (yet); see [`MemoryLog::recreate`].
    pub fn missing(topic: impl Into<String>) -> Self {
        let topic = topic.into();
        let identity = TopicIdentity {
            cluster_id: "memory-cluster".to_owned(),
            topic: topic.clone(),
            topic_id: None,
            partitions: 0,
        };
        Self {
            shared: Arc::new(Shared {
                topic,
                state: Mutex::new(State {
                    identity,
                    partitions: None,
                    failing_calls: VecDeque::new(),
                    creations: 0,
                }),
                changed: Condvar::new(),
            }),
        }
    }

    fn change<T>(&self, partition: Partition, change: impl FnOnce(&mut PartitionLog) -> T) -> T {
        let answer = {
            let mut state = self.shared.lock();
            let topic = &self.shared.topic;
            let log = state
                .partitions
                .as_mut()
                .and_then(|logs| logs.get_mut(usize::try_from(partition.0).ok()?))
                .unwrap_or_else(|| panic!("topic {topic} has no {partition}"));
            change(log)
        };
        self.shared.changed.notify_all();
        answer
    }

    /// Appends a record and answers where it stands.
    pub fn append(&self, partition: Partition, record: NewRecord) -> Offset {
        self.change(partition, |log| log.append(record, None))
    }

    /// Appends `count` offsets without a record, as compaction leaves them.
    pub fn append_hole(&self, partition: Partition, count: u64) {
        self.change(partition, |log| log.append_hole(count));
    }

    /// Appends a transaction marker: one offset that is never delivered.
    pub fn append_marker(&self, partition: Partition) {
        self.append_hole(partition, 1);
    }

    /// Takes the record at `offset` away, as compaction does.
    pub fn compact_away(&self, partition: Partition, offset: Offset) {
        self.change(partition, |log| log.compact_away(offset));
    }

    /// Begins a transaction; see [`MemoryLog::append_in`].
    pub fn begin(&self, partition: Partition) -> TransactionId {
        self.change(partition, PartitionLog::begin)
    }

    /// Appends a record of a transaction. Nothing from the first record of an
    /// open transaction on is delivered.
    pub fn append_in(
        &self,
        partition: Partition,
        transaction: TransactionId,
        record: NewRecord,
    ) -> Offset {
        self.change(partition, |log| log.append(record, Some(transaction)))
    }

    /// Ends a transaction with a marker; the records of an aborted one are gone.
    pub fn end(&self, partition: Partition, transaction: TransactionId, committed: bool) {
        self.change(partition, |log| log.end(transaction, committed));
    }

    /// Moves the start of the log up to `low`: what lies below is gone.
    pub fn delete_below(&self, partition: Partition, low: Offset) {
        self.change(partition, |log| log.delete_below(low));
    }

    /// Cuts the end of the log off at `high`, as an unclean leader election does.
    pub fn lose_from(&self, partition: Partition, high: Offset) {
        self.change(partition, |log| log.lose_from(high));
    }

    /// Makes the record at `offset` unreadable.
    pub fn corrupt(&self, partition: Partition, offset: Offset, reason: impl Into<String>) {
        self.change(partition, |log| log.corrupt(offset, reason.into()));
    }

    /// Lets the next `times` reads of a partition fail.
    pub fn fail_reads(&self, partition: Partition, times: usize, error: &SourceError) {
        self.change(partition, |log| log.fail_reads(times, error));
    }

    /// Lets the next `times` calls of identity, watermarks and open fail.
    pub fn fail_calls(&self, times: usize, error: &SourceError) {
        let errors = std::iter::repeat_n(error.clone(), times);
        self.shared.lock().failing_calls.extend(errors);
    }

    /// Deletes the topic.
    pub fn remove(&self) {
        self.shared.lock().partitions = None;
        self.shared.changed.notify_all();
    }

    /// Deletes the topic and creates it again, empty, under a new topic id.
    pub fn recreate(&self, partitions: i32) {
        self.shared.lock().create(partitions);
        self.shared.changed.notify_all();
    }

    /// Adds empty partitions.
    pub fn add_partitions(&self, count: i32) {
        {
            let mut state = self.shared.lock();
            state.identity.partitions += count;
            let new = (0..count).map(|_| PartitionLog::default());
            state.partitions.get_or_insert_default().extend(new);
        }
        self.shared.changed.notify_all();
    }

    /// A reader that stands at `from`, wherever the log begins and ends.
    pub fn reader(&self, partition: Partition, from: Offset) -> Box<dyn ChunkReader> {
        let shared = Arc::clone(&self.shared);
        Box::new(MemoryReader::new(shared, partition, from))
    }

    /// Lets another cluster answer at the same address.
    pub fn move_to_cluster(&self, cluster_id: impl Into<String>) {
        self.shared.lock().identity.cluster_id = cluster_id.into();
    }

    fn ask<T>(
        &self,
        question: impl FnOnce(&State) -> Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        let mut state = self.shared.lock();
        match state.failing_calls.pop_front() {
            Some(error) => Err(error),
            None => question(&state),
        }
    }
}

#[async_trait]
impl LogSource for MemoryLog {
    async fn identity(&self) -> Result<TopicIdentity, SourceError> {
        self.ask(|state| state.partitions().map(|_| state.identity.clone()))
    }

    async fn watermarks(&self, partition: Partition) -> Result<Watermarks, SourceError> {
        self.ask(|state| Ok(state.partition(partition)?.watermarks()))
    }

    async fn open(
        &self,
        partition: Partition,
        from: Offset,
        _mode: ReadMode,
    ) -> Result<Box<dyn ChunkReader>, SourceError> {
        self.ask(|state| inside(state.partition(partition)?.watermarks(), partition, from))?;
        Ok(self.reader(partition, from))
    }
}
