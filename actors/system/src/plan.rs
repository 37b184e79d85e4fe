//! The projector's decisions, without its mailbox: from a lease and the ends of
//! the log to what has to be done, and from a record to whether it is the one
//! that was applied.

use std::time::Duration;

use refold_domain::barrier::cut;
use refold_domain::log::Chunk;
use refold_domain::log::Record;
use refold_domain::log::RecordFingerprint;
use refold_domain::log::TopicIdentity;
use refold_domain::log::Watermarks;
use refold_domain::observe::Phase;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::sink::Lease;
use refold_ports::source::SourceError;

/// A checkpoint costs at most this share of the time since the one before: one part in so many.
const CHECKPOINT_SHARE: u32 = 10;

/// Where a long fold stands when it asks whether to make its rows durable on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CheckpointPace {
    /// The shortest pause between two checkpoints. Zero is after every chunk, whatever it costs.
    pub(crate) every: Duration,
    /// Since the last checkpoint, or since the fold began.
    pub(crate) since: Duration,
    /// What the last checkpoint took.
    pub(crate) took: Option<Duration>,
    /// What the rest of the fold will take at its pace so far.
    pub(crate) left: Duration,
}

impl CheckpointPace {
    /// A checkpoint writes all rows so far, so it is worth its time only while much of the fold is
    /// ahead: one that would be over before the next pause ends commits everything soon anyway.
    /// A crash costs two pauses of work at most.
    pub(crate) fn is_due(&self) -> bool {
        if self.every.is_zero() {
            return true;
        }
        let cost = self.took.unwrap_or_default() * CHECKPOINT_SHARE;
        let pause = self.every.max(cost);
        self.since >= pause && self.left > pause
    }
}

/// How a partition goes on after a take-over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resume {
    /// There is no leaf yet: fold `[next, until)` in memory, on top of the
    /// checkpoint's rows if there are any, and load it.
    Bulk {
        /// Where reading starts, inclusive; below the mark when a record has to be looked at again.
        read_from: Offset,
        /// The record that must be found again before anything is folded.
        verify: Option<RecordFingerprint>,
        /// The end of history, exclusive.
        until: Offset,
    },
    /// There are rows: apply batches on top of them.
    Apply {
        /// Where reading starts, inclusive; below the mark when a record has to be looked at again.
        read_from: Offset,
        /// The record that must be found again before anything is applied.
        verify: Option<RecordFingerprint>,
        /// First offset that is fed to the fold; below the mark when a re-read was asked for.
        fold_from: Offset,
    },
    /// The operator asked for something that cannot be done.
    Refused(String),
    /// The log is not the one that the rows came from.
    Halted(String),
}

/// Decides how to go on from what the take-over found.
pub(crate) fn resume(lease: &Lease, log: Watermarks, from_offset: Option<Offset>) -> Resume {
    let (next, partition) = (lease.next, lease.partition);
    if let Some(from) = from_offset.filter(|from| *from > next) {
        return Resume::Refused(gap(partition, next, from));
    }
    if next < log.low {
        let low = log.low;
        let gone = SourceError::Truncated {
            partition,
            wanted: next,
            low,
        };
        return Resume::Halted(gone.to_string());
    }
    if next > log.high {
        let high = log.high;
        let lost = SourceError::BeyondEnd {
            partition,
            wanted: next,
            high,
        };
        return Resume::Halted(lost.to_string());
    }
    // A record that retention took away cannot be looked at again; the cluster,
    // the topic and the mark inside the log are what is left to go by.
    let verify = lease.last_record.filter(|r| r.offset >= log.low);
    if !lease.has_leaf {
        return Resume::Bulk {
            read_from: verify.map_or(next, |r| r.offset.min(next)),
            verify,
            until: cut(next, log.high, lease.switch),
        };
    }
    let fold_from = from_offset.unwrap_or(next).max(log.low);
    let read_from = verify.map_or(fold_from, |r| r.offset.min(fold_from));
    Resume::Apply {
        read_from,
        verify,
        fold_from,
    }
}

/// The refusal of a start above the mark.
pub(crate) fn gap(partition: Partition, next: Offset, from: Offset) -> String {
    format!(
        "-from-offset {from} lies above the mark {next} of {partition}: \
         the events [{next}, {from}) would be missing; use {next} or less"
    )
}

/// What a chunk says about the record that was applied last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is there, unchanged, or compaction may have taken it.
    Same,
    /// The chunk ends below it.
    NotYet,
    /// Another record stands there: one sentence for the operator.
    Diverged(String),
}

