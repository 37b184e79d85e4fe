//! The apply path: gather, fold, commit, one batch a turn.

use std::collections::VecDeque;
use std::time::SystemTime;

use refold_domain::batch::WriteBatch;
use refold_domain::fold::ApplyFold;
use refold_domain::fold::Halt;
use refold_domain::log::Chunk;
use refold_domain::log::RecordFingerprint;
use refold_domain::observe::EventCounts;
use refold_domain::observe::Stage;
use refold_domain::position::Offset;
use refold_domain::position::OffsetRange;
use refold_ports::PartitionWriter;
use refold_ports::sink::Committed;
use refold_ports::sink::Directive;
use refold_ports::sink::StoreError;
use tokio::time::Instant;

use super::msg::Ending;
use super::state::Next;
use super::state::ProjectorState;
use super::state::Trouble;
use super::state::Turn;
use super::state::Work;
use crate::plan;
use crate::plan::Verdict;
use crate::probe::Edge;
use crate::probe::Word;
use crate::reader::TailReader;

/// A partition that is being applied.
pub(crate) struct Apply {
    pub(super) writer: Box<dyn PartitionWriter>,
    pub(super) fold: Box<dyn ApplyFold>,
    pub(super) reader: TailReader,
    /// Chunks that were read and are not durable, oldest first.
    pub(super) pending: VecDeque<Chunk>,
    /// Index of the next record in the first pending chunk.
    pub(super) head: usize,
    /// The next offset to fold; below `durable` while records are read again.
    pub(super) position: Offset,
    /// The durable mark, exclusive.
    pub(super) durable: Offset,
    pub(super) last_record: Option<RecordFingerprint>,
    /// The record that must be met before anything is applied.
    pub(super) verify: Option<RecordFingerprint>,
    /// Where a waiting barrier wants a batch to end.
    pub(super) switch: Option<Offset>,
    /// Whether the store knows that the whole history was in once.
    pub(super) reached: bool,
    pub(super) history_end: Offset,
    /// The end of the log by the last chunk, if the log ended behind it.
    pub(super) log_end: Option<Offset>,
    /// When the oldest pending record arrived.
    pub(super) since: Option<Instant>,
    /// A batch that was folded and is not durable.
    pub(super) prepared: Option<Prepared>,
}

/// A folded batch, and where it leaves the pending chunks.
pub(super) struct Prepared {
    batch: WriteBatch,
    counts: EventCounts,
    halt: Option<Halt>,
    /// Pending chunks that are used up.
    used: usize,
    /// Index of the next record in the first chunk that is left.
    head: usize,
}

/// What a pass over the pending chunks did.
struct Folded {
    next: Offset,
    used: usize,
    head: usize,
    last_record: Option<RecordFingerprint>,
    gaps: Vec<refold_domain::batch::EventGap>,
    halt: Option<Halt>,
    counts: EventCounts,
}

impl Apply {
    fn pending_events(&self) -> usize {
        let all: usize = self.pending.iter().map(Chunk::len).sum();
        all - self.head
    }

    /// Where folding has to stop: at the mark while records are read again, else at a waiting barrier.
    fn until(&self) -> Offset {
        if self.position < self.durable {
            return self.durable;
        }
        match self.switch {
            Some(at) if at > self.durable => at,
            _ => Offset(i64::MAX),
        }
    }

    /// Keys whose rows the next pass needs.
    fn missing(&mut self, until: Offset) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        let mut start = self.head;
        for chunk in &self.pending {
            keys.append(&mut self.fold.missing(chunk, start, until));
            start = 0;
        }
        // Each call names a key once; chunks may share keys.
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn fold_pending(&mut self, events: usize, until: Offset) -> Folded {
        let mut folded = Folded {
            next: self.position,
            used: 0,
            head: self.head,
            last_record: None,
            gaps: Vec::new(),
            halt: None,
            counts: EventCounts::default(),
        };
        let mut left = events;
        for chunk in &self.pending {
            let report = self.fold.fold(chunk, folded.head, left, until);
            let taken = report.index - folded.head;
            let bytes = chunk.bytes() as u64 * taken as u64 / chunk.len().max(1) as u64;
            folded.next = report.next.max(folded.next);
            folded.last_record = report.last_record.or(folded.last_record);
            folded.counts.applied += report.applied;
            folded.counts.duplicates += report.duplicates;
            folded.counts.unhandled += report.unhandled;
            folded.counts.gaps += report.gaps.len() as u64;
            folded.counts.bytes += bytes;
            folded.gaps.extend(report.gaps);
            folded.halt = report.halt;
            folded.head = report.index;
            left -= taken;
            if report.index < chunk.len() {
                return folded;
            }
            folded.used += 1;
            folded.head = 0;
        }
        folded
    }

