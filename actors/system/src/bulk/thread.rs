//! What the thread does: read, fold, hand out, and read again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use refold_domain::fold::BulkFold;
use refold_domain::fold::FoldReport;
use refold_domain::fold::SnapshotRun;
use refold_domain::fold::TupleRun;
use refold_domain::log::Chunk;
use refold_domain::log::RecordFingerprint;
use refold_domain::parking::ParkedEvent;
use refold_domain::parking::Parking;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::source::ChunkReader;
use refold_ports::source::ReadLimit;
use refold_ports::source::ReadMode;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::BulkEvent;
use super::BulkStop;
use super::BulkTask;
use super::Folded;
use super::Progress;
use crate::context::Shared;
use crate::gate::Room;
use crate::gate::Slot;
use crate::plan;
use crate::plan::CheckpointPace;
use crate::plan::Verdict;
use crate::thread_cpu;
use refold_ports::probe::Edge;
use refold_ports::probe::Word;

/// How often the projector hears of the progress of a fold.
const REPORT_EVERY: Duration = Duration::from_millis(20);

/// Longest sleep without looking whether the projector is still there.
const NAP: Duration = Duration::from_millis(20);

/// Pause before a log that is away is asked again.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(200);

pub(super) struct BulkThread {
    partition: Partition,
    start: Offset,
    from: Offset,
    until: Offset,
    verify: Option<RecordFingerprint>,
    reader: Box<dyn ChunkReader>,
    slot: Slot,
    shared: Shared,
    events: mpsc::Sender<BulkEvent>,
    /// `None` while its rows are handed out.
    fold: Option<Box<dyn BulkFold>>,
    /// Whether this is the first fold of the history, which decides where it ends.
    first: bool,
    /// The aggregates whose events are put aside; `None` when such an event is an end.
    parking: Option<Parking>,
    /// What was put aside and not handed out.
    parked: BTreeMap<Offset, ParkedEvent>,
    folded: Folded,
    counted: Progress,
    reported: Instant,
    /// When the fold began.
    began: Instant,
    /// When the last checkpoint was handed out, or when the fold began.
    checkpointed: Instant,
    /// How long the last checkpoint took.
    checkpoint_took: Option<Duration>,
}

/// The projector is gone, or was told that the thread is ending.
struct Over;

