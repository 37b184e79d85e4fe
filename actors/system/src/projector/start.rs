//! Take-over: the only way to begin and the only way to resume.

use std::collections::VecDeque;
use std::time::SystemTime;

use refold_domain::log::RecordFingerprint;
use refold_domain::log::Watermarks;
use refold_domain::observe::Phase;
use refold_domain::parking::Parking;
use refold_domain::position::Offset;
use refold_domain::sums::Sums;
use refold_ports::PartitionWriter;
use refold_ports::registry::RegistryError;
use refold_ports::sink::Lease;
use refold_ports::sink::StoreError;
use refold_ports::sink::TakeOver;
use refold_ports::source::ReadMode;

use super::load::Admission;
use super::load::History;
use super::msg::Ending;
use super::pending::Apply;
use super::state::Next;
use super::state::ProjectorState;
use super::state::Trouble;
use super::state::Turn;
use super::state::Work;
use crate::plan;
use crate::plan::Resume;
use crate::reader::TailRead;
use crate::reader::TailReader;
use refold_ports::probe::Edge;
use refold_ports::probe::Word;

/// Where applying begins.
pub(super) struct Entry {
    pub(super) writer: Box<dyn PartitionWriter>,
    /// The durable mark, exclusive.
    pub(super) durable: Offset,
    /// Where reading starts, inclusive.
    pub(super) read_from: Offset,
    /// First offset that is folded.
    pub(super) fold_from: Offset,
    /// The record that must be met before anything is applied.
    pub(super) verify: Option<RecordFingerprint>,
    pub(super) last_record: Option<RecordFingerprint>,
    pub(super) switch: Option<Offset>,
    /// Whether the whole history was in at some commit.
    pub(super) reached: bool,
    /// The end of history when the partition was taken over, exclusive.
    pub(super) history_end: Offset,
    pub(super) sums: Sums,
}

impl ProjectorState {
    /// Takes the partition over and decides how it goes on.
    pub(super) async fn start(&mut self) -> Result<Turn, Trouble> {
        self.observe(|o| o.phase = Phase::Starting);
        if let Some(ending) = self.look_for_another_owner().await? {
            return Ok(Turn::End(ending));
        }
        let writer = self.take_over().await?;
        let lease = writer.lease().clone();
        // Asked after the take-over: before it, another owner may still have moved the mark.
        let log = self.shared.plugs.source.watermarks(self.partition).await?;
        self.note_lease(&lease, log);
        let from_offset = self.tenure.wanted_start(&self.shared.options);
        match plan::resume(&lease, log, from_offset) {
            Resume::Refused(why) => Ok(Turn::End(Ending::Refused(why))),
            Resume::Halted(why) => Ok(Turn::End(Ending::Halted(why))),
            Resume::Bulk {
                read_from,
                verify,
                until,
            } => {
                self.tenure.honour_from_offset();
                let history = History {
                    read_from,
                    verify,
                    until,
                    end: log.high,
                };
                let admission = Admission::ask(&self.shared, writer, history);
                Ok(Turn::On(Work::Admitted(Box::new(admission)), Next::Pull))
            }
            Resume::Apply {
                read_from,
                verify,
                fold_from,
            } => {
                self.shared.gate.withdraw(self.partition);
                let entry = Entry {
                    durable: lease.next,
                    read_from,
                    fold_from,
                    verify,
                    last_record: lease.last_record,
                    switch: lease.switch,
                    reached: lease.reached_log_end,
                    history_end: log.high,
                    sums: lease.sums,
                    writer,
                };
                self.enter_apply(entry).await
            }
        }
    }

    /// After a lost lease: whether somebody else holds the partition now. The take-over asks so
    /// itself, but a store that is away would then cost a take-over without an answer each time,
    /// and an epoch that lost answers explain is taken for our own.
    async fn look_for_another_owner(&mut self) -> Result<Option<Ending>, Trouble> {
        if self.tenure.own_up_to().is_none() {
            return Ok(None);
        }
        let marks = self.shared.plugs.registry.marks(self.shared.version).await;
        let marks = marks.map_err(|error| match error {
            RegistryError::Unreachable(why) => Trouble::Store(StoreError::Disconnected(why)),
            other => Trouble::Failed(other.to_string()),
        })?;
        let mark = marks.iter().find(|m| m.partition == self.partition);
        let taken = mark.filter(|m| self.tenure.lost_to(m.epoch));
        Ok(taken.map(|m| self.taken_over(m.epoch)))
    }

