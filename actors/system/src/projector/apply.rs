//! The apply path: gather, fold, commit, one batch a turn.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use refold_domain::fold::Halt;
use refold_domain::log::Chunk;
use refold_domain::observe::EventCounts;
use refold_domain::observe::Stage;
use refold_ports::sink::Committed;
use refold_ports::sink::Directive;
use refold_ports::sink::StoreError;
use refold_ports::source::SourceError;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::msg::Ending;
use super::pending::Apply;
use super::pending::Prepared;
use super::state::Next;
use super::state::ProjectorState;
use super::state::Trouble;
use super::state::Turn;
use super::state::Work;
use crate::labour::Labour;
use crate::labour::compute;
use crate::plan;
use crate::plan::Verdict;
use crate::reader::TailChunk;
use crate::thread_cpu;
use refold_ports::probe::Edge;
use refold_ports::probe::Word;

/// What one answer of the reader came to.
enum TakenIn {
    /// There is more to fold.
    Some,
    /// Nothing in it is to be folded.
    Nothing,
    /// The log is away for the moment.
    Away,
    /// The log is another one.
    Diverged(String),
}

/// What the wait for a transaction came to.
enum Placed {
    /// It may begin; the place is free again when this is dropped.
    Here(OwnedSemaphorePermit),
    /// The log is another one.
    Diverged(String),
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
        if self.is_held().await {
            return Ok(Turn::On(Work::Applying(apply), Next::Pull));
        }
        let is_new = apply.prepared.is_none();
        if is_new {
            match self.gather(&mut apply).await? {
                Gathered::Some => {}
                Gathered::Nothing => return Ok(self.idle(apply)),
                Gathered::Diverged(why) => return Ok(Turn::End(Ending::Halted(why))),
            }
        }
        let place = match self.place(&mut apply, is_new).await? {
            Placed::Here(place) => place,
            Placed::Diverged(why) => return Ok(Turn::End(Ending::Halted(why))),
        };
        if is_new {
            if !apply.reached {
                let seen = self.shared.board.get(&self.id);
                apply.asked_end = seen.and_then(|o| o.asked_end);
            }
            apply = self.fold_batch(apply).await?;
        }
        let turn = self.commit(apply).await;
        drop(place);
        turn
    }

    /// Waits until a batch is full or its turn has come.
    async fn gather(&mut self, apply: &mut Apply) -> Result<Gathered, Trouble> {
        let options = &self.shared.options;
        let limit = options.tail_read(self.shared.partitions);
        let started = Instant::now();
        while !apply.is_full(limit) {
            let wait = match apply.since {
                Some(since) => self.turn_after(since) - Instant::now(),
                None => options.read_wait * 2,
            };
            if wait.is_zero() {
                break;
            }
            let Ok(answer) = tokio::time::timeout(wait, apply.reader.next()).await else {
                break;
            };
            match self.take_in(apply, answer)? {
                TakenIn::Some => {}
                TakenIn::Nothing if !apply.pending.is_empty() => {}
                TakenIn::Nothing | TakenIn::Away => break,
                TakenIn::Diverged(why) => return Ok(Gathered::Diverged(why)),
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

    fn take_in(
        &self,
        apply: &mut Apply,
        answer: Result<TailChunk, SourceError>,
    ) -> Result<TakenIn, Trouble> {
        let chunk = match answer {
            Ok(read) => {
                self.observe(|o| o.cpu.add(Stage::Fetch, read.cpu));
                read.chunk
            }
            Err(error) if error.is_transient() => {
                self.observe(|o| o.reason = Some(error.to_string()));
                return Ok(TakenIn::Away);
            }
            Err(error) => return Err(Trouble::of_source(error, apply.durable)),
        };
        if let Some(why) = self.check(apply, &chunk) {
            return Ok(TakenIn::Diverged(why));
        }
        Ok(match apply.take(chunk) {
            true => TakenIn::Some,
            false => TakenIn::Nothing,
        })
    }

    /// Waits for a place among the transactions of this process and takes in meanwhile, where the
    /// batch is not folded yet, what goes into it. Whoever waits keeps its place in the queue, so
    /// this ends as soon as those before it have: their statements and their waits for locks are
    /// bounded.
    async fn place(&mut self, apply: &mut Apply, is_new: bool) -> Result<Placed, Trouble> {
        let limit = self.shared.options.tail_read(self.shared.partitions);
        let started = Instant::now();
        let mut place = pin!(Arc::clone(&self.shared.transactions).acquire_owned());
        let mut reads = is_new;
        let place = loop {
            tokio::select! {
                biased;
                place = &mut place => break place,
                answer = apply.reader.next(), if reads && !apply.is_full(limit) => {
                    match self.take_in(apply, answer)? {
                        TakenIn::Some | TakenIn::Nothing => {}
                        TakenIn::Away => reads = false,
                        TakenIn::Diverged(why) => return Ok(Placed::Diverged(why)),
                    }
                }
            }
        };
        self.busy(Stage::Commit, started.elapsed());
        let closed = |_| Trouble::Failed("the process takes no transactions any more".to_owned());
        place.map(Placed::Here).map_err(closed)
    }

    /// When a batch whose first event came at `since` is sent, full or not.
    fn turn_after(&self, since: Instant) -> Instant {
        let (shared, started) = (&self.shared, self.shared.pace.started());
        let of = u32::try_from(shared.partitions).unwrap_or(u32::MAX);
        let place = (self.partition.0.unsigned_abs(), of);
        let waited = since.saturating_duration_since(started);
        started + plan::turn_after(waited, shared.options.batch_age, place)
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
        self.note_phase(&apply);
        if self.is_finished(&apply) {
            return Turn::End(Ending::Finished);
        }
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
        let labour = Arc::clone(&self.shared.plugs.labour);
        let (mut apply, (keys, asking)) = blocking(labour.as_ref(), apply, |apply| {
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
        let (apply, (prepared, cpu)) = blocking(labour.as_ref(), apply, move |apply| {
            if !keys.is_empty() {
                apply.fold.load(&keys, &rows)?;
            }
            apply.prepare(events)
        })
        .await?;
        prepared.map_err(Trouble::Failed)?;
        folding += started.elapsed();
        self.observe(|o| {
            o.busy.add(Stage::Fold, folding);
            o.cpu.add(Stage::Fold, asking + cpu);
            o.memory_bytes = apply.fold.memory_bytes() as u64;
        });
        self.pass(Word::Fold, Edge::After).await?;
        Ok(apply)
    }

    async fn commit(&mut self, mut apply: Box<Apply>) -> Result<Turn, Trouble> {
        let Some(prepared) = apply.prepared.take() else {
            return Ok(self.shown_again(apply));
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
        let took = started.elapsed();
        self.busy(Stage::Commit, took);
        match answer {
            Ok(committed) => {
                let rows = prepared.batch.rows.len() as u64;
                self.tell_observer(events_of(&prepared.counts), rows, took);
                self.pass(Word::Commit, Edge::After).await?;
                self.committed(apply, prepared, committed)
            }
            Err(error) => self.refused(apply, prepared, error),
        }
    }

    /// Records below the mark were read again: there is nothing to commit.
    fn shown_again(&mut self, mut apply: Box<Apply>) -> Turn {
        let shown = std::mem::take(&mut apply.shown);
        self.observe(|o| o.counts.duplicates += shown);
        if apply.position >= apply.durable {
            self.tenure.honour_from_offset();
        }
        self.go_on(apply, shown)
    }

    /// Goes on after `events`, as soon as the rate limit and, in history, the reads allow.
    fn go_on(&mut self, apply: Box<Apply>, events: u64) -> Turn {
        let mut wait = self.shared.pace.take(events);
        if !apply.reached {
            wait = wait.max(self.shared.pace.closed_for());
        }
        if wait.is_zero() {
            return Turn::On(Work::Applying(apply), Next::Pull);
        }
        self.busy(Stage::Throttled, wait);
        Turn::On(Work::Applying(apply), Next::PullAfter(wait))
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
        apply.parked.retain(|event| event.offset >= committed.next);
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
        self.note_phase(&apply);
        if self.is_finished(&apply) {
            return Ok(Turn::End(Ending::Finished));
        }
        Ok(self.go_on(apply, events_of(&prepared.counts)))
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
            o.counts.parked += counts.parked;
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
            if let Some(end) = apply.clear_to {
                o.end = o.end.max(end);
                o.clear_to = if at_end { end } else { o.clear_to };
            }
            let at_end = at_end || plan::has_passed(apply.durable, o.asked_end);
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

/// Runs CPU work on a thread that may block, and tells the CPU time that it took.
async fn blocking<T: Send + 'static>(
    labour: &dyn Labour,
    mut apply: Box<Apply>,
    work: impl FnOnce(&mut Apply) -> T + Send + 'static,
) -> Result<(Box<Apply>, (T, Duration)), Trouble> {
    let ran = compute(labour, move || {
        let answer = thread_cpu::of(|| work(&mut apply));
        (apply, answer)
    });
    ran.await
        .map_err(|why| Trouble::Failed(format!("the fold panicked: {why}")))
}

/// Events that a batch took from the log.
fn events_of(counts: &EventCounts) -> u64 {
    counts.applied + counts.duplicates + counts.unhandled
}
