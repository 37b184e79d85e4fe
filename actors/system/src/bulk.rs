//! The thread of one bulk load: it reads a partition's history, folds it, sorts
//! the rows and encodes them.
//!
//! ```text
//! bulk thread: read -> fold -> read -> fold ... -> Folded -> sort -> Frame, Frame ... -> Encoded
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
use refold_domain::log::Chunk;
use refold_domain::log::RecordFingerprint;
use refold_domain::observe::EventCounts;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::sums::Sums;
use refold_ports::source::ChunkReader;
use refold_ports::source::ReadLimit;
use refold_ports::source::SourceError;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::context::Shared;
use crate::gate::Room;
use crate::gate::Slot;
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
    /// All of the history is folded; frames follow.
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
    /// A probe failed.
    Probe(String),
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
    /// The last progress.
    pub(crate) progress: Progress,
}

/// What a bulk thread is given.
pub(crate) struct BulkTask {
    pub(crate) partition: Partition,
    /// The mark, inclusive.
    pub(crate) from: Offset,
    /// The end of history, exclusive.
    pub(crate) until: Offset,
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
        .spawn(move || {
            let thread = BulkThread {
                events,
                runtime,
                counted: Progress::default(),
                reported: Instant::now(),
                folded: Folded {
                    next: task.from,
                    last_record: None,
                    gaps: Vec::new(),
                    halt: None,
                    at_log_end: false,
                    progress: Progress::default(),
                },
                task,
            };
            thread.run();
        })?;
    Ok(BulkRun {
        events: received,
        thread: Some(thread),
    })
}

struct BulkThread {
    task: BulkTask,
    events: mpsc::Sender<BulkEvent>,
    runtime: Handle,
    folded: Folded,
    counted: Progress,
    reported: Instant,
}

/// The projector is gone, or was told that the thread is ending.
struct Over;

impl BulkThread {
    fn run(mut self) {
        // Over says that nobody listens any more: there is nobody to tell.
        let _ = self.fold_history().and_then(|()| self.encode());
    }

    fn send(&self, event: BulkEvent) -> Result<(), Over> {
        self.events.blocking_send(event).map_err(|_| Over)
    }

    fn stop(&self, why: BulkStop) -> Result<(), Over> {
        self.send(BulkEvent::Stopped(why))?;
        Err(Over)
    }

    fn probe(&self, edge: Edge) -> Result<(), Over> {
        let plugs = &self.task.shared.plugs;
        if plugs.probe.is_none() {
            return Ok(());
        }
        let passed = plugs.pass(Word::Fold, edge, self.task.partition);
        match self.runtime.block_on(passed) {
            Ok(()) => Ok(()),
            Err(why) => self.stop(BulkStop::Probe(why)),
        }
    }

    fn fold_history(&mut self) -> Result<(), Over> {
        let mut chunk = Chunk::new(self.task.partition, self.task.from);
        while self.folded.next < self.task.until {
            if !self.read(&mut chunk)? {
                continue;
            }
            self.probe(Edge::Before)?;
            let started = Instant::now();
            let fold = &mut self.task.fold;
            let (report, cpu) = thread_cpu::of(|| fold.fold(&chunk, self.task.until));
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
            self.wait_for_pace(events)?;
        }
        if self.task.from >= self.task.until {
            // Nothing to read: the partition is empty up to its end.
            self.folded.at_log_end = true;
        }
        self.finish_fold()
    }

    /// Reads the next chunk; `false` asks to try again.
    fn read(&mut self, chunk: &mut Chunk) -> Result<bool, Over> {
        let options = &self.task.shared.options;
        let limit: ReadLimit = options.bulk_read;
        let started = Instant::now();
        let reader = &mut self.task.reader;
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
            Err(error) => self.stop(BulkStop::Source(error)).map(|()| false),
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

    fn keep_inside_memory(&self) -> Result<(), Over> {
        let bytes = self.task.fold.memory_bytes();
        match self.task.slot.hold(bytes) {
            Room::Fits => Ok(()),
            Room::GiveWay => self.stop(BulkStop::GaveWay),
            Room::TooLarge => self.stop(BulkStop::TooLarge {
                bytes,
                folded: self.folded.next,
            }),
        }
    }

    fn take_progress(&mut self) -> Progress {
        let progress = Progress {
            folded: self.folded.next,
            memory: self.task.fold.memory_bytes(),
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
        let wait = self.task.shared.pace.take(events);
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

    fn finish_fold(&mut self) -> Result<(), Over> {
        let events = self.task.from.lag_to(self.folded.next);
        let memory = self.task.fold.memory_bytes();
        self.task.slot.learn(events, memory);
        let progress = self.take_progress();
        let folded = Folded {
            progress,
            gaps: std::mem::take(&mut self.folded.gaps),
            halt: self.folded.halt.take(),
            ..self.folded
        };
        self.send(BulkEvent::Folded(Box::new(folded)))
    }

    fn encode(self) -> Result<(), Over> {
        let Self { task, events, .. } = self;
        let frame_bytes = task.shared.options.copy_frame_bytes;
        let begun = thread_cpu::now();
        // The slot is held until the last tuple is out: the table is still there.
        let _slot = task.slot;
        let mut run = task.fold.into_tuples();
        while let Some(tuples) = run.next_tuples(frame_bytes) {
            let frame = BulkEvent::Frame(Bytes::from(tuples));
            events.blocking_send(frame).map_err(|_| Over)?;
        }
        let encoded = BulkEvent::Encoded {
            rows: run.rows(),
            sums: Box::new(run.sums().clone()),
            cpu: thread_cpu::now().saturating_sub(begun),
        };
        events.blocking_send(encoded).map_err(|_| Over)
    }
}