    /// Folds the pending records into a batch; `None` when there is nothing to commit.
    fn prepare(&mut self, events: usize) -> Result<(), String> {
        let until = self.until();
        let folded = self.fold_pending(events, until);
        if self.position < self.durable {
            self.forget_reread(folded);
            return Ok(());
        }
        let range = OffsetRange::new(self.durable, folded.next)
            .ok_or_else(|| "a batch would move its mark back".to_owned())?;
        let (rows, sums) = self.fold.writes();
        self.prepared = Some(Prepared {
            batch: WriteBatch {
                range,
                rows,
                sums,
                last_record: folded.last_record.or(self.last_record),
                gaps: folded.gaps,
                at_log_end: self.log_end == Some(folded.next),
            },
            counts: folded.counts,
            halt: folded.halt,
            used: folded.used,
            head: folded.head,
        });
        Ok(())
    }

    /// Records below the mark went through the fold, so that its guard saw them. None of them may count.
    fn forget_reread(&mut self, folded: Folded) {
        self.fold.rollback();
        // A pass that stopped inside the pending chunks stopped at the mark.
        self.position = if folded.used < self.pending.len() && folded.halt.is_none() {
            folded.next
        } else {
            folded.next.min(self.durable)
        };
        self.use_up(folded.used, folded.head);
        if self.pending.is_empty() && self.log_end.is_some() {
            // Only markers lie between the last record and the mark.
            self.position = self.durable;
            self.log_end = Some(self.durable);
        }
    }

    fn use_up(&mut self, used: usize, head: usize) {
        for chunk in self.pending.drain(..used) {
            self.reader.recycle(chunk);
        }
        self.head = head;
        if self.pending.is_empty() {
            self.since = None;
        }
    }
}

/// What gathering came to.
enum Gathered {
    /// There is something to fold, or the end of the log to note.
    Some,
    /// Nothing new.
    Nothing,
    /// The log is another one.
    Diverged(String),
}

impl ProjectorState {
    pub(super) async fn apply(&mut self, mut apply: Box<Apply>) -> Result<Turn, Trouble> {
        if apply.prepared.is_none() {
            match self.gather(&mut apply).await? {
                Gathered::Some => {}
                Gathered::Nothing => return Ok(self.idle(apply)),
                Gathered::Diverged(why) => return Ok(Turn::End(Ending::Halted(why))),
            }
            apply = self.fold_batch(apply).await?;
        }
        self.commit(apply).await
    }

    /// Waits until a batch is full or old enough.
    async fn gather(&mut self, apply: &mut Apply) -> Result<Gathered, Trouble> {
        let options = &self.shared.options;
        let started = Instant::now();
        while apply.pending_events() < options.batch {
            let wait = match apply.since {
                Some(since) => options.batch_age.saturating_sub(since.elapsed()),
                None => options.read_wait * 2,
            };
            if wait.is_zero() {
                break;
            }
            let chunk = match tokio::time::timeout(wait, apply.reader.next()).await {
                Err(_) => break,
                Ok(Ok(chunk)) => chunk,
                Ok(Err(error)) if error.is_transient() => {
                    self.observe(|o| o.reason = Some(error.to_string()));
                    break;
                }
                Ok(Err(error)) => return Err(error.into()),
            };
            if let Some(why) = self.check(apply, &chunk) {
                return Ok(Gathered::Diverged(why));
            }
            if !apply.take(chunk) && apply.pending.is_empty() {
                break;
            }
        }
        let waited = started.elapsed();
        let at_unknown_end = !apply.reached && apply.log_end == Some(apply.durable);
        if apply.pending.is_empty() && !at_unknown_end {
            self.busy(Stage::Idle, waited);
            return Ok(Gathered::Nothing);
        }
        self.busy(Stage::Fetch, waited);
        Ok(Gathered::Some)
    }

