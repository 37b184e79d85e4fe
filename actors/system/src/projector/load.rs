//! The bulk path: wait for a place, follow the fold, send the rows, seal.

use std::time::Duration;
use std::time::SystemTime;

use refold_domain::batch::BulkSeal;
use refold_domain::observe::Phase;
use refold_domain::observe::Stage;
use refold_domain::position::Offset;
use refold_domain::position::OffsetRange;
use refold_domain::sums::Sums;
use refold_ports::PartitionWriter;
use refold_ports::sink::Directive;
use refold_ports::source::ReadMode;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::msg::Ending;
use super::start::Entry;
use super::state::Next;
use super::state::ProjectorState;
use super::state::Trouble;
use super::state::Turn;
use super::state::Work;
use crate::bulk;
use crate::bulk::BulkEvent;
use crate::bulk::BulkRun;
use crate::bulk::BulkStop;
use crate::bulk::BulkTask;
use crate::bulk::Folded;
use crate::bulk::Progress;
use crate::context::Shared;
use crate::gate::Slot;
use crate::probe::Edge;
use crate::probe::Word;

/// Longest wait in one turn, so that other messages get in between.
const LISTEN_EVERY: Duration = Duration::from_millis(50);

/// A partition that waits for its place among the bulk loads.
pub(crate) struct Admission {
    writer: Box<dyn PartitionWriter>,
    until: Offset,
    history_end: Offset,
    place: oneshot::Receiver<Slot>,
}

/// A partition whose thread folds.
pub(crate) struct Folding {
    writer: Box<dyn PartitionWriter>,
    until: Offset,
    history_end: Offset,
    run: BulkRun,
}

/// A partition whose rows are being sent.
pub(crate) struct Loading {
    writer: Box<dyn PartitionWriter>,
    history_end: Offset,
    run: BulkRun,
    folded: Box<Folded>,
    /// When its transaction was opened.
    begun: Option<Instant>,
}

impl Admission {
    pub(super) fn ask(
        shared: &Shared,
        writer: Box<dyn PartitionWriter>,
        until: Offset,
        history_end: Offset,
    ) -> Self {
        let lease = writer.lease();
        let place = shared.gate.ask(lease.partition, lease.next.lag_to(until));
        Self {
            writer,
            until,
            history_end,
            place,
        }
    }
}

impl ProjectorState {
    pub(super) async fn wait_for_place(
        &mut self,
        mut admission: Box<Admission>,
    ) -> Result<Turn, Trouble> {
        match tokio::time::timeout(LISTEN_EVERY, &mut admission.place).await {
            Err(_) => Ok(Turn::On(Work::Admitted(admission), Next::Pull)),
            Ok(Err(_)) => Err(Trouble::Failed("the gate of bulk loads is gone".to_owned())),
            Ok(Ok(slot)) => self.begin_fold(*admission, slot).await,
        }
    }

    async fn begin_fold(&mut self, admission: Admission, slot: Slot) -> Result<Turn, Trouble> {
        let from = admission.writer.lease().next;
        let plugs = &self.shared.plugs;
        let reader = plugs
            .source
            .open(self.partition, from, ReadMode::Bulk)
            .await?;
        let task = BulkTask {
            partition: self.partition,
            from,
            until: admission.until,
            reader,
            fold: plugs.projection.bulk_fold(self.shared.options.fold),
            slot,
            shared: self.shared.clone(),
        };
        let run = bulk::spawn(task)
            .map_err(|e| Trouble::Failed(format!("a bulk thread cannot be started: {e}")))?;
        self.observe(|o| {
            o.phase = Phase::Replaying;
            o.reason = None;
        });
        let folding = Folding {
            writer: admission.writer,
            until: admission.until,
            history_end: admission.history_end,
            run,
        };
        Ok(Turn::On(Work::Folding(Box::new(folding)), Next::Pull))
    }