impl BulkThread {
    pub(super) fn new(task: BulkTask, events: mpsc::Sender<BulkEvent>) -> Self {
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
            fold: Some(task.fold),
            first: true,
            parking: task.parking,
            parked: BTreeMap::new(),
            counted: Progress::default(),
            reported: now,
            began: now,
            checkpointed: now,
            checkpoint_took: None,
        }
    }

    pub(super) async fn run(mut self) {
        // Over says that nobody listens any more: there is nobody to tell.
        let _ = self.all().await;
    }

    async fn all(&mut self) -> Result<(), Over> {
        self.fold_history().await?;
        if self.from >= self.until {
            // Nothing to read: the partition is empty up to its end.
            self.folded.at_log_end = true;
        }
        let end = self.folded.next;
        let memory = self.fold()?.memory_bytes();
        self.slot.learn(self.start.lag_to(end), memory);
        self.tell_folded(false).await?;
        self.slot.stay();
        let begun = thread_cpu::now();
        let mut run = self.encode().await?;
        let mut cpu = thread_cpu::now().saturating_sub(begun);
        loop {
            let (rows, sums) = (run.rows(), run.sums().clone());
            let Some(rest) = run.rest() else {
                let encoded = BulkEvent::Encoded {
                    rows,
                    sums: Box::new(sums),
                    parked: self.take_parked(),
                    cpu,
                };
                return self.send(encoded).await;
            };
            self.fold_rest(rest, end).await?;
            let begun = thread_cpu::now();
            run = self.encode().await?;
            cpu += thread_cpu::now().saturating_sub(begun);
        }
    }

    async fn send(&mut self, event: BulkEvent) -> Result<(), Over> {
        self.events.send(event).await.map_err(|_| Over)
    }

    async fn stop<T>(&mut self, why: BulkStop) -> Result<T, Over> {
        self.send(BulkEvent::Stopped(why)).await?;
        Err(Over)
    }

    fn fold(&mut self) -> Result<&mut Box<dyn BulkFold>, Over> {
        match self.fold.as_mut() {
            Some(fold) => Ok(fold),
            None => Err(Over),
        }
    }

    async fn probe(&mut self, edge: Edge) -> Result<(), Over> {
        let passed = self.shared.plugs.pass(Word::Fold, edge, self.partition);
        match passed.await {
            Ok(()) => Ok(()),
            Err(why) => self.stop(BulkStop::Failed(why)).await,
        }
    }

    /// Folds up to `until`, to the end of the log, or up to an event that cannot be folded.
    async fn fold_history(&mut self) -> Result<(), Over> {
        let mut chunk = Chunk::new(self.partition, self.folded.next);
        while self.folded.next < self.until {
            if !self.read(&mut chunk).await? || !self.check_last_record(&chunk).await? {
                continue;
            }
            self.probe(Edge::Before).await?;
            let bytes = chunk.bytes() as u64;
            let (folded, whole) = self.fold_chunk(&mut chunk)?;
            self.counted.counts.bytes += bytes;
            self.probe(Edge::After).await?;
            // Taken for every chunk, waited for where another one follows: what the last chunk of
            // a partition takes, the other partitions wait for.
            let admitted = Instant::now() + self.shared.pace.take(folded as u64);
            self.keep_inside_memory().await?;
            if self.folded.halt.is_some() || !whole {
                break;
            }
            if chunk.end_of_log() {
                self.folded.at_log_end = true;
                break;
            }
            self.report().await?;
            self.checkpoint_when_due().await?;
            let wait = admitted.saturating_duration_since(Instant::now());
            let wait = wait.max(self.shared.pace.closed_for());
            self.counted.throttled += wait;
            self.nap(wait).await?;
        }
        Ok(())
    }

    /// Folds a chunk, around what is put aside; the records that were folded, and whether
    /// none is left.
    fn fold_chunk(&mut self, chunk: &mut Chunk) -> Result<(usize, bool), Over> {
        self.put_aside(|parking| parking.sift(chunk));
        let mut index = 0;
        loop {
            let (started, until) = (Instant::now(), self.until);
            let fold = self.fold()?;
            let (report, cpu) = thread_cpu::of(|| fold.fold(chunk, index, until));
            self.counted.fold += started.elapsed();
            self.counted.fold_cpu += cpu;
            index = report.index;
            self.note(report);
            if self.parking.is_none() {
                break;
            }
            let Some(halt) = self.folded.halt.take() else {
                break;
            };
            self.put_aside(|parking| parking.park(chunk, &halt));
        }
        let whole = index == chunk.len();
        if whole {
            // The last record may be one that was put aside.
            let end = chunk.to().min(self.until);
            self.folded.next = self.folded.next.max(end);
        }
        Ok((index, whole))
    }

    fn put_aside(&mut self, events: impl FnOnce(&mut Parking) -> Vec<ParkedEvent>) {
        let Some(parking) = &mut self.parking else {
            return;
        };
        for event in events(parking) {
            self.counted.counts.parked += u64::from(self.first);
            self.parked.insert(event.offset, event);
        }
    }

    /// What was put aside below the mark, for the transaction that moves it there.
    fn take_parked(&mut self) -> Vec<ParkedEvent> {
        let above = self.parked.split_off(&self.folded.next);
        let below = std::mem::replace(&mut self.parked, above);
        below.into_values().collect()
    }

    /// Folds the history `[start, end)` again, for keys that were given up. What
    /// the first fold decided holds: where the history ends, and that every event
    /// of it can be decoded.
    async fn fold_rest(&mut self, rest: Box<dyn BulkFold>, end: Offset) -> Result<(), Over> {
        let source = &self.shared.plugs.source;
        let opened = source.open(self.partition, self.start, ReadMode::Bulk);
        match opened.await {
            Ok(reader) => self.reader = reader,
            Err(error) => return self.stop(BulkStop::Source(error)).await,
        }
        self.fold = Some(rest);
        self.first = false;
        self.until = end;
        self.folded.next = self.start;
        self.fold_history().await?;
        let next = self.folded.next;
        if next != end || self.folded.halt.is_some() {
            return self
                .stop(BulkStop::Failed(format!(
                    "the history ended at {end} when it was folded first, and at {next} now: \
                 another log answers, or its end was lost"
                )))
                .await;
        }
        let progress = self.take_progress();
        self.send(BulkEvent::Folding(progress)).await
    }

    /// Looks for the record that the checkpoint ends with; `false` while it is still ahead.
    async fn check_last_record(&mut self, chunk: &Chunk) -> Result<bool, Over> {
        let Some(wanted) = self.verify else {
            return Ok(true);
        };
        let complete = self.shared.options.fold.complete_log;
        match plan::verify(chunk, wanted, complete) {
            Verdict::Same => self.verify = None,
            Verdict::NotYet => return Ok(false),
            Verdict::Diverged(why) => return self.stop(BulkStop::Diverged(why)).await,
        }
        Ok(true)
    }

    /// Reads the next chunk; `false` asks to try again.
    async fn read(&mut self, chunk: &mut Chunk) -> Result<bool, Over> {
        let options = &self.shared.options;
        let limit: ReadLimit = options.history_read();
        let (started, begun) = (Instant::now(), thread_cpu::now());
        let labour = Arc::clone(&self.shared.plugs.labour);
        let read = labour.read(self.reader.as_mut(), chunk, limit, options.read_wait);
        let answer = read.await;
        self.counted.fetch += started.elapsed();
        self.counted.fetch_cpu += thread_cpu::now().saturating_sub(begun);
        match answer {
            Ok(()) if chunk.is_empty() && !chunk.end_of_log() => {
                self.report().await?;
                Ok(false)
            }
            Ok(()) => Ok(true),
            Err(error) if error.is_transient() => {
                self.send(BulkEvent::Waiting(error)).await?;
                self.nap(UNREACHABLE_PAUSE).await?;
                Ok(false)
            }
            Err(error) => self.stop(BulkStop::Source(error)).await,
        }
    }

    fn note(&mut self, report: FoldReport) {
        let counts = &mut self.counted.counts;
        counts.applied += report.applied;
        counts.duplicates += report.duplicates;
        counts.unhandled += report.unhandled;
        counts.gaps += report.gaps.len() as u64;
        self.folded.next = report.next.max(self.folded.next);
        self.folded.last_record = report.last_record.or(self.folded.last_record);
        self.folded.gaps.extend(report.gaps);
        self.folded.halt = report.halt;
    }

    /// Gives up half of the keys as often as it takes. A fold that shares the
    /// memory with an older one gives way to it as a whole, unless rows of its
    /// partition are on their way to the database already.
    async fn keep_inside_memory(&mut self) -> Result<(), Over> {
        let next = self.folded.next;
        loop {
            let bytes = self.fold()?.memory_bytes();
            match self.slot.hold(bytes) {
                Room::Fits => return Ok(()),
                Room::GiveWay if self.first => return self.stop(BulkStop::GaveWay).await,
                Room::GiveWay | Room::TooLarge => {}
            }
            if !self.fold()?.give_up_half(next) {
                let folded = next;
                return self.stop(BulkStop::TooLarge { bytes, folded }).await;
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

    async fn report(&mut self) -> Result<(), Over> {
        if self.reported.elapsed() < REPORT_EVERY {
            return Ok(());
        }
        let progress = self.take_progress();
        self.send(BulkEvent::Folding(progress)).await
    }

    async fn nap(&mut self, wait: Duration) -> Result<(), Over> {
        let until = Instant::now() + wait;
        loop {
            // A clock may stand still between two looks: no time left is the end.
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            if self.events.is_closed() {
                return Err(Over);
            }
            self.shared.plugs.labour.pause(left.min(NAP)).await;
        }
    }

    async fn tell_folded(&mut self, is_checkpoint: bool) -> Result<(), Over> {
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
        self.send(BulkEvent::Folded(Box::new(folded))).await
    }

    /// Sorts the rows and sends them.
    async fn encode(&mut self) -> Result<Box<dyn TupleRun>, Over> {
        let frame_bytes = self.shared.options.copy_frame_bytes;
        let fold = self.fold.take().ok_or(Over)?;
        let mut run = fold.into_tuples();
        while let Some(tuples) = run.next_tuples(frame_bytes) {
            self.send(BulkEvent::Frame(Bytes::from(tuples))).await?;
        }
        Ok(run)
    }

    /// Sends the rows so far, when that is due and they are all there.
    async fn checkpoint_when_due(&mut self) -> Result<(), Over> {
        let Some(every) = self.shared.options.checkpoint_every else {
            return Ok(());
        };
        let pace = CheckpointPace {
            every,
            since: self.checkpointed.elapsed(),
            took: self.checkpoint_took,
            left: self.time_left(),
        };
        if !pace.is_due() || !self.fold()?.is_whole() || self.folded.next <= self.from {
            return Ok(());
        }
        let started = Instant::now();
        self.tell_folded(true).await?;
        let begun = thread_cpu::now();
        let frame_bytes = self.shared.options.copy_frame_bytes;
        let mut run = SnapshotRun::new(self.shared.plugs.projection.spec());
        while let Some(tuples) = self.fold()?.next_snapshot_tuples(frame_bytes, &mut run) {
            self.send(BulkEvent::Frame(Bytes::from(tuples))).await?;
        }
        let cpu = thread_cpu::now().saturating_sub(begun);
        let encoded = BulkEvent::Encoded {
            rows: run.rows,
            sums: Box::new(run.sums),
            parked: self.take_parked(),
            cpu,
        };
        self.send(encoded).await?;
        self.checkpointed = Instant::now();
        self.checkpoint_took = Some(started.elapsed());
        Ok(())
    }

    /// How long the rest of the history takes at the pace so far.
    fn time_left(&self) -> Duration {
        let done = self.from.lag_to(self.folded.next).max(1) as f64;
        let left = self.folded.next.lag_to(self.until) as f64;
        self.began.elapsed().mul_f64(left / done)
    }
}
