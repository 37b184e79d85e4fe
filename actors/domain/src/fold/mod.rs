//! Fold: the engine that turns chunks of a partition into rows.
//!
//! Two engines share one table. [`BulkFold`] folds a partition's whole history
//! and hands the rows out sorted, once. [`ApplyFold`] folds batches on top of
//! rows that it fetched, and hands out the rows that changed. Both guard every
//! event by its row's position, so that an overlap of any length changes nothing.

mod apply;
mod bulk;
#[cfg(test)]
mod bulk_tests;
mod class;
#[cfg(test)]
mod json_tests;
mod memory;
mod slot;
mod table;
#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod tests;
mod witness;
#[cfg(test)]
mod witness_tests;

use std::sync::Arc;

use refold_projection::Projection;

pub use witness::Keys;
pub use witness::WitnessFold;
pub use witness::WitnessRow;

use crate::batch::EventGap;
use crate::log::Chunk;
use crate::log::RecordFingerprint;
use crate::position::Offset;
use crate::rows::EncodedRows;
use crate::spec::ProjectionSpec;
use crate::sums::SumLayout;
use crate::sums::Sums;

/// How a topic's records are to be folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoldOptions {
    /// Wire form of the topic's envelopes.
    pub wire: crate::decode::WireFormat,
    /// Whether the log holds every event of every aggregate, so that a jump in
    /// an aggregate's versions is a gap. Off for compacted topics.
    pub complete_log: bool,
}

/// An event that cannot be applied. Folding stops in front of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// Its offset.
    pub offset: Offset,
    /// One sentence.
    pub reason: String,
}

/// What a call of `fold` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldReport {
    /// Index in the chunk of the first record that was not folded.
    pub index: usize,
    /// The mark after the folded records, exclusive. When the next record lies
    /// at or above the limit, the mark is the limit itself.
    pub next: Offset,
    /// The last record that was folded.
    pub last_record: Option<RecordFingerprint>,
    /// Events that changed or confirmed a row.
    pub applied: u64,
    /// Events at or below their row's position.
    pub duplicates: u64,
    /// Events of types that the projection does not handle.
    pub unhandled: u64,
    /// Gaps found.
    pub gaps: Vec<EventGap>,
    /// The event that folding stopped at, if any.
    pub halt: Option<Halt>,
}

impl FoldReport {
    /// Nothing folded yet; the mark stands behind the record in front of index `start`.
    fn before(chunk: &Chunk, start: usize) -> Self {
        let before = start.checked_sub(1).and_then(|i| chunk.get(i));
        Self {
            index: start,
            next: before.map_or(chunk.from(), |record| record.offset.next()),
            last_record: None,
            applied: 0,
            duplicates: 0,
            unhandled: 0,
            gaps: Vec::new(),
            halt: None,
        }
    }

    /// Takes the print of the last record of `chunk` that was folded.
    fn close(mut self, chunk: &Chunk) -> Self {
        let last = self.index.checked_sub(1).and_then(|at| chunk.get(at));
        self.last_record = last.map(|record| record.fingerprint());
        self
    }
}

/// The rows of a finished bulk fold, in key order.
pub trait TupleRun: Send {
    /// Encodes the next rows, about `bytes` of them, as `COPY` tuples; `None` after the last.
    fn next_tuples(&mut self, bytes: usize) -> Option<Vec<u8>>;

    /// Rows encoded so far, tombstones included.
    fn rows(&self) -> u64;

    /// The sums of the rows encoded so far.
    fn sums(&self) -> &Sums;

    /// An empty fold for keys that were given up, which has to see the same
    /// history from its start to the same end; `None` when all keys are out. Its
    /// rows and sums go on counting where these end.
    fn rest(self: Box<Self>) -> Option<Box<dyn BulkFold>>;
}

/// How far a snapshot of a fold that goes on was handed out.
#[derive(Debug, Clone)]
pub struct SnapshotRun {
    /// Rows encoded so far, tombstones included.
    pub rows: u64,
    /// The sums of the rows encoded so far.
    pub sums: Sums,
    layout: SumLayout,
}

impl SnapshotRun {
    /// Nothing handed out yet.
    pub fn new(spec: &ProjectionSpec) -> Self {
        let layout = spec.sum_layout();
        Self {
            rows: 0,
            sums: Sums::zero(&layout),
            layout,
        }
    }
}

/// Folds one partition's history in memory.
pub trait BulkFold: Send {
    /// Folds the chunk's records from index `start` on and below `until`.
    fn fold(&mut self, chunk: &Chunk, start: usize, until: Offset) -> FoldReport;

    /// Bytes that the fold holds and will hold while its rows are handed out:
    /// the table as allocated, the order of its keys, and what keys and rows own.
    fn memory_bytes(&self) -> usize;

