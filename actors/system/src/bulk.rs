//! The thread of one bulk load: it reads a partition's history, folds it, sorts
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

use std::any::Any;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use refold_domain::batch::EventGap;
use refold_domain::fold::BulkFold;
use refold_domain::fold::FoldReport;
use refold_domain::fold::Halt;
use refold_domain::fold::SnapshotRun;
use refold_domain::fold::TupleRun;
use refold_domain::log::Chunk;
use refold_domain::log::RecordFingerprint;
use refold_domain::observe::EventCounts;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::sums::Sums;
use refold_ports::source::ChunkReader;
use refold_ports::source::ReadLimit;
use refold_ports::source::ReadMode;
use refold_ports::source::SourceError;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::context::Shared;
use crate::gate::Room;
use crate::gate::Slot;
use crate::plan;
use crate::plan::Verdict;
use crate::probe::Edge;
use crate::probe::Word;
use crate::thread_cpu;

/// How often the projector hears of the progress of a fold.
const REPORT_EVERY: Duration = Duration::from_millis(20);

/// Longest sleep without looking whether the projector is still there.
const NAP: Duration = Duration::from_millis(20);

/// Pause before a log that is away is asked again.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(200);

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
    pub(crate) slot: Slot,
    pub(crate) shared: Shared,
}

/// The projector's end of a bulk thread. Dropping it ends the thread soon.
pub(crate) struct BulkRun {
    events: mpsc::Receiver<BulkEvent>,
    thread: Option<JoinHandle<()>>,
}

impl BulkRun {
    /// What the thread tells next.
    ///
    /// # Errors
    /// The thread's panic message.
    pub(crate) async fn next(&mut self) -> Result<BulkEvent, String> {
        match self.events.recv().await {
            Some(event) => Ok(event),
            None => Err(format!("the bulk thread panicked: {}", self.last_words())),
        }
    }

    fn last_words(&mut self) -> String {
        // The channel is closed: the thread is in its last instructions.
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => panic_text(panic.as_ref()),
            _ => "no text".to_owned(),
        }
    }
}

/// The text of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no text".to_owned())
}

/// Starts the thread.
pub(crate) fn spawn(task: BulkTask) -> Result<BulkRun, std::io::Error> {
    let (events, received) = mpsc::channel(2);
    let runtime = Handle::current();
    let thread = std::thread::Builder::new()
        .name(format!("bulk-{}", task.partition))
        .spawn(move || BulkThread::new(task, events, runtime).run())?;
    Ok(BulkRun {
        events: received,
        thread: Some(thread),
    })
}

struct BulkThread {
    partition: Partition,
    start: Offset,
    from: Offset,
    until: Offset,
    verify: Option<RecordFingerprint>,
    reader: Box<dyn ChunkReader>,
    slot: Slot,
    shared: Shared,
    events: mpsc::Sender<BulkEvent>,
    runtime: Handle,
    /// `None` while its rows are handed out.
    fold: Option<Box<dyn BulkFold>>,
    /// Whether this is the first fold of the history, which decides where it ends.
    first: bool,
    folded: Folded,
    counted: Progress,
    reported: Instant,
    checkpointed: Instant,
}

/// The projector is gone, or was told that the thread is ending.
struct Over;

impl BulkThread {
    fn new(task: BulkTask, events: mpsc::Sender<BulkEvent>, runtime: Handle) -> Self {
        let now = Instant::now();
        Self {
            folded: Folded {
                next: task.from,
                last_record: None,
                gaps: Vec::new(),
                halt: None,
                at_log_end: false,
                is_checkpoint: false,
                progress: Progress::default(),
            },
            partition: task.partition,
            start: task.start,
            from: task.from,
            until: task.until,
            verify: task.verify,
            reader: task.reader,
            slot: task.slot,
            shared: task.shared,
            events,
            runtime,
            fold: Some(task.fold),
            first: true,
            counted: Progress::default(),
            reported: now,
            checkpointed: now,
        }
    }

    fn run(mut self) {
        // Over says that nobody listens any more: there is nobody to tell.
        let _ = self.all();
    }

    fn all(&mut self) -> Result<(), Over> {
        self.fold_history()?;
        if self.from >= self.until {
            // Nothing to read: the partition is empty up to its end.
            self.folded.at_log_end = true;
        }
        let end = self.folded.next;
        let memory = self.fold()?.memory_bytes();
        self.slot.learn(self.start.lag_to(end), memory);
        self.tell_folded(false)?;
        self.slot.stay();
        let begun = thread_cpu::now();
        let mut run = self.encode()?;
        let mut cpu = thread_cpu::now().saturating_sub(begun);
        loop {
            let (rows, sums) = (run.rows(), run.sums().clone());
            let Some(rest) = run.rest() else {
                return self.send(BulkEvent::Encoded {
                    rows,
                    sums: Box::new(sums),
                    cpu,
                });
            };
            self.fold_rest(rest, end)?;
            let begun = thread_cpu::now();
            run = self.encode()?;
            cpu += thread_cpu::now().saturating_sub(begun);
        }
    }

