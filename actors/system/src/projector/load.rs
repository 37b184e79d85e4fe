//! The bulk path: wait for a place, follow the fold, send the rows, seal.

use std::time::Duration;
use std::time::SystemTime;

use refold_domain::batch::BulkSeal;
use refold_domain::fold::BulkFold;
use refold_domain::log::RecordFingerprint;
use refold_domain::observe::Phase;
use refold_domain::observe::Stage;
use refold_domain::parking::ParkedEvent;
use refold_domain::position::Offset;
use refold_domain::position::OffsetRange;
use refold_domain::sums::Sums;
use refold_ports::PartitionWriter;
use refold_ports::sink::BulkTarget;
use refold_ports::sink::Directive;
use refold_ports::source::ReadMode;
use refold_ports::source::SourceError;
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
use crate::labour::compute;
use refold_ports::probe::Edge;
use refold_ports::probe::Word;

/// Longest wait in one turn, so that other messages get in between.
pub(super) const LISTEN_EVERY: Duration = Duration::from_millis(50);

/// The history that a bulk load takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct History {
    /// Where reading starts, inclusive.
    pub(super) read_from: Offset,
    /// The record that must be met before anything is folded.
    pub(super) verify: Option<RecordFingerprint>,
    /// Where the load ends, exclusive.
    pub(super) until: Offset,
    /// The end of the log when the partition was taken over, exclusive.
    pub(super) end: Offset,
}

/// A partition that waits for its place among the bulk loads.
pub(crate) struct Admission {
    writer: Box<dyn PartitionWriter>,
    history: History,
    place: oneshot::Receiver<Slot>,
}

/// A partition whose thread folds.
pub(crate) struct Folding {
    writer: Box<dyn PartitionWriter>,
    history: History,
    run: BulkRun,
}

/// A partition whose rows are being sent, into the leaf or into a checkpoint.
pub(crate) struct Loading {
    writer: Box<dyn PartitionWriter>,
    history: History,
    run: BulkRun,
    folded: Box<Folded>,
    /// When its transaction was opened.
    begun: Option<Instant>,
}