    pub(super) async fn follow_fold(&mut self, mut folding: Box<Folding>) -> Result<Turn, Trouble> {
        let event = folding.run.next().await.map_err(Trouble::Failed)?;
        match event {
            BulkEvent::Folding(progress) => {
                self.note_progress(&progress);
                Ok(Turn::On(Work::Folding(folding), Next::Pull))
            }
            BulkEvent::Waiting(error) => {
                self.observe(|o| o.reason = Some(error.to_string()));
                Ok(Turn::On(Work::Folding(folding), Next::Pull))
            }
            BulkEvent::Folded(folded) => {
                self.note_progress(&folded.progress);
                let loading = self.end_fold(*folding, folded).await;
                Ok(Turn::On(Work::Loading(Box::new(loading)), Next::Pull))
            }
            BulkEvent::Stopped(why) => self.fold_stopped(*folding, why),
            BulkEvent::Frame(_) | BulkEvent::Encoded { .. } => Err(out_of_order()),
        }
    }

    async fn end_fold(&mut self, folding: Folding, mut folded: Box<Folded>) -> Loading {
        if !folded.at_log_end && folded.halt.is_none() {
            // The reader does not always know that it stands at the end. When
            // the log cannot tell now, the next batch will.
            let log = self.shared.plugs.source.watermarks(self.partition).await;
            folded.at_log_end = log.is_ok_and(|log| folded.next >= log.high);
        }
        self.observe(|o| {
            o.phase = Phase::Loading;
            o.reason = None;
        });
        Loading {
            writer: folding.writer,
            history_end: folding.history_end,
            run: folding.run,
            folded,
            begun: None,
        }
    }

    fn fold_stopped(&mut self, folding: Folding, why: BulkStop) -> Result<Turn, Trouble> {
        let Folding {
            writer,
            until,
            history_end,
            run,
        } = folding;
        drop(run);
        match why {
            BulkStop::Source(error) => Err(error.into()),
            BulkStop::Probe(why) => Err(Trouble::Failed(why)),
            BulkStop::GaveWay => {
                self.observe(|o| {
                    o.reason = Some("waits for memory that older bulk loads hold".to_owned());
                    o.memory_bytes = 0;
                });
                let admission = Admission::ask(&self.shared, writer, until, history_end);
                Ok(Turn::On(Work::Admitted(Box::new(admission)), Next::Pull))
            }
            BulkStop::TooLarge { bytes, folded } => Ok(Turn::End(Ending::Broken(format!(
                "the rows of {} need more than -memory allows: {bytes} bytes at offset {folded} \
                 of {until}, and {} of {} are for bulk loads; start again with a larger -memory",
                self.partition,
                self.shared.options.bulk_bytes(),
                self.shared.options.memory_bytes
            )))),
        }
    }

    fn note_progress(&self, progress: &Progress) {
        self.observe(|o| {
            o.folded = progress.folded;
            o.memory_bytes = progress.memory as u64;
            o.counts.applied += progress.counts.applied;
            o.counts.duplicates += progress.counts.duplicates;
            o.counts.unhandled += progress.counts.unhandled;
            o.counts.gaps += progress.counts.gaps;
            o.counts.bytes += progress.counts.bytes;
            o.busy.add(Stage::Fetch, progress.fetch);
            o.busy.add(Stage::Fold, progress.fold);
            o.busy.add(Stage::Throttled, progress.throttled);
            o.cpu.add(Stage::Fetch, progress.fetch_cpu);
            o.cpu.add(Stage::Fold, progress.fold_cpu);
        });
    }

    /// One step of the load: open the transaction, send a frame, or seal.
    pub(super) async fn load(&mut self, mut loading: Box<Loading>) -> Result<Turn, Trouble> {
        if loading.begun.is_none() {
            return self.begin_load(loading).await;
        }
        match loading.run.next().await.map_err(Trouble::Failed)? {
            BulkEvent::Frame(tuples) => {
                self.pass(Word::Copy, Edge::Before).await?;
                let started = Instant::now();
                loading.writer.copy(tuples).await?;
                self.busy(Stage::Write, started.elapsed());
                self.pass(Word::Copy, Edge::After).await?;
                Ok(Turn::On(Work::Loading(loading), Next::Pull))
            }
            BulkEvent::Encoded { rows, sums, cpu } => {
                self.observe(|o| o.cpu.add(Stage::Write, cpu));
                self.seal(*loading, rows, *sums).await
            }
            _ => Err(out_of_order()),
        }
    }