    fn send(&self, event: BulkEvent) -> Result<(), Over> {
        self.events.blocking_send(event).map_err(|_| Over)
    }

    fn stop<T>(&self, why: BulkStop) -> Result<T, Over> {
        self.send(BulkEvent::Stopped(why))?;
        Err(Over)
    }

    fn fold(&mut self) -> Result<&mut Box<dyn BulkFold>, Over> {
        match self.fold.as_mut() {
            Some(fold) => Ok(fold),
            None => Err(Over),
        }
    }

    fn probe(&self, edge: Edge) -> Result<(), Over> {
        let plugs = &self.shared.plugs;
        if plugs.probe.is_none() {
            return Ok(());
        }
        let passed = plugs.pass(Word::Fold, edge, self.partition);
        match self.runtime.block_on(passed) {
            Ok(()) => Ok(()),
            Err(why) => self.stop(BulkStop::Failed(why)),
        }
    }

    /// Folds up to `until`, to the end of the log, or up to an event that cannot be folded.
    fn fold_history(&mut self) -> Result<(), Over> {
        let mut chunk = Chunk::new(self.partition, self.folded.next);
        while self.folded.next < self.until {
            if !self.read(&mut chunk)? || !self.check_last_record(&chunk)? {
                continue;
            }
            self.probe(Edge::Before)?;
            let (started, until) = (Instant::now(), self.until);
            let fold = self.fold()?;
            let (report, cpu) = thread_cpu::of(|| fold.fold(&chunk, until));
            self.counted.fold += started.elapsed();
            self.counted.fold_cpu += cpu;
            self.probe(Edge::After)?;
            let events = report.index as u64;
            let whole = report.index == chunk.len();
            self.note(report, chunk.bytes() as u64);
            self.keep_inside_memory()?;
            if self.folded.halt.is_some() || !whole {
                break;
            }
            if chunk.end_of_log() {
                self.folded.at_log_end = true;
                break;
            }
            self.report()?;
            self.checkpoint_when_due()?;
            self.wait_for_pace(events)?;
        }
        Ok(())
    }

    /// Folds the history `[start, end)` again, for keys that were given up. What
    /// the first fold decided holds: where the history ends, and that every event
    /// of it can be decoded.
    fn fold_rest(&mut self, rest: Box<dyn BulkFold>, end: Offset) -> Result<(), Over> {
        let source = &self.shared.plugs.source;
        let opened = source.open(self.partition, self.start, ReadMode::Bulk);
        match self.runtime.block_on(opened) {
            Ok(reader) => self.reader = reader,
            Err(error) => return self.stop(BulkStop::Source(error)),
        }
        self.fold = Some(rest);
        self.first = false;
        self.until = end;
        self.folded.next = self.start;
        self.fold_history()?;
        let next = self.folded.next;
        if next != end || self.folded.halt.is_some() {
            return self.stop(BulkStop::Failed(format!(
                "the history ended at {end} when it was folded first, and at {next} now: \
                 another log answers, or its end was lost"
            )));
        }
        let progress = self.take_progress();
        self.send(BulkEvent::Folding(progress))
    }

    /// Looks for the record that the checkpoint ends with; `false` while it is still ahead.
    fn check_last_record(&mut self, chunk: &Chunk) -> Result<bool, Over> {
        let Some(wanted) = self.verify else {
            return Ok(true);
        };
        let complete = self.shared.options.fold.complete_log;
        match plan::verify(chunk, wanted, complete) {
            Verdict::Same => self.verify = None,
            Verdict::NotYet => return Ok(false),
            Verdict::Diverged(why) => return self.stop(BulkStop::Diverged(why)),
        }
        Ok(true)
    }

    /// Reads the next chunk; `false` asks to try again.
    fn read(&mut self, chunk: &mut Chunk) -> Result<bool, Over> {
        let options = &self.shared.options;
        let limit: ReadLimit = options.bulk_read;
        let started = Instant::now();
        let reader = &mut self.reader;
        let (answer, cpu) = thread_cpu::of(|| reader.read(chunk, limit, options.read_wait));
        self.counted.fetch += started.elapsed();
        self.counted.fetch_cpu += cpu;
        match answer {
            Ok(()) if chunk.is_empty() && !chunk.end_of_log() => {
                self.report()?;
                Ok(false)
            }
            Ok(()) => Ok(true),
            Err(error) if error.is_transient() => {
                self.send(BulkEvent::Waiting(error))?;
                self.nap(UNREACHABLE_PAUSE)?;
                Ok(false)
            }
            Err(error) => self.stop(BulkStop::Source(error)),
        }
    }