impl Admission {
    pub(super) fn ask(shared: &Shared, writer: Box<dyn PartitionWriter>, history: History) -> Self {
        let lease = writer.lease();
        // All of the history counts: the rows of a checkpoint take memory too.
        let events = lease.start.lag_to(history.until);
        let place = shared.gate.ask(lease.partition, events);
        Self {
            writer,
            history,
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
        let Admission {
            mut writer,
            history,
            ..
        } = admission;
        let fold = self.fold_of_checkpoint(writer.as_mut()).await?;
        let lease = writer.lease();
        let plugs = &self.shared.plugs;
        let reader = plugs
            .source
            .open(self.partition, history.read_from, ReadMode::Bulk)
            .await
            .map_err(|error| Trouble::of_source(error, lease.next))?;
        let task = BulkTask {
            partition: self.partition,
            start: lease.start,
            from: lease.next,
            until: history.until,
            verify: history.verify,
            reader,
            fold,
            parking: self.parking_of(lease),
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
            writer,
            history,
            run,
        };
        Ok(Turn::On(Work::Folding(Box::new(folding)), Next::Pull))
    }

    /// A fold that holds the rows of the checkpoint, or none.
    async fn fold_of_checkpoint(
        &mut self,
        writer: &mut dyn PartitionWriter,
    ) -> Result<Box<dyn BulkFold>, Trouble> {
        let projection = &self.shared.plugs.projection;
        let mut fold = projection.bulk_fold(self.shared.options.fold);
        if !writer.lease().has_checkpoint {
            return Ok(fold);
        }
        let started = Instant::now();
        let mut count = 0;
        while let Some(rows) = writer.checkpoint_rows().await? {
            count += rows.len();
            // Decoding rows is work for a thread that may be busy.
            let labour = self.shared.plugs.labour.as_ref();
            let loaded = compute(labour, move || fold.load(&rows).map(|()| fold));
            fold = loaded
                .await
                .map_err(|e| Trouble::Failed(format!("loading a checkpoint ended early: {e}")))?
                .map_err(Trouble::Failed)?;
        }
        self.busy(Stage::Fetch, started.elapsed());
        tracing::info!(
            version = self.id.version, partition = %self.partition,
            rows = count, next = %writer.lease().next,
            "goes on from a checkpoint"
        );
        Ok(fold)
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
        if !folded.at_log_end && folded.halt.is_none() && !folded.is_checkpoint {
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
            history: folding.history,
            run: folding.run,
            folded,
            begun: None,
        }
    }

    fn fold_stopped(&mut self, folding: Folding, why: BulkStop) -> Result<Turn, Trouble> {
        let Folding {
            writer,
            history,
            run,
        } = folding;
        drop(run);
        match why {
            // Only the record at the mark was to be looked at again; a history that is folded a
            // second time has to be there as a whole.
            BulkStop::Source(SourceError::Truncated {
                partition,
                wanted,
                low,
            }) if history.verify.is_some() && wanted == history.read_from => {
                let gone = SourceError::Truncated {
                    partition,
                    wanted,
                    low,
                };
                Err(Trouble::of_source(gone, writer.lease().next))
            }
            BulkStop::Source(error) => Err(error.into()),
            BulkStop::Failed(why) => Err(Trouble::Failed(why)),
            BulkStop::Diverged(why) => Ok(Turn::End(Ending::Halted(why))),
            BulkStop::GaveWay => {
                self.observe(|o| {
                    o.reason = Some("waits for memory that older bulk loads hold".to_owned());
                    o.memory_bytes = 0;
                });
                let admission = Admission::ask(&self.shared, writer, history);
                Ok(Turn::On(Work::Admitted(Box::new(admission)), Next::Pull))
            }
            BulkStop::TooLarge { bytes, folded } => Ok(Turn::End(Ending::Broken(format!(
                "one row of {} alone needs more than -memory allows: {bytes} bytes at offset {folded} \
                 of {}, and {} of {} are for bulk loads; start again with a larger -memory",
                self.partition,
                history.until,
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
            o.counts.parked += progress.counts.parked;
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
            // The last moment: what is begun is committed, or its snapshot would stay open.
            return match self.is_held().await {
                true if self.draining => Ok(Turn::End(Ending::Drained)),
                true => Ok(Turn::On(Work::Loading(loading), Next::Pull)),
                false => self.begin_load(loading).await,
            };
        }
        match loading.run.next().await.map_err(Trouble::Failed)? {
            BulkEvent::Frame(tuples) => {
                self.pass(Word::Copy, Edge::Before).await?;
                self.leave_time_to_reads().await;
                let started = Instant::now();
                loading.writer.copy(tuples).await?;
                self.busy(Stage::Write, started.elapsed());
                self.pass(Word::Copy, Edge::After).await?;
                Ok(Turn::On(Work::Loading(loading), Next::Pull))
            }
            BulkEvent::Encoded {
                rows,
                sums,
                parked,
                cpu,
            } => {
                self.observe(|o| o.cpu.add(Stage::Write, cpu));
                self.seal(*loading, (rows, *sums, parked)).await
            }
            // Keys that did not fit the memory are folded behind the first rows.
            BulkEvent::Folding(progress) => {
                self.note_progress(&progress);
                Ok(Turn::On(Work::Loading(loading), Next::Pull))
            }
            BulkEvent::Waiting(error) => {
                self.observe(|o| o.reason = Some(error.to_string()));
                Ok(Turn::On(Work::Loading(loading), Next::Pull))
            }
            BulkEvent::Stopped(why) => {
                let Loading {
                    writer,
                    history,
                    run,
                    ..
                } = *loading;
                let folding = Folding {
                    writer,
                    history,
                    run,
                };
                self.fold_stopped(folding, why)
            }
            BulkEvent::Folded(_) => Err(out_of_order()),
        }
    }

    async fn begin_load(&mut self, mut loading: Box<Loading>) -> Result<Turn, Trouble> {
        self.pass(Word::Write, Edge::Before).await?;
        self.leave_time_to_reads().await;
        let started = Instant::now();
        let target = match loading.folded.is_checkpoint {
            true => BulkTarget::Checkpoint,
            false => BulkTarget::Leaf,
        };
        let to = loading.folded.next;
        match loading.writer.begin_bulk(to, target).await {
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

    async fn seal(
        &mut self,
        mut loading: Loading,
        (rows, sums, parked): (u64, Sums, Vec<ParkedEvent>),
    ) -> Result<Turn, Trouble> {
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
            parked,
            at_log_end: folded.at_log_end,
        };
        self.pass(Word::Commit, Edge::Before).await?;
        let started = Instant::now();
        let committed = loading.writer.seal(&seal).await?;
        self.busy(Stage::Commit, started.elapsed());
        self.pass(Word::Commit, Edge::After).await?;
        self.note_seal(&seal, &loading.history);
        let took = loading.begun.map(|at| at.elapsed()).unwrap_or_default();
        let events = seal.range.from.lag_to(seal.range.to);
        self.tell_observer(events, seal.rows, took);
        if let Some(halt) = folded.halt {
            return Ok(Turn::End(self.halted(&halt)));
        }
        if self.draining {
            return Ok(Turn::End(Ending::Drained));
        }
        if folded.is_checkpoint {
            self.observe(|o| o.phase = Phase::Replaying);
            let folding = Folding {
                writer: loading.writer,
                history: History {
                    read_from: committed.next,
                    verify: None,
                    ..loading.history
                },
                run: loading.run,
            };
            return Ok(Turn::On(Work::Folding(Box::new(folding)), Next::Pull));
        }
        let passed = committed.next >= loading.history.end || seal.at_log_end;
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
            history_end: loading.history.end,
            sums: seal.sums,
        };
        self.enter_apply(entry).await
    }

    fn note_seal(&mut self, seal: &BulkSeal, history: &History) {
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
            if seal.at_log_end {
                // The end has moved since, if at all, and not back.
                o.clear_to = history.end;
            }
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
