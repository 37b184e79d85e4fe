//! The one writer of a partition: which calls are legal when, and what is left
//! after an error.

use std::pin::pin;
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use refold_domain::batch::BulkSeal;
use refold_domain::batch::WriteBatch;
use refold_domain::position::Offset;
use refold_ports::probe::Edge;
use refold_ports::probe::Probed;
use refold_ports::probe::Word;
use refold_ports::sink::BulkTarget;
use refold_ports::sink::Committed;
use refold_ports::sink::Lease;
use refold_ports::sink::PartitionWriter;
use refold_ports::sink::StoreError;
use tokio_postgres::Statement;

use crate::bulk::Load;
use crate::checkpoint::CheckpointRead;
use crate::ddl::Leaf;
use crate::session::Session;
use crate::session::SessionOptions;

/// A writer that holds a partition under one epoch, with a connection of its own.
///
/// After [`StoreError::Retry`], [`StoreError::CutAt`] and [`StoreError::DiskFull`]
/// the transaction is rolled back and the writer goes on. After every other
/// error it is over: the connection is closed, and each further call answers
/// [`StoreError::Disconnected`].
#[derive(Debug)]
pub(crate) struct PostgresWriter {
    pub(crate) options: SessionOptions,
    /// Stops inside its transactions, in tests and chaos runs.
    pub(crate) probed: Probed,
    /// `None` once the writer is over.
    pub(crate) session: Option<Session>,
    pub(crate) leaf: Leaf,
    pub(crate) lease: Lease,
    pub(crate) fence: Statement,
    pub(crate) gaps: Statement,
    /// Prepared when the leaf is first written; it may not exist before.
    pub(crate) upsert: Option<Statement>,
    /// Prepared when the leaf is first read.
    pub(crate) fetch: Option<Statement>,
    /// The bulk load in progress.
    pub(crate) load: Option<Load>,
    /// The read of the checkpoint in progress.
    pub(crate) checkpoint: Option<CheckpointRead>,
}

impl PostgresWriter {
    /// The session, while the writer is alive.
    pub(crate) fn session(&self) -> Result<&Session, StoreError> {
        self.session.as_ref().ok_or_else(|| {
            StoreError::Disconnected(
                "this writer is over, take the partition over again".to_owned(),
            )
        })
    }

    /// Refuses a batch outside of a load, and a load on top of rows.
    pub(crate) fn require_leaf(&self, wanted: bool) -> Result<(), StoreError> {
        let reason = match (self.load.is_some(), self.lease.has_leaf, wanted) {
            (true, ..) => "a bulk load is in progress",
            (false, true, false) => "the table exists, only batches may write it",
            (false, false, true) => "the table does not exist, only a bulk load may write it",
            (false, ..) => return Ok(()),
        };
        Err(StoreError::Refused(format!(
            "{} of version {}: {reason}",
            self.lease.partition, self.lease.version
        )))
    }

    /// The load in progress.
    pub(crate) fn load(&mut self) -> Result<&mut Load, StoreError> {
        self.load
            .as_mut()
            .ok_or_else(|| StoreError::Refused("no bulk load was begun".to_owned()))
    }

    /// Commits the open transaction `xid`, with a stop on either side of the commit's way.
    pub(crate) async fn end_transaction(&self, xid: &str) -> Result<(), StoreError> {
        let session = self.session()?;
        if !self.probed.is_some() {
            return session.commit(xid).await;
        }
        let stop = async |word, edge| {
            let reached = self.probed.reach(word, edge, self.lease.partition).await;
            // Whoever fails here knows as little of the outcome as one whose connection broke.
            reached.map_err(StoreError::Disconnected)
        };
        stop(Word::Send, Edge::Before).await?;
        let mut commit = pin!(session.commit(xid));
        // The first poll hands the commit to the connection.
        let answered = futures::poll!(commit.as_mut());
        stop(Word::Send, Edge::After).await?;
        stop(Word::Answer, Edge::Before).await?;
        match answered {
            Poll::Ready(answer) => answer?,
            Poll::Pending => commit.await?,
        }
        stop(Word::Answer, Edge::After).await
    }

    /// After an error: rolls back where the session can go on, and ends it where it cannot.
    async fn settle<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        let Err(error) = result else { return result };
        // A copy that is dropped before its end fails on the server.
        self.load = None;
        self.checkpoint = None;
        let goes_on = matches!(
            error,
            StoreError::Retry(_) | StoreError::CutAt { .. } | StoreError::DiskFull(_)
        );
        match &self.session {
            Some(session) if goes_on => {
                if let Err(lost) = session.rollback().await {
                    tracing::debug!(%error, "could not roll back");
                    self.session = None;
                    return Err(lost);
                }
            }
            _ => self.session = None,
        }
        Err(error)
    }
}

#[async_trait]
impl PartitionWriter for PostgresWriter {
    fn lease(&self) -> &Lease {
        &self.lease
    }

    async fn fetch(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, StoreError> {
        let result = self.fetch_rows(keys).await;
        self.settle(result).await
    }

    async fn commit(&mut self, batch: &WriteBatch) -> Result<Committed, StoreError> {
        let result = self.apply(batch).await;
        self.settle(result).await
    }

    async fn checkpoint_rows(&mut self) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        let result = self.fetch_checkpoint().await;
        self.settle(result).await
    }

    async fn begin_bulk(&mut self, to: Offset, target: BulkTarget) -> Result<(), StoreError> {
        let result = self.begin_load(to, target).await;
        self.settle(result).await
    }

    async fn copy(&mut self, tuples: Bytes) -> Result<(), StoreError> {
        let result = self.copy_tuples(tuples).await;
        self.settle(result).await
    }

    async fn index(&mut self, rows: u64) -> Result<(), StoreError> {
        let result = self.index_load(rows).await;
        self.settle(result).await
    }

    async fn seal(&mut self, seal: &BulkSeal) -> Result<Committed, StoreError> {
        let result = self.seal_load(seal).await;
        self.settle(result).await
    }
}
