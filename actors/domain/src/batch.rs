//! A batch: everything that one transaction commits for one partition.

use crate::log::RecordFingerprint;
use crate::parking::ParkedEvent;
use crate::position::Offset;
use crate::position::OffsetRange;
use crate::rows::EncodedRows;
use crate::sums::Sums;

/// A missing event: an aggregate's versions jump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventGap {
    /// Canonical text of the aggregate's key.
    pub key: String,
    /// Offset of the event behind the gap.
    pub offset: Offset,
    /// The version that should have come.
    pub expected: u64,
    /// The version that came.
    pub found: u64,
}

/// Rows and mark of one partition, committed together or not at all.
#[derive(Debug, Clone)]
pub struct WriteBatch {
    /// The mark moves from `range.from` (the durable one) to `range.to`.
    pub range: OffsetRange,
    /// Each changed aggregate once, sorted by key.
    pub rows: EncodedRows,
    /// The partition's sums after the batch.
    pub sums: Sums,
    /// The record that was applied last; `None` while none was ever applied.
    pub last_record: Option<RecordFingerprint>,
    /// Gaps found in this range.
    pub gaps: Vec<EventGap>,
    /// Events of this range that were put aside.
    pub parked: Vec<ParkedEvent>,
    /// Whether `range.to` is the end of the log, or past the end that it had when it was asked last.
    pub at_log_end: bool,
}

/// What becomes durable beside the rows when a bulk load commits.
#[derive(Debug, Clone)]
pub struct BulkSeal {
    /// The mark moves from the durable offset to the end of the replayed history.
    pub range: OffsetRange,
    /// Rows that were copied, tombstones included.
    pub rows: u64,
    /// The partition's sums after the load.
    pub sums: Sums,
    /// The record that was applied last.
    pub last_record: Option<RecordFingerprint>,
    /// Gaps found in this range.
    pub gaps: Vec<EventGap>,
    /// Events of this range that were put aside, and perhaps some that an earlier checkpoint
    /// holds.
    pub parked: Vec<ParkedEvent>,
    /// Whether the whole history up to the end of the log is in.
    pub at_log_end: bool,
}
