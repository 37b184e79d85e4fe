//! The bulk path: a partition's whole history in one transaction.
//!
//! Fence, table, frozen copy, primary key, statistics, sums and mark. Until the
//! commit nobody sees any of it; after an abort nothing is left.

use std::fmt;
use std::pin::Pin;

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;
use futures::SinkExt;
use futures::future;
use refold_domain::batch::BulkSeal;
use refold_domain::position::Offset;
use refold_ports::sink::BulkTarget;
use refold_ports::sink::Committed;
use refold_ports::sink::StoreError;
use tokio_postgres::CopyInSink;
use tokio_postgres::types::ToSql;

use crate::apply::Fenced;
use crate::apply::GapArrays;
use crate::error::store_error;
use crate::parked::ParkedArrays;
use crate::session::Session;
use crate::writer::PostgresWriter;

#[cfg(not(feature = "mutation-no-fence"))]
const FENCE_BEGIN: &str = include_str!("sql/fence_begin.sql");
#[cfg(not(feature = "mutation-no-fence"))]
const FENCE_SEAL: &str = include_str!("sql/fence_seal.sql");
const FENCE_CHECKPOINT: &str = include_str!("sql/fence_checkpoint.sql");
#[cfg(feature = "mutation-no-fence")]
const FENCE_SEAL: &str = include_str!("sql/mutation_no_fence.sql");

/// Signature, flags and an empty extension: what a binary copy begins with.
const COPY_HEADER: [u8; 19] = *b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// A field count of -1: what it ends with.
const COPY_TRAILER: [u8; 2] = [0xff, 0xff];

/// Bytes per message. Each waits until the one before went to the socket, so
/// this is also about what a slow server leaves in memory.
const FRAME_BYTES: usize = 256 * 1024;

/// A load in progress.
pub(crate) struct Load {
    to: Offset,
    target: BulkTarget,
    /// The open copy; `None` once it ended.
    copy: Option<Pin<Box<CopyInSink<Bytes>>>>,
    /// Rows in the table once the copy ended.
    rows: u64,
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load")
            .field("to", &self.to)
            .field("target", &self.target)
            .field("copying", &self.copy.is_some())
            .field("rows", &self.rows)
            .finish()
    }
}

impl PostgresWriter {
    /// Takes the fence for `[lease.next, to)` and creates the table.
    pub(crate) async fn begin_load(
        &mut self,
        to: Offset,
        target: BulkTarget,
    ) -> Result<(), StoreError> {
        self.require_leaf(false)?;
        // Rows of the checkpoint that nobody came back for are still on the way.
        self.drain_checkpoint().await?;
        let session = self.session()?;
        session.batch("begin a load", "begin").await?;
        self.take_load_fence(session, to).await?;
        let (create, copy) = match target {
            BulkTarget::Leaf => (self.leaf.create(), self.leaf.copy()),
            BulkTarget::Checkpoint => (self.leaf.create_checkpoint(), self.leaf.copy_checkpoint()),
        };
        session.batch("create the table", &create).await?;
        let copy = session.client().copy_in(&copy);
        let mut copy = Box::pin(session.within("begin the copy", copy).await?);
        let header = Bytes::from_static(&COPY_HEADER);
        session.within("begin the copy", copy.feed(header)).await?;
        self.load = Some(Load {
            to,
            target,
            copy: Some(copy),
            rows: 0,
        });
        Ok(())
    }

    #[cfg(not(feature = "mutation-no-fence"))]
    async fn take_load_fence(&self, session: &Session, to: Offset) -> Result<(), StoreError> {
        let lease = &self.lease;
        let parameters: [&(dyn ToSql + Sync); 5] = [
            &lease.version.0,
            &lease.partition.0,
            &lease.epoch,
            &lease.next.0,
            &to.0,
        ];
        let fenced = session.one("take the fence", FENCE_BEGIN, &parameters);
        fenced.await.map(drop)
    }

    /// The deliberately broken build: anyone may load.
    #[cfg(feature = "mutation-no-fence")]
    async fn take_load_fence(&self, _: &Session, _: Offset) -> Result<(), StoreError> {
        Ok(())
    }

    /// Sends tuples, in frames, and waits while the server is behind.
    pub(crate) async fn copy_tuples(&mut self, mut tuples: Bytes) -> Result<(), StoreError> {
        self.session()?;
        let deadline = self.options.copy_deadline;
        let mut load = self.load.take().ok_or_else(not_begun)?;
        let session = self.session()?;
        let copy = load.copy.as_mut().ok_or_else(copy_ended)?;
        while !tuples.is_empty() {
            let frame = tuples.split_to(tuples.len().min(FRAME_BYTES));
            session
                .within_time("copy rows", deadline, copy.feed(frame))
                .await?;
        }
        self.load = Some(load);
        Ok(())
    }