    /// Looks for the record that was applied last; a sentence when another one stands there.
    fn check(&self, apply: &mut Apply, chunk: &Chunk) -> Option<String> {
        let wanted = apply.verify?;
        match plan::verify(chunk, wanted, self.shared.options.fold.complete_log) {
            Verdict::Diverged(why) => return Some(why),
            Verdict::Same => apply.verify = None,
            Verdict::NotYet => {}
        }
        None
    }

    fn idle(&mut self, apply: Box<Apply>) -> Turn {
        if self.is_finished(&apply) {
            return Turn::End(Ending::Finished);
        }
        self.note_phase(&apply);
        Turn::On(Work::Applying(apply), Next::Pull)
    }

    /// Whether the historical end is durable and nobody asked to go on.
    fn is_finished(&self, apply: &Apply) -> bool {
        let at_end = apply.log_end == Some(apply.durable);
        !self.shared.options.tails() && (at_end || apply.durable >= apply.history_end)
    }

    /// Fetches the rows that the fold needs and folds, off the async threads.
    async fn fold_batch(&mut self, apply: Box<Apply>) -> Result<Box<Apply>, Trouble> {
        self.pass(Word::Fold, Edge::Before).await?;
        let started = Instant::now();
        let (mut apply, keys) = blocking(apply, |apply| {
            let until = apply.until();
            apply.missing(until)
        })
        .await?;
        let mut folding = started.elapsed();
        let mut rows = Vec::new();
        if !keys.is_empty() {
            let started = Instant::now();
            rows = apply.writer.fetch(&keys).await?;
            self.busy(Stage::Write, started.elapsed());
        }
        let started = Instant::now();
        let events = self.shared.options.batch;
        let below = apply.position < apply.durable;
        let before = apply.pending_events();
        let (apply, prepared) = blocking(apply, move |apply| {
            if !keys.is_empty() {
                apply.fold.load(&keys, &rows)?;
            }
            apply.prepare(events)
        })
        .await?;
        prepared.map_err(Trouble::Failed)?;
        folding += started.elapsed();
        let reread = (before - apply.pending_events()) as u64;
        self.observe(|o| {
            o.busy.add(Stage::Fold, folding);
            o.memory_bytes = apply.fold.memory_bytes() as u64;
            o.counts.duplicates += if below { reread } else { 0 };
        });
        self.pass(Word::Fold, Edge::After).await?;
        Ok(apply)
    }

    async fn commit(&mut self, mut apply: Box<Apply>) -> Result<Turn, Trouble> {
        let Some(prepared) = apply.prepared.take() else {
            // Records below the mark were read again: nothing to commit.
            return Ok(Turn::On(Work::Applying(apply), Next::Pull));
        };
        let news = prepared.batch.at_log_end && !apply.reached;
        if prepared.batch.range.is_empty() && !news {
            return Ok(match &prepared.halt {
                Some(halt) => Turn::End(self.halted(halt)),
                None => self.idle(apply),
            });
        }
        self.pass(Word::Write, Edge::Before).await?;
        let started = Instant::now();
        let answer = apply.writer.commit(&prepared.batch).await;
        self.busy(Stage::Commit, started.elapsed());
        match answer {
            Ok(committed) => {
                self.pass(Word::Commit, Edge::After).await?;
                self.committed(apply, prepared, committed)
            }
            Err(error) => self.refused(apply, prepared, error),
        }
    }

    fn committed(
        &mut self,
        mut apply: Box<Apply>,
        prepared: Prepared,
        committed: Committed,
    ) -> Result<Turn, Trouble> {
        let batch = &prepared.batch;
        if committed.next != batch.range.to {
            return Err(Trouble::Failed(format!(
                "the store answered mark {} to the batch {}",
                committed.next, batch.range
            )));
        }
        apply.fold.accept();
        apply.durable = committed.next;
        apply.position = committed.next;
        apply.switch = committed.switch;
        apply.last_record = batch.last_record;
        apply.use_up(prepared.used, prepared.head);
        self.refusals = 0;
        self.note_commit(&prepared);
        if batch.at_log_end && !apply.reached {
            apply.reached = true;
            self.tell_reached_end();
        }
        if let Some(halt) = &prepared.halt {
            return Ok(Turn::End(self.halted(halt)));
        }
        if self.is_finished(&apply) {
            return Ok(Turn::End(Ending::Finished));
        }
        self.note_phase(&apply);
        let wait = self.shared.pace.take(events_of(&prepared.counts));
        if wait.is_zero() {
            return Ok(Turn::On(Work::Applying(apply), Next::Pull));
        }
        self.busy(Stage::Throttled, wait);
        Ok(Turn::On(Work::Applying(apply), Next::PullAfter(wait)))
    }