    async fn begin_load(&mut self, mut loading: Box<Loading>) -> Result<Turn, Trouble> {
        self.pass(Word::Write, Edge::Before).await?;
        let started = Instant::now();
        match loading.writer.begin_bulk(loading.folded.next).await {
            Ok(()) => {
                self.busy(Stage::Write, started.elapsed());
                self.pass(Word::Write, Edge::After).await?;
                loading.begun = Some(started);
                Ok(Turn::On(Work::Loading(loading), Next::Pull))
            }
            // Nothing was sent yet, so the fold is still good.
            Err(error)
                if matches!(error.directive(), Directive::Again | Directive::BackOff)
                    && !self.draining =>
            {
                let next = self.hold_back(error.to_string());
                Ok(Turn::On(Work::Loading(loading), next))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn seal(&mut self, mut loading: Loading, rows: u64, sums: Sums) -> Result<Turn, Trouble> {
        self.pass(Word::Index, Edge::Before).await?;
        let started = Instant::now();
        loading.writer.index(rows).await?;
        self.busy(Stage::Index, started.elapsed());
        self.pass(Word::Index, Edge::After).await?;
        let folded = loading.folded;
        let from = loading.writer.lease().next;
        let range = OffsetRange::new(from, folded.next)
            .ok_or_else(|| Trouble::Failed("a bulk load would move its mark back".to_owned()))?;
        let seal = BulkSeal {
            range,
            rows,
            sums,
            last_record: folded.last_record,
            gaps: folded.gaps,
            at_log_end: folded.at_log_end,
        };
        self.pass(Word::Commit, Edge::Before).await?;
        let started = Instant::now();
        let committed = loading.writer.seal(&seal).await?;
        self.busy(Stage::Commit, started.elapsed());
        self.pass(Word::Commit, Edge::After).await?;
        self.note_seal(&seal);
        let took = loading.begun.map(|at| at.elapsed()).unwrap_or_default();
        let events = seal.range.from.lag_to(seal.range.to);
        self.tell_observer(events, seal.rows, took);
        if let Some(halt) = folded.halt {
            return Ok(Turn::End(self.halted(&halt)));
        }
        if self.draining {
            return Ok(Turn::End(Ending::Drained));
        }
        let passed = committed.next >= loading.history_end || seal.at_log_end;
        if passed && !self.shared.options.tails() {
            return Ok(Turn::End(Ending::Finished));
        }
        let entry = Entry {
            writer: loading.writer,
            durable: committed.next,
            read_from: committed.next,
            fold_from: committed.next,
            verify: None,
            last_record: seal.last_record,
            switch: committed.switch,
            reached: seal.at_log_end,
            history_end: loading.history_end,
            sums: seal.sums,
        };
        self.enter_apply(entry).await
    }

    fn note_seal(&mut self, seal: &BulkSeal) {
        self.refusals = 0;
        tracing::info!(
            version = self.id.version, partition = %self.partition,
            range = %seal.range,
            rows = seal.rows,
            "bulk load committed"
        );
        self.observe(|o| {
            o.next = seal.range.to;
            o.folded = seal.range.to;
            o.end = o.end.max(seal.range.to);
            o.counts.rows += seal.rows;
            o.counts.commits += 1;
            o.last_commit = Some(SystemTime::now());
            o.memory_bytes = 0;
            o.reason = None;
        });
        if seal.at_log_end {
            self.tell_reached_end();
        }
    }
}

fn out_of_order() -> Trouble {
    Trouble::Failed("the bulk thread answered out of order".to_owned())
}
