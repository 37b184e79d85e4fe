//! One partition of the log in memory.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use refold_domain::log::Watermarks;
use refold_domain::position::Offset;

use crate::memory::log::NewRecord;
use crate::source::SourceError;

/// Names an open transaction of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TransactionId(u64);

#[derive(Debug)]
struct Entry {
    record: NewRecord,
    transaction: Option<TransactionId>,
}

/// Records by offset between `low`, inclusive, and `end`, exclusive.
#[derive(Debug, Default)]
pub(super) struct PartitionLog {
    low: Offset,
    end: Offset,
    entries: BTreeMap<Offset, Entry>,
    corrupt: BTreeMap<Offset, String>,
    /// First offset of every open transaction; `None` before its first record.
    open: BTreeMap<TransactionId, Option<Offset>>,
    transactions: u64,
    failing_reads: VecDeque<SourceError>,
}

impl PartitionLog {
    pub(super) fn append(
        &mut self,
        record: NewRecord,
        transaction: Option<TransactionId>,
    ) -> Offset {
        let offset = self.end;
        if let Some(id) = transaction {
            match self.open.get_mut(&id) {
                Some(first) => *first = first.or(Some(offset)),
                None => panic!("transaction {id:?} is not open"),
            }
        }
        self.entries.insert(
            offset,
            Entry {
                record,
                transaction,
            },
        );
        self.end = offset.next();
        offset
    }

    pub(super) fn append_hole(&mut self, count: u64) {
        self.end.0 += i64::try_from(count).expect("a hole is shorter than a log can be");
    }

    pub(super) fn compact_away(&mut self, offset: Offset) {
        self.entries.remove(&offset);
    }

    pub(super) fn begin(&mut self) -> TransactionId {
        self.transactions += 1;
        let id = TransactionId(self.transactions);
        self.open.insert(id, None);
        id
    }

    pub(super) fn end(&mut self, transaction: TransactionId, committed: bool) {
        let known = self.open.remove(&transaction);
        assert!(known.is_some(), "transaction {transaction:?} is not open");
        if !committed {
            self.entries
                .retain(|_, entry| entry.transaction != Some(transaction));
        }
        self.append_hole(1);
    }

    pub(super) fn delete_below(&mut self, low: Offset) {
        assert!(low <= self.end, "the log ends at {}", self.end);
        self.low = self.low.max(low);
        self.entries = self.entries.split_off(&self.low);
    }

    pub(super) fn lose_from(&mut self, high: Offset) {
        assert!(self.low <= high, "the log starts at {}", self.low);
        self.end = self.end.min(high);
        self.entries.split_off(&high);
    }

    pub(super) fn corrupt(&mut self, offset: Offset, reason: String) {
        self.corrupt.insert(offset, reason);
    }

    pub(super) fn fail_reads(&mut self, times: usize, error: &SourceError) {
        let errors = std::iter::repeat_n(error.clone(), times);
        self.failing_reads.extend(errors);
    }

    pub(super) fn next_failure(&mut self) -> Option<SourceError> {
        self.failing_reads.pop_front()
    }

    /// The start, and the end of what may be delivered.
    pub(super) fn watermarks(&self) -> Watermarks {
        let pinned = self.open.values().flatten().min();
        Watermarks {
            low: self.low,
            high: pinned.copied().unwrap_or(self.end),
        }
    }

    /// The records that may be delivered from `from` on.
    pub(super) fn readable(&self, from: Offset) -> impl Iterator<Item = (Offset, &NewRecord)> {
        let high = self.watermarks().high;
        self.entries
            .range(from..high.max(from))
            .map(|(offset, entry)| (*offset, &entry.record))
    }

    /// Why the record at `offset` cannot be read, if it cannot.
    pub(super) fn corruption(&self, offset: Offset) -> Option<&str> {
        self.corrupt.get(&offset).map(String::as_str)
    }
}