    /// Ends the copy, whose errors appear only here, and builds the primary key.
    pub(crate) async fn index_load(&mut self, rows: u64) -> Result<(), StoreError> {
        self.session()?;
        let deadline = self.options.index_deadline;
        let load = self.load()?;
        let (target, copy) = (load.target, load.copy.take().ok_or_else(copy_ended)?);
        let session = self.session()?;
        let ended = session
            .within_time("end the copy", self.options.copy_deadline, end_copy(copy))
            .await?;
        if ended != rows {
            return Err(StoreError::Refused(format!(
                "the copy loaded {ended} rows, {rows} were announced"
            )));
        }
        // The table was created by this transaction and nobody can see it: its
        // statements cannot wait for a lock, only for the disk.
        let steps = match target {
            BulkTarget::Leaf => vec![
                ("build the primary key", self.leaf.primary_key()),
                ("collect statistics", self.leaf.analyze()),
            ],
            // Nobody looks for a row of it.
            BulkTarget::Checkpoint => Vec::new(),
        };
        for (what, sql) in steps {
            let answer = session.client().batch_execute(&sql);
            session.within_time(what, deadline, answer).await?;
        }
        self.load()?.rows = rows;
        Ok(())
    }

    /// Moves the mark with the sums and commits.
    pub(crate) async fn seal_load(&mut self, seal: &BulkSeal) -> Result<Committed, StoreError> {
        self.session()?;
        let load = self.load.take().ok_or_else(not_begun)?;
        check_seal(&load, seal)?;
        let session = self.session()?;
        let sums = seal.sums.to_bytes();
        let last_record = seal.last_record.map(|r| r.to_bytes().to_vec());
        let rows = seal.sums.rows().cast_signed();
        let lease = &self.lease;
        let parameters: [&(dyn ToSql + Sync); 9] = [
            &lease.version.0,
            &lease.partition.0,
            &lease.epoch,
            &seal.range.from.0,
            &seal.range.to.0,
            &last_record,
            &sums,
            &rows,
            &seal.at_log_end,
        ];
        let gaps = GapArrays::new(&seal.gaps);
        let parked = ParkedArrays::new(&seal.parked);
        let seal_fence = match load.target {
            BulkTarget::Leaf => FENCE_SEAL,
            BulkTarget::Checkpoint => FENCE_CHECKPOINT,
        };
        if load.target == BulkTarget::Leaf && lease.has_checkpoint {
            session
                .batch("drop the checkpoint", &self.leaf.drop_checkpoint())
                .await?;
        }
        let sent = future::try_join3(
            session.client().query_one(seal_fence, &parameters),
            gaps.insert(session, &self.gaps, (lease.version.0, lease.partition.0)),
            parked.insert(session, (lease.version.0, lease.partition.0)),
        );
        let (row, _, ()) = session.within("seal the load", sent).await?;
        let fenced = Fenced::read(&row).map_err(|e| store_error("seal the load", &e))?;
        self.end_transaction(&fenced.xid).await?;

        self.advance(seal.range.to, &seal.sums, fenced.switch);
        self.lease.has_leaf = load.target == BulkTarget::Leaf;
        self.lease.has_checkpoint = load.target == BulkTarget::Checkpoint;
        self.lease.last_record = seal.last_record.or(self.lease.last_record);
        self.lease.reached_log_end |= seal.at_log_end;
        self.lease.parking.note(&seal.parked);
        Ok(Committed {
            next: seal.range.to,
            switch: fenced.switch,
        })
    }
}

async fn end_copy(mut copy: Pin<Box<CopyInSink<Bytes>>>) -> Result<u64, tokio_postgres::Error> {
    let mut trailer = BytesMut::with_capacity(COPY_TRAILER.len());
    trailer.put_slice(&COPY_TRAILER);
    copy.feed(trailer.freeze()).await?;
    copy.as_mut().finish().await
}

/// A seal must be for the rows that were loaded and the range that was fenced.
fn check_seal(load: &Load, seal: &BulkSeal) -> Result<(), StoreError> {
    let wrong = if load.copy.is_some() {
        "the copy is still open".to_owned()
    } else if seal.range.to != load.to {
        format!(
            "it ends at {}, the load was begun up to {}",
            seal.range.to, load.to
        )
    } else if seal.rows != load.rows {
        format!("it counts {} rows, {} were loaded", seal.rows, load.rows)
    } else {
        return Ok(());
    };
    Err(StoreError::Refused(format!(
        "the seal does not fit: {wrong}"
    )))
}

fn not_begun() -> StoreError {
    StoreError::Refused("no bulk load was begun".to_owned())
}

fn copy_ended() -> StoreError {
    StoreError::Refused("the copy of this load has ended".to_owned())
}