    /// Aggregates in the table.
    fn keys(&self) -> usize;

    /// Drops half of the keys and gives their memory back; a later fold takes
    /// them, see [`TupleRun::rest`]. Everything below `next` was folded. `false`,
    /// and nothing changes, when there is no half to give.
    fn give_up_half(&mut self, next: Offset) -> bool;

    /// Whether the table holds every key of the history so far.
    fn is_whole(&self) -> bool;

    /// Puts rows of an earlier fold of the same history into the table: `COPY`
    /// tuples' cells, without the field count.
    ///
    /// # Errors
    /// One sentence when a row is not what the projection declares.
    fn load(&mut self, rows: &[Vec<u8>]) -> Result<(), String>;

    /// Encodes the next rows, about `bytes` of them, in no order, and leaves the
    /// fold as it is; `None` after the last. Fold nothing between two calls of one run.
    fn next_snapshot_tuples(&self, bytes: usize, run: &mut SnapshotRun) -> Option<Vec<u8>>;

    /// Sorts the rows and hands them out.
    fn into_tuples(self: Box<Self>) -> Box<dyn TupleRun>;
}

/// Folds batches on top of stored rows. Between two commits:
/// `missing` -> fetch -> `load` -> `fold` (any number of times) -> `writes`
/// -> commit -> `accept` or `rollback`.
pub trait ApplyFold: Send {
    /// The key cells of the chunk's records, from index `start` and below
    /// `until`, whose rows are not in the cache; each once.
    fn missing(&mut self, chunk: &Chunk, start: usize, until: Offset) -> Vec<Vec<u8>>;

    /// Puts fetched rows into the cache. Keys that were asked for and are not
    /// among the rows are remembered as absent.
    ///
    /// # Errors
    /// One sentence when a row cannot be decoded: the table is not what the projection declares.
    fn load(&mut self, asked: &[Vec<u8>], rows: &[Vec<u8>]) -> Result<(), String>;

    /// Folds at most `events` records from index `start`, below `until`.
    fn fold(&mut self, chunk: &Chunk, start: usize, events: usize, until: Offset) -> FoldReport;

    /// Aggregates changed since the last `accept`.
    fn dirty(&self) -> usize;

    /// The changed rows, sorted by key, and the partition's sums after them.
    fn writes(&mut self) -> (EncodedRows, Sums);

    /// The writes are durable.
    fn accept(&mut self);

    /// The writes are not in: every row is as it was at the last `accept`.
    fn rollback(&mut self);

    /// Bytes that the cache holds.
    fn memory_bytes(&self) -> usize;
}

/// A projection without its types.
pub trait AnyProjection: Send + Sync + std::fmt::Debug {
    /// What it declares.
    fn spec(&self) -> &ProjectionSpec;

    /// An engine for a partition without rows.
    fn bulk_fold(&self, options: FoldOptions) -> Box<dyn BulkFold>;

    /// An engine for a partition whose rows sum to `sums`, which keeps at most
    /// about `cache_bytes` of rows between batches.
    fn apply_fold(
        &self,
        options: FoldOptions,
        sums: Sums,
        cache_bytes: usize,
    ) -> Box<dyn ApplyFold>;

    /// A fold that shares nothing with the engines but the author's code, for some of the
    /// keys.
    fn witness(&self, keys: Keys) -> Box<dyn WitnessFold>;
}

/// Forgets a projection's types, so that a process can hold several.
pub fn erase<P: Projection>(projection: P) -> Arc<dyn AnyProjection> {
    Arc::new(Erased {
        projection: Arc::new(projection),
        spec: ProjectionSpec::of::<P>(),
    })
}

struct Erased<P> {
    projection: Arc<P>,
    spec: ProjectionSpec,
}

impl<P> std::fmt::Debug for Erased<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Erased").field("spec", &self.spec).finish()
    }
}

impl<P: Projection> AnyProjection for Erased<P> {
    fn spec(&self) -> &ProjectionSpec {
        &self.spec
    }

    fn bulk_fold(&self, options: FoldOptions) -> Box<dyn BulkFold> {
        let projection = Arc::clone(&self.projection);
        Box::new(bulk::Bulk::new(projection, options))
    }

    fn apply_fold(
        &self,
        options: FoldOptions,
        sums: Sums,
        cache_bytes: usize,
    ) -> Box<dyn ApplyFold> {
        let projection = Arc::clone(&self.projection);
        Box::new(apply::Apply::new(projection, options, sums, cache_bytes))
    }

    fn witness(&self, keys: Keys) -> Box<dyn WitnessFold> {
        Box::new(witness::Witness::new(Arc::clone(&self.projection), keys))
    }
}
