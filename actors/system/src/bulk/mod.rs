//! The thread of one bulk load (a task, where [`Labour`] says so): it reads a partition's history, folds it, sorts
//! the rows and encodes them.
//!
//! ```text
//! bulk thread: read -> fold -> read -> fold ... -> Folded -> sort -> Frame, Frame ... -> Encoded
//!                       |                                       |
//!                       | every -checkpoint seconds             | keys that did not fit: read and
//!                       `-> Folded (so far) -> Frame ...        | fold the same history again
//!                           -> Encoded, and on                  `-> Frame, Frame ... -> Encoded
//! ```
//! Everything goes to the projector through one bounded channel: a projector
//! that does not ask for more holds the thread still, one that is gone ends it.

mod thread;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use refold_domain::batch::EventGap;
use refold_domain::fold::BulkFold;
use refold_domain::fold::Halt;
use refold_domain::log::RecordFingerprint;
use refold_domain::observe::EventCounts;
use refold_domain::parking::ParkedEvent;
use refold_domain::parking::Parking;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::sums::Sums;
use refold_ports::source::ChunkReader;
use refold_ports::source::SourceError;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::context::Shared;
use crate::gate::Slot;
#[cfg(doc)]
use crate::labour::Labour;
use crate::labour::panic_text;
use thread::BulkThread;

/// What a bulk thread tells.
pub(crate) enum BulkEvent {
    /// How far folding is.
    Folding(Progress),
    /// History is folded, all of it or up to a checkpoint; frames follow.
    Folded(Box<Folded>),
    /// Whole tuples.
    Frame(Bytes),
    /// All frames were sent.
    Encoded {
        /// Rows, tombstones included.
        rows: u64,
        /// The sums of the rows.
        sums: Box<Sums>,
        /// Events below the mark that were put aside.
        parked: Vec<ParkedEvent>,
        /// CPU time of sorting and encoding them.
        cpu: Duration,
    },
    /// The log does not answer; the thread goes on asking.
    Waiting(SourceError),
    /// The thread ended without a result.
    Stopped(BulkStop),
}

/// Why a bulk thread ended.
#[derive(Debug)]
pub(crate) enum BulkStop {
    /// The log failed for good.
    Source(SourceError),
    /// The memory is needed by an older fold: start again later.
    GaveWay,
    /// The partition does not fit the memory.
    TooLarge {
        /// Bytes that it holds.
        bytes: usize,
        /// How far it got, exclusive.
        folded: Offset,
    },
    /// Another record stands where the last one of the checkpoint stood: one
    /// sentence for the operator.
    Diverged(String),
    /// A probe failed, or the history is not the one that was read before.
    Failed(String),
}

/// Counters and times since the report before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// How far folding got, exclusive.
    pub(crate) folded: Offset,
    /// Events and bytes.
    pub(crate) counts: EventCounts,
    /// Bytes that the table holds.
    pub(crate) memory: usize,
    /// Time in reads.
    pub(crate) fetch: Duration,
    /// Time in the fold.
    pub(crate) fold: Duration,
    /// CPU time of this thread in reads; what the log's client spends is not in it.
    pub(crate) fetch_cpu: Duration,
    /// CPU time in the fold.
    pub(crate) fold_cpu: Duration,
    /// Time spent waiting for the rate limit.
    pub(crate) throttled: Duration,
}

/// A history that was folded.
#[derive(Debug)]
pub(crate) struct Folded {
    /// The mark behind it, exclusive.
    pub(crate) next: Offset,
    /// The record that was folded last.
    pub(crate) last_record: Option<RecordFingerprint>,
    /// Gaps in it.
    pub(crate) gaps: Vec<EventGap>,
    /// The event that it stopped in front of, if any.
    pub(crate) halt: Option<Halt>,
    /// Whether the log ended there when it was read.
    pub(crate) at_log_end: bool,
    /// Whether this is a checkpoint: more of the history follows.
    pub(crate) is_checkpoint: bool,
    /// The last progress.
    pub(crate) progress: Progress,
}

/// What a bulk thread is given.
pub(crate) struct BulkTask {
    pub(crate) partition: Partition,
    /// Where the history begins, inclusive: what keys that do not fit are folded from.
    pub(crate) start: Offset,
    /// The mark, inclusive: below it everything is in the fold already.
    pub(crate) from: Offset,
    /// The end of history, exclusive.
    pub(crate) until: Offset,
    /// The record in front of the mark that must be met before anything is
    /// folded; the reader stands at it.
    pub(crate) verify: Option<RecordFingerprint>,
    pub(crate) reader: Box<dyn ChunkReader>,
    pub(crate) fold: Box<dyn BulkFold>,
    /// The aggregates whose events are put aside; `None` when such an event is an end.
    pub(crate) parking: Option<Parking>,
    pub(crate) slot: Slot,
    pub(crate) shared: Shared,
}

/// The projector's end of a bulk thread. Dropping it ends the thread soon.
pub(crate) struct BulkRun {
    events: mpsc::Receiver<BulkEvent>,
    /// The text of its panic, if that is how it ended.
    last_words: oneshot::Receiver<String>,
}

impl BulkRun {
    /// What the thread tells next.
    ///
    /// # Errors
    /// The thread's panic message.
    pub(crate) async fn next(&mut self) -> Result<BulkEvent, String> {
        match self.events.recv().await {
            Some(event) => Ok(event),
            // The channel is closed: the thread is in its last instructions.
            None => {
                let words = (&mut self.last_words).await;
                let words = words.unwrap_or_else(|_| "no text".to_owned());
                Err(format!("the bulk thread panicked: {words}"))
            }
        }
    }
}

/// Starts the thread.
pub(crate) fn spawn(task: BulkTask) -> Result<BulkRun, std::io::Error> {
    let (events, received) = mpsc::channel(2);
    let (say, last_words) = oneshot::channel();
    let labour = Arc::clone(&task.shared.plugs.labour);
    let name = format!("bulk-{}", task.partition);
    let thread = BulkThread::new(task, events);
    let work = async move {
        if let Err(panic) = AssertUnwindSafe(thread.run()).catch_unwind().await {
            // A projector that is gone asks for no reason.
            let _ = say.send(panic_text(panic.as_ref()));
        }
    };
    labour.start(name, Box::pin(work))?;
    Ok(BulkRun {
        events: received,
        last_words,
    })
}