    /// Takes the partition over, but not from who came behind this process: one whose connection
    /// was ended by its successor would otherwise take the partition back.
    async fn take_over(&mut self) -> Result<Box<dyn PartitionWriter>, Trouble> {
        let log = self.shared.plugs.source.watermarks(self.partition).await?;
        self.pass(Word::TakeOver, Edge::Before).await?;
        let plugs = &self.shared.plugs;
        let wanted = TakeOver {
            version: self.shared.version,
            spec: plugs.projection.spec(),
            partition: self.partition,
            start: log.low,
            own_up_to: self.tenure.own_up_to(),
        };
        match plugs.sink.take_over(wanted).await {
            Ok(writer) => {
                self.tenure.granted(writer.lease().epoch);
                self.pass(Word::TakeOver, Edge::After).await?;
                Ok(writer)
            }
            Err(error) => {
                if matches!(error, StoreError::Disconnected(_)) {
                    self.tenure.unanswered();
                }
                Err(error.into())
            }
        }
    }

    fn note_lease(&mut self, lease: &Lease, log: Watermarks) {
        tracing::info!(
            version = self.id.version, partition = %self.partition,
            epoch = lease.epoch,
            next = lease.next.0,
            end = log.high.0,
            has_leaf = lease.has_leaf,
            "took partition over"
        );
        self.observe(|o| {
            o.from = lease.next;
            o.next = lease.next;
            o.folded = lease.next;
            o.clear_to = lease.next;
            o.end = log.high;
            o.end_measured = Some(SystemTime::now());
            o.reason = None;
        });
        if lease.reached_log_end {
            self.tell_reached_end();
        }
    }

    /// The aggregates whose events are put aside, where they are.
    pub(super) fn parking_of(&self, lease: &Lease) -> Option<Parking> {
        self.shared.options.park.then(|| lease.parking.clone())
    }

    /// Opens the tail reader and begins to apply.
    pub(super) async fn enter_apply(&mut self, entry: Entry) -> Result<Turn, Trouble> {
        if !self.shared.options.tails() && entry.durable >= entry.history_end && entry.reached {
            return Ok(Turn::End(Ending::Finished));
        }
        let plugs = &self.shared.plugs;
        let options = &self.shared.options;
        let reader = plugs
            .source
            .open(self.partition, entry.read_from, ReadMode::Tail)
            .await
            .map_err(|error| Trouble::of_source(error, entry.durable))?;
        let read = TailRead {
            partition: self.partition,
            from: entry.read_from,
            limit: options.tail_read(self.shared.partitions),
            wait: options.read_wait,
        };
        let reader = TailReader::spawn(&plugs.labour, reader, read)
            .map_err(|e| Trouble::Failed(format!("a reader thread cannot be started: {e}")))?;
        let cache = options.cache_bytes(self.shared.partitions);
        let fold = plugs.projection.apply_fold(options.fold, entry.sums, cache);
        self.observe(|o| {
            o.phase = Phase::CatchingUp;
            o.memory_bytes = 0;
        });
        let apply = Apply {
            parking: self.parking_of(entry.writer.lease()),
            parked: Vec::new(),
            writer: entry.writer,
            fold,
            reader,
            pending: VecDeque::new(),
            head: 0,
            position: entry.fold_from,
            durable: entry.durable,
            last_record: entry.last_record,
            verify: entry.verify,
            switch: entry.switch,
            reached: entry.reached,
            history_end: entry.history_end,
            log_end: None,
            clear_to: None,
            asked_end: None,
            since: None,
            prepared: None,
            shown: 0,
        };
        Ok(Turn::On(Work::Applying(Box::new(apply)), Next::Pull))
    }
}