/// Looks for the record that was applied last.
pub(crate) fn verify(chunk: &Chunk, wanted: RecordFingerprint, complete_log: bool) -> Verdict {
    let at = index_of(chunk, wanted.offset);
    match chunk.get(at) {
        Some(found) if found.offset == wanted.offset => compare(&found, chunk, wanted),
        Some(_) => missing(chunk, wanted, complete_log),
        None if chunk.end_of_log() => missing(chunk, wanted, complete_log),
        None => Verdict::NotYet,
    }
}

fn compare(found: &Record<'_>, chunk: &Chunk, wanted: RecordFingerprint) -> Verdict {
    if found.fingerprint() == wanted {
        return Verdict::Same;
    }
    diverged(chunk.partition(), wanted, "holds another record now")
}

fn missing(chunk: &Chunk, wanted: RecordFingerprint, complete_log: bool) -> Verdict {
    if complete_log {
        diverged(chunk.partition(), wanted, "holds no record any more")
    } else {
        Verdict::Same
    }
}

fn diverged(partition: Partition, wanted: RecordFingerprint, what: &str) -> Verdict {
    Verdict::Diverged(format!(
        "LOG_DIVERGED: {partition} at offset {}, which was applied last, {what}: \
         the topic was re-created or lost its end; rebuild the version",
        wanted.offset
    ))
}

/// The index of the chunk's first record at or above `offset`; its length when there is none.
pub(crate) fn index_of(chunk: &Chunk, offset: Offset) -> usize {
    let (mut low, mut high) = (0, chunk.len());
    while low < high {
        let middle = low.midpoint(high);
        match chunk.get(middle) {
            Some(record) if record.offset < offset => low = middle + 1,
            _ => high = middle,
        }
    }
    low
}

/// Whether a mark is past the end that the log had when it was asked last. A mark that follows a
/// moving end may never stand at it when a batch is sent (ADR 38).
pub(crate) fn has_passed(next: Offset, asked_end: Option<Offset>) -> bool {
    asked_end.is_some_and(|end| next >= end)
}

/// The phase of an applying projector. One that was live stays so while it is
/// less than a batch behind, so that a moving end does not make it flicker.
pub(crate) fn phase_after(before: Phase, at_end: bool, lag: u64, batch: u64) -> Phase {
    match before {
        _ if at_end => Phase::Live,
        Phase::Live if lag <= batch => Phase::Live,
        _ => Phase::CatchingUp,
    }
}

/// Whether `now` is the log that the version was built from.
///
/// # Errors
/// What differs, in one sentence.
pub(crate) fn same_log(stored: &TopicIdentity, now: &TopicIdentity) -> Result<(), String> {
    let differs = |what: &str, stored: &str, now: &str| {
        Err(format!(
            "the version was built from {what} {stored}, but this is {what} {now}"
        ))
    };
    if stored.cluster_id != now.cluster_id {
        return differs("cluster", &stored.cluster_id, &now.cluster_id);
    }
    if stored.topic != now.topic {
        return differs("topic", &stored.topic, &now.topic);
    }
    if stored.partitions != now.partitions {
        return Err(format!(
            "topic {} had {} partitions when the version was registered and has {} now: \
             keys have moved between partitions; register a new version",
            now.topic, stored.partitions, now.partitions
        ));
    }
    match (&stored.topic_id, &now.topic_id) {
        (Some(stored), Some(now)) if stored != now => differs("topic id", stored, now),
        _ => Ok(()),
    }
}

/// The highest epoch that can be our own: the last one that was granted here, and one more for
/// each take-over of ours since whose answer was lost. A higher one belongs to another owner.
pub(crate) fn own_up_to(granted: i64, unanswered: i64) -> Option<i64> {
    (granted > 0).then_some(granted + unanswered)
}

/// When a batch is sent that is not full: the first of its partition's turns after `since`. Turns
/// come every `every`, and those of partition `nth` of `of` begin at `every * nth / of`: nothing
/// waits longer than `every`, and partitions that get their events at the same moment, as those of
/// one producer do, do not all commit at the same moment. Both times count from one start.
pub(crate) fn turn_after(since: Duration, every: Duration, (nth, of): (u32, u32)) -> Duration {
    if every.is_zero() {
        return since;
    }
    let of = of.max(1);
    let place = every / of * (nth % of);
    match since.checked_sub(place) {
        None => place,
        Some(past) => {
            let into = past.as_nanos() % every.as_nanos();
            // Below `every`, which is ten seconds at most.
            since + every - Duration::from_nanos(u64::try_from(into).unwrap_or_default())
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
