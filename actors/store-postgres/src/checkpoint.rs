//! Reading a checkpoint back into a fold that goes on from it.

use std::fmt;
use std::pin::Pin;

use futures::TryStreamExt;
use refold_ports::sink::StoreError;
use tokio_postgres::CopyOutStream;

use crate::copy_stream::Tuples;
use crate::writer::PostgresWriter;

/// Rows that are handed over at once: enough to be worth a thread's turn.
const ROWS: usize = 10_000;

/// A read in progress.
pub(crate) struct CheckpointRead {
    stream: Pin<Box<CopyOutStream>>,
    tuples: Tuples,
    /// Whether the last row was handed over, and only its end has to be told.
    ended: bool,
}

impl fmt::Debug for CheckpointRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointRead").finish_non_exhaustive()
    }
}

impl PostgresWriter {
    /// Ends a read in progress: the connection is free when its last row came.
    pub(crate) async fn drain_checkpoint(&mut self) -> Result<(), StoreError> {
        while self.checkpoint.is_some() {
            self.fetch_checkpoint().await?;
        }
        Ok(())
    }

    /// The next rows of the checkpoint; begins the read when none is in progress.
    pub(crate) async fn fetch_checkpoint(&mut self) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        const WHAT: &str = "read the checkpoint";
        self.require_leaf(false)?;
        if !self.lease.has_checkpoint {
            return Err(StoreError::Refused(format!(
                "{} of version {} has no checkpoint",
                self.lease.partition, self.lease.version
            )));
        }
        let mut read = match self.checkpoint.take() {
            Some(read) => read,
            None => {
                let (session, sql) = (self.session()?, self.leaf.read_checkpoint());
                let stream = session.client().copy_out(&sql);
                let stream = session
                    .within_time(WHAT, self.options.copy_deadline, stream)
                    .await?;
                CheckpointRead {
                    stream: Box::pin(stream),
                    tuples: Tuples::default(),
                    ended: false,
                }
            }
        };
        let (session, fields) = (self.session()?, self.leaf.fields());
        let broken = |e: String| StoreError::Refused(format!("{WHAT}: {e}"));
        let mut rows = Vec::new();
        while rows.len() < ROWS && !read.ended {
            let next = read.stream.try_next();
            let next = session.within_time(WHAT, self.options.copy_deadline, next);
            let Some(piece) = next.await? else {
                read.ended = true;
                break;
            };
            let each = read.tuples.each(&piece, fields, |cells| {
                rows.push(cells.to_vec());
                Ok(())
            });
            each.map_err(broken)?;
        }
        if rows.is_empty() {
            // The next call begins again.
            return Ok(None);
        }
        self.checkpoint = Some(read);
        Ok(Some(rows))
    }
}