    /// Nothing of the batch is in, or nobody knows.
    fn refused(
        &mut self,
        mut apply: Box<Apply>,
        prepared: Prepared,
        error: StoreError,
    ) -> Result<Turn, Trouble> {
        let range = prepared.batch.range;
        match error.directive() {
            Directive::Cut(at) if range.from < at && at < range.to => {
                apply.fold.rollback();
                apply.switch = Some(at);
                Ok(Turn::On(Work::Applying(apply), Next::Pull))
            }
            Directive::Cut(at) => Err(Trouble::Failed(format!(
                "the store wants a cut at {at}, which is not inside the batch {range}"
            ))),
            Directive::Again | Directive::BackOff => {
                apply.prepared = Some(prepared);
                let next = self.hold_back(error.to_string());
                Ok(Turn::On(Work::Applying(apply), next))
            }
            Directive::Stop | Directive::TakeOver | Directive::Fail => Err(error.into()),
        }
    }

    fn note_commit(&self, prepared: &Prepared) {
        let counts = &prepared.counts;
        let batch = &prepared.batch;
        self.observe(|o| {
            o.next = batch.range.to;
            o.folded = batch.range.to;
            o.end = o.end.max(batch.range.to);
            o.counts.applied += counts.applied;
            o.counts.duplicates += counts.duplicates;
            o.counts.unhandled += counts.unhandled;
            o.counts.gaps += counts.gaps;
            o.counts.bytes += counts.bytes;
            o.counts.rows += batch.rows.len() as u64;
            o.counts.commits += 1;
            o.last_commit = Some(SystemTime::now());
            o.reason = None;
        });
    }

    fn note_phase(&self, apply: &Apply) {
        let at_end = apply.log_end == Some(apply.durable);
        let batch = self.shared.options.batch as u64;
        self.observe(|o| {
            if let Some(end) = apply.log_end {
                o.end = o.end.max(end);
            }
            let next = plan::phase_after(o.phase, at_end, o.lag(), batch);
            o.phase = next;
        });
    }

    pub(super) fn halted(&self, halt: &Halt) -> Ending {
        Ending::Halted(format!(
            "{} of {} halted at offset {}: {}",
            self.partition, self.shared.label, halt.offset, halt.reason
        ))
    }
}

impl Apply {
    /// Adds a chunk to the pending ones; `false` when nothing in it is to be folded.
    fn take(&mut self, chunk: Chunk) -> bool {
        self.log_end = chunk.end_of_log().then(|| chunk.to().max(self.position));
        let skip = plan::index_of(&chunk, self.position);
        if skip == chunk.len() {
            self.reader.recycle(chunk);
            return false;
        }
        if self.pending.is_empty() {
            self.head = skip;
            self.since = Some(Instant::now());
        }
        self.pending.push_back(chunk);
        true
    }
}

/// Runs CPU work on a thread that may block.
async fn blocking<T: Send + 'static>(
    mut apply: Box<Apply>,
    work: impl FnOnce(&mut Apply) -> T + Send + 'static,
) -> Result<(Box<Apply>, T), Trouble> {
    let ran = tokio::task::spawn_blocking(move || {
        let answer = work(&mut apply);
        (apply, answer)
    });
    ran.await.map_err(|error| {
        let why = match error.try_into_panic() {
            Ok(panic) => crate::bulk::panic_text(panic.as_ref()),
            Err(error) => error.to_string(),
        };
        Trouble::Failed(format!("the fold panicked: {why}"))
    })
}

/// Events that a batch took from the log.
fn events_of(counts: &EventCounts) -> u64 {
    counts.applied + counts.duplicates + counts.unhandled
}
