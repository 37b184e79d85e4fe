//! The store as a writer sees it.

use async_trait::async_trait;
use bytes::Bytes;
use refold_domain::batch::BulkSeal;
use refold_domain::batch::WriteBatch;
use refold_domain::log::RecordFingerprint;
use refold_domain::parking::Parking;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::sums::Sums;
use refold_domain::version::VersionId;

/// What went wrong with a write. The kind decides what the projector does; see
/// [`StoreError::directive`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process took the partition over, or the mark is not where this
    /// writer left it. Nothing of the transaction is in.
    #[error("fenced off: {0}")]
    Fenced(String),
    /// The batch would run past a waiting barrier. Nothing is in; fold again up to `at`.
    #[error("a barrier waits at offset {at}")]
    CutAt {
        /// The switch offset: the batch must end exactly here.
        at: Offset,
    },
    /// The server rolled the transaction back for a reason that passes
    /// (deadlock, serialization, lock time-out). The same batch may be tried again.
    #[error("the transaction was rolled back and can be tried again: {0}")]
    Retry(String),
    /// The connection broke or a deadline passed: the outcome of a commit in
    /// flight is unknown. Only a take-over may answer what is in.
    #[error("the connection to the store is gone: {0}")]
    Disconnected(String),
    /// The store's disk is full. Nothing is in; try again later.
    #[error("the store has no space left: {0}")]
    DiskFull(String),
    /// The store refuses for good (wrong state, wrong code, missing table).
    #[error("{0}")]
    Refused(String),
}

/// What follows from a [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directive {
    /// Stop this actor: somebody else owns the partition.
    Stop,
    /// Cut the batch and fold again.
    Cut(Offset),
    /// Send the same batch again after a short delay.
    Again,
    /// Drop connection and caches and take over afresh.
    TakeOver,
    /// Keep everything, wait, send again.
    BackOff,
    /// Give up; the reason is for the operator.
    Fail,
}

impl StoreError {
    /// The one table from kinds to policy.
    pub fn directive(&self) -> Directive {
        match self {
            Self::Fenced(_) => Directive::Stop,
            Self::CutAt { at } => Directive::Cut(*at),
            Self::Retry(_) => Directive::Again,
            Self::Disconnected(_) => Directive::TakeOver,
            Self::DiskFull(_) => Directive::BackOff,
            Self::Refused(_) => Directive::Fail,
        }
    }
}

/// What a take-over found: the durable truth of one (version, partition).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The version.
    pub version: VersionId,
    /// The partition.
    pub partition: Partition,
    /// This owner's epoch; every older one is fenced off.
    pub epoch: i64,
    /// Where the history began when the partition was first taken over, inclusive.
    pub start: Offset,
    /// The durable mark, exclusive.
    pub next: Offset,
    /// The record that was applied last.
    pub last_record: Option<RecordFingerprint>,
    /// The sums of the rows in the leaf, or in the checkpoint.
    pub sums: Sums,
    /// Whether the leaf table exists. While it does not, only a bulk load may write.
    pub has_leaf: bool,
    /// Whether the rows of the history `[start, next)` are in a checkpoint: a
    /// bulk load goes on from there.
    pub has_checkpoint: bool,
    /// Whether the whole history was in at some commit.
    pub reached_log_end: bool,
    /// The switch offset of a barrier that waits for this partition.
    pub switch: Option<Offset>,
    /// The aggregates whose events were put aside.
    pub parking: Parking,
}

/// The durable answer to a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The mark after the commit, exclusive.
    pub next: Offset,
    /// The switch offset of a barrier that waits above the mark.
    pub switch: Option<Offset>,
}

/// What a bulk load writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkTarget {
    /// The leaf, with its key: the history is in, batches go on from here.
    Leaf,
    /// The rows so far, without a key and invisible to readers, so that a fold
    /// that is ended goes on from here. Replaces the checkpoint before.
    Checkpoint,
}

