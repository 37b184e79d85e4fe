//! What a partition holds between the log and the store: chunks that were read,
//! and the batch that was folded from them.

use std::collections::VecDeque;

use refold_domain::batch::EventGap;
use refold_domain::batch::WriteBatch;
use refold_domain::fold::ApplyFold;
use refold_domain::fold::Halt;
use refold_domain::log::Chunk;
use refold_domain::log::RecordFingerprint;
use refold_domain::observe::EventCounts;
use refold_domain::parking::ParkedEvent;
use refold_domain::parking::Parking;
use refold_domain::position::Offset;
use refold_domain::position::OffsetRange;
use refold_ports::PartitionWriter;
use refold_ports::source::ReadLimit;
use tokio::time::Instant;

use crate::plan;
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
    /// The end of the log that somebody beside the projector was told last; see
    /// [`Observed::asked_end`](refold_domain::observe::Observed::asked_end).
    pub(super) asked_end: Option<Offset>,
    /// Where the log itself ended then, behind markers that move no mark.
    pub(super) clear_to: Option<Offset>,
    /// When the oldest pending record arrived.
    pub(super) since: Option<Instant>,
    /// A batch that was folded and is not durable.
    pub(super) prepared: Option<Prepared>,
    /// Records below the mark that the last pass showed to the fold.
    pub(super) shown: u64,
    /// The aggregates whose events are put aside; `None` when such an event is an end.
    pub(super) parking: Option<Parking>,
    /// What was put aside and is not durable, in the order of the log.
    pub(super) parked: Vec<ParkedEvent>,
}

/// A folded batch, and where it leaves the pending chunks.
pub(super) struct Prepared {
    pub(super) batch: WriteBatch,
    pub(super) counts: EventCounts,
    pub(super) halt: Option<Halt>,
    /// Pending chunks that are used up.
    pub(super) used: usize,
    /// Index of the next record in the first chunk that is left.
    pub(super) head: usize,
}

/// What a pass over the pending chunks did.
struct Folded {
    next: Offset,
    used: usize,
    head: usize,
    last_record: Option<RecordFingerprint>,
    gaps: Vec<EventGap>,
    halt: Option<Halt>,
    counts: EventCounts,
}

impl Apply {
    /// Adds a chunk to the pending ones; `false` when nothing in it is to be folded.
    pub(super) fn take(&mut self, mut chunk: Chunk) -> bool {
        self.log_end = chunk.end_of_log().then(|| chunk.to().max(self.position));
        self.clear_to = chunk.log_end();
        let aside = self.parking.as_ref().map(|p| p.sift(&mut chunk));
        let sifted = self.put_aside(aside.unwrap_or_default());
        let skip = plan::index_of(&chunk, self.position);
        // The mark has to pass what was put aside, also where nothing is left to fold.
        if skip == chunk.len() && !sifted {
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

    /// `false` when there is nothing new to put aside.
    fn put_aside(&mut self, events: Vec<ParkedEvent>) -> bool {
        let before = self.parked.len();
        // What lies below the mark is durable already.
        let news = events.into_iter().filter(|e| e.offset >= self.durable);
        self.parked.extend(news);
        self.parked.sort_by_key(|event| event.offset);
        self.parked.len() > before
    }

    /// Puts the event aside that the fold halted at, where that is wanted. `false` where it is
    /// the end.
    fn passes(&mut self, halt: &Halt) -> bool {
        let Some(parking) = &mut self.parking else {
            return false;
        };
        let mut aside = Vec::new();
        for chunk in &mut self.pending {
            // The first chunk that has it; what follows on it may lie in later ones.
            match chunk.to() > halt.offset && aside.is_empty() {
                true => aside = parking.park(chunk, halt),
                false => aside.extend(parking.sift(chunk)),
            }
        }
        self.put_aside(aside);
        true
    }

    /// Records that wait to be folded.
    pub(super) fn pending_events(&self) -> usize {
        let all: usize = self.pending.iter().map(Chunk::len).sum();
        all - self.head
    }

    /// Bytes of the chunks that wait to be folded.
    fn pending_bytes(&self) -> usize {
        self.pending.iter().map(Chunk::bytes).sum()
    }

    /// Whether there is as much as one batch may hold.
    pub(super) fn is_full(&self, limit: ReadLimit) -> bool {
        self.pending_events() >= limit.records || self.pending_bytes() >= limit.bytes
    }

    /// Where folding has to stop: at the mark while records are read again, else at a waiting barrier.
    pub(super) fn until(&self) -> Offset {
        if self.position < self.durable {
            return self.durable;
        }
        match self.switch {
            Some(at) if at > self.durable => at,
            _ => Offset(i64::MAX),
        }
    }

    /// Keys whose rows the next pass needs.
    pub(super) fn missing(&mut self, until: Offset) -> Vec<Vec<u8>> {
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
            // Behind its last record lies nothing but what was put aside.
            folded.next = folded.next.max(chunk.to().min(until));
            if chunk.to() > until {
                return folded;
            }
            folded.used += 1;
            folded.head = 0;
        }
        folded
    }

    /// Folds the pending records into a batch. Below the mark there is no batch:
    /// the records are only shown to the fold.
    pub(super) fn prepare(&mut self, events: usize) -> Result<(), String> {
        let until = self.until();
        let before = self.pending_events();
        let mut folded = self.fold_pending(events, until);
        if let Some(halt) = folded.halt.take_if(|halt| self.passes(halt)) {
            tracing::warn!(offset = %halt.offset, reason = %halt.reason, "an event is put aside");
        }
        let parked = self.parked.iter();
        let parked: Vec<_> = parked
            .take_while(|event| event.offset < folded.next)
            .cloned()
            .collect();
        folded.counts.parked = parked.len() as u64;
        if self.position < self.durable {
            self.forget_reread(folded);
            self.shown = (before - self.pending_events()) as u64;
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
                parked,
                at_log_end: self.log_end == Some(folded.next)
                    || plan::has_passed(folded.next, self.asked_end),
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

    /// Drops chunks that were used up and gives their buffers back.
    pub(super) fn use_up(&mut self, used: usize, head: usize) {
        for chunk in self.pending.drain(..used) {
            self.reader.recycle(chunk);
        }
        self.head = head;
        if self.pending.is_empty() {
            self.since = None;
        }
    }
}