    fn note(&mut self, report: FoldReport, bytes: u64) {
        let counts = &mut self.counted.counts;
        counts.applied += report.applied;
        counts.duplicates += report.duplicates;
        counts.unhandled += report.unhandled;
        counts.gaps += report.gaps.len() as u64;
        counts.bytes += bytes;
        self.folded.next = report.next.max(self.folded.next);
        self.folded.last_record = report.last_record.or(self.folded.last_record);
        self.folded.gaps.extend(report.gaps);
        self.folded.halt = report.halt;
    }

    /// Gives up half of the keys as often as it takes. A fold that shares the
    /// memory with an older one gives way to it as a whole, unless rows of its
    /// partition are on their way to the database already.
    fn keep_inside_memory(&mut self) -> Result<(), Over> {
        let next = self.folded.next;
        loop {
            let bytes = self.fold()?.memory_bytes();
            match self.slot.hold(bytes) {
                Room::Fits => return Ok(()),
                Room::GiveWay if self.first => return self.stop(BulkStop::GaveWay),
                Room::GiveWay | Room::TooLarge => {}
            }
            if !self.fold()?.give_up_half(next) {
                let folded = next;
                return self.stop(BulkStop::TooLarge { bytes, folded });
            }
            tracing::info!(
                partition = %self.partition, bytes, %next,
                "the table outgrows -memory: half of its keys are folded later"
            );
        }
    }

    fn take_progress(&mut self) -> Progress {
        let memory = self.fold.as_ref().map_or(0, |fold| fold.memory_bytes());
        let progress = Progress {
            folded: self.folded.next,
            memory,
            ..std::mem::take(&mut self.counted)
        };
        self.reported = Instant::now();
        progress
    }

    fn report(&mut self) -> Result<(), Over> {
        if self.reported.elapsed() < REPORT_EVERY {
            return Ok(());
        }
        let progress = self.take_progress();
        self.send(BulkEvent::Folding(progress))
    }

    fn wait_for_pace(&mut self, events: u64) -> Result<(), Over> {
        let wait = self.shared.pace.take(events);
        self.counted.throttled += wait;
        self.nap(wait)
    }

    fn nap(&self, wait: Duration) -> Result<(), Over> {
        let until = Instant::now() + wait;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if self.events.is_closed() {
                return Err(Over);
            }
            std::thread::sleep(left.min(NAP));
        }
        Ok(())
    }

    fn tell_folded(&mut self, is_checkpoint: bool) -> Result<(), Over> {
        let progress = self.take_progress();
        let folded = Folded {
            next: self.folded.next,
            last_record: self.folded.last_record,
            gaps: std::mem::take(&mut self.folded.gaps),
            halt: self.folded.halt.take(),
            at_log_end: self.folded.at_log_end && !is_checkpoint,
            is_checkpoint,
            progress,
        };
        self.send(BulkEvent::Folded(Box::new(folded)))
    }

    /// Sorts the rows and sends them.
    fn encode(&mut self) -> Result<Box<dyn TupleRun>, Over> {
        let frame_bytes = self.shared.options.copy_frame_bytes;
        let fold = self.fold.take().ok_or(Over)?;
        let mut run = fold.into_tuples();
        while let Some(tuples) = run.next_tuples(frame_bytes) {
            self.send(BulkEvent::Frame(Bytes::from(tuples)))?;
        }
        Ok(run)
    }

    /// Sends the rows so far, when the last time is long enough ago and they are all there.
    fn checkpoint_when_due(&mut self) -> Result<(), Over> {
        let every = self.shared.options.checkpoint_every;
        let due = every.is_some_and(|every| self.checkpointed.elapsed() >= every);
        if !due || !self.fold()?.is_whole() || self.folded.next <= self.from {
            return Ok(());
        }
        self.tell_folded(true)?;
        let begun = thread_cpu::now();
        let frame_bytes = self.shared.options.copy_frame_bytes;
        let mut run = SnapshotRun::new(self.shared.plugs.projection.spec());
        while let Some(tuples) = self.fold()?.next_snapshot_tuples(frame_bytes, &mut run) {
            self.send(BulkEvent::Frame(Bytes::from(tuples)))?;
        }
        let cpu = thread_cpu::now().saturating_sub(begun);
        let (rows, sums) = (run.rows, Box::new(run.sums));
        self.send(BulkEvent::Encoded { rows, sums, cpu })?;
        self.checkpointed = Instant::now();
        Ok(())
    }
}