/// What a take-over asks for.
#[derive(Debug, Clone, Copy)]
pub struct TakeOver<'a> {
    /// The version.
    pub version: VersionId,
    /// What the version's rows are, and by which code.
    pub spec: &'a ProjectionSpec,
    /// The partition.
    pub partition: Partition,
    /// Where a partition that has no mark yet begins, inclusive.
    pub start: Offset,
    /// The highest epoch that can be the asker's own. A higher one shows that somebody else took
    /// the partition over since, and it is left to them. `None` takes it from whoever has it.
    pub own_up_to: Option<i64>,
}

impl<'a> TakeOver<'a> {
    /// Takes the partition from whoever has it.
    pub fn from_anyone(
        version: VersionId,
        spec: &'a ProjectionSpec,
        partition: Partition,
        start: Offset,
    ) -> Self {
        Self {
            version,
            spec,
            partition,
            start,
            own_up_to: None,
        }
    }

    /// Whether a mark that stands at `epoch` belongs to somebody who came behind the asker.
    pub fn loses_to(&self, epoch: i64) -> bool {
        self.own_up_to.is_some_and(|own| epoch > own)
    }

    /// The sentence of a partition that was lost to `epoch`.
    pub fn lost(partition: Partition, label: &str, epoch: i64) -> String {
        format!("{partition} of {label} was taken over by another process (epoch {epoch})")
    }
}

/// A store that partitions can be written to.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Takes a partition of a version over: bumps its epoch, ends the session
    /// of the previous owner where it stands in the way, and returns a writer
    /// that holds the durable truth. The only legal way to resume.
    ///
    /// A row for the partition is created at `start` when there is none.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when the version is not projected or was built by
    /// other code; [`StoreError::Fenced`] when the epoch is above [`TakeOver::own_up_to`], which
    /// is decided together with the change of the epoch and disturbs no session;
    /// [`StoreError::Disconnected`] when the store is away.
    async fn take_over(&self, wanted: TakeOver<'_>)
    -> Result<Box<dyn PartitionWriter>, StoreError>;
}

/// The one writer of a (version, partition) under one epoch.
///
/// # Promise
/// A call that returns `Ok` has made rows, mark, sums and barrier ack durable
/// together. [`StoreError::Disconnected`] means unknown; every other error
/// means that nothing is in.
#[async_trait]
pub trait PartitionWriter: Send {
    /// What the take-over found, advanced by each commit.
    fn lease(&self) -> &Lease;

    /// Fetches rows by key. `keys` holds one key cell (with length prefix) per
    /// entry; the answer holds a `COPY` tuple's cells per row found, in any order.
    ///
    /// # Errors
    /// [`StoreError`], never [`StoreError::Fenced`].
    async fn fetch(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, StoreError>;

    /// Commits a batch.
    ///
    /// # Errors
    /// Any [`StoreError`].
    async fn commit(&mut self, batch: &WriteBatch) -> Result<Committed, StoreError>;

    /// Fetches the next rows of the checkpoint, in no order: the cells of a `COPY`
    /// tuple per row. `None` after the last; the next call begins again.
    ///
    /// # Errors
    /// [`StoreError`], never [`StoreError::Fenced`]; [`StoreError::Refused`] when
    /// there is no checkpoint or a load is in progress.
    async fn checkpoint_rows(&mut self) -> Result<Option<Vec<Vec<u8>>>, StoreError>;

    /// Begins a bulk load: the transaction takes the fence for `[lease.next, to)`
    /// and creates the table. A load of the leaf ends the checkpoint.
    ///
    /// # Errors
    /// Any [`StoreError`].
    async fn begin_bulk(&mut self, to: Offset, target: BulkTarget) -> Result<(), StoreError>;

    /// Sends whole `COPY` tuples. Rows of a leaf that come sorted by key are
    /// written and indexed faster.
    ///
    /// # Errors
    /// Any [`StoreError`]; the load is then rolled back.
    async fn copy(&mut self, tuples: Bytes) -> Result<(), StoreError>;

    /// Ends the copy and, of a leaf, builds the primary key and the statistics.
    ///
    /// # Errors
    /// Any [`StoreError`]; the load is then rolled back.
    async fn index(&mut self, rows: u64) -> Result<(), StoreError>;

    /// Commits the load.
    ///
    /// # Errors
    /// Any [`StoreError`].
    async fn seal(&mut self, seal: &BulkSeal) -> Result<Committed, StoreError>;
}
