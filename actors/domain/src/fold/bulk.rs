//! The bulk engine: one partition's whole history in one table.
//!
//! A chunk is folded in groups, two of them under way at a time:
//!
//! ```text
//! decode group n+1 | fetch its index words | fold group n | fetch the entries of n+1 | ...
//! ```
//! so that the memory has the time of a whole pass to answer. What is fetched is
//! asked for in loops of its own: most of it misses the address cache too, and only
//! misses that follow closely on each other are looked up side by side.

#[cfg(test)]
mod heap_tests;

use std::sync::Arc;

use foldhash::fast::RandomState;
use refold_projection::Key;
use refold_projection::Projection;
use refold_projection::Row;

use super::BulkFold;
use super::FoldOptions;
use super::FoldReport;
use super::Halt;
use super::TupleRun;
use super::class::KeyClass;
use super::slot::Incoming;
use super::slot::Slot;
use super::slot::Step;
use super::slot::load_cells;
use super::slot::step;
use super::table::Entry;
use super::table::SortedPlaces;
use super::table::Table;
use crate::batch::EventGap;
use crate::log::Chunk;
use crate::log::Record;
use crate::position::Offset;
use crate::sums::SumLayout;
use crate::sums::Sums;

/// Events of a group: enough for the memory to answer before its turn comes,
/// few enough that what was decoded is still in the first-level cache.
const GROUP: usize = 24;

pub(super) struct Bulk<P: Projection> {
    projection: Arc<P>,
    options: FoldOptions,
    table: Table<P::Key, P::Row>,
    heap_bytes: usize,
    /// The keys that this fold takes.
    class: KeyClass,
    /// The keys that it gave up, for later folds.
    given_up: Vec<KeyClass>,
    /// Whether this is the first fold of the history: it meets every event that
    /// cannot be decoded, whoever's it is, so that a later one meets none.
    first: bool,
    /// Rows and sums that earlier folds of this history handed out.
    handed_out: (u64, Sums),
}

/// Events that were decoded together, and why there are no more of them.
struct Group<'a, K> {
    /// Places for a whole group; the first `keys.len()` are taken.
    events: Vec<Prepared<'a>>,
    keys: Vec<K>,
    end: GroupEnd,
}

/// A decoded event with what the table needs of it.
#[derive(Clone)]
struct Prepared<'a> {
    offset: Offset,
    hash: u64,
    /// Whether the key is of this fold's class.
    own: bool,
    incoming: Incoming<'a>,
}

/// Why a group ended where it did.
enum GroupEnd {
    Full,
    ChunkEnd,
    Limit,
    Halt(Halt),
}

impl<K> Group<'_, K> {
    fn new() -> Self {
        let vacant = Prepared {
            offset: Offset(0),
            hash: 0,
            own: false,
            incoming: Incoming::NONE,
        };
        Self {
            events: vec![vacant; GROUP],
            keys: Vec::with_capacity(GROUP),
            end: GroupEnd::ChunkEnd,
        }
    }

    fn len(&self) -> usize {
        self.keys.len()
    }

    /// The hashes of the keys that this fold takes.
    fn own_hashes(&self) -> impl Iterator<Item = u64> {
        let events = self.events[..self.len()].iter();
        events.filter(|event| event.own).map(|event| event.hash)
    }
}

impl<P: Projection> Bulk<P> {
    pub(super) fn new(projection: Arc<P>, options: FoldOptions) -> Self {
        let layout = SumLayout::new(P::Row::COLUMNS.iter().map(|c| c.name));
        Self {
            projection,
            options,
            table: Table::new(RandomState::default()),
            heap_bytes: 0,
            class: KeyClass::ALL,
            given_up: Vec::new(),
            first: true,
            handed_out: (0, Sums::zero(&layout)),
        }
    }

    /// Decodes an event to its place in a group.
    #[inline(always)]
    fn prepare<'a>(&self, record: &Record<'a>, to: &mut Prepared<'a>) -> Result<P::Key, String> {
        let key = to.incoming.take::<P>(self.options.wire, record)?;
        to.offset = record.offset;
        to.hash = self.table.hash(&key);
        to.own = self.class.has(to.hash);
        Ok(key)
    }

    /// Decodes the records from `start` on, at most a group of them, and has
    /// their index words fetched.
    fn prepare_group<'a>(
        &self,
        chunk: &'a Chunk,
        start: usize,
        until: Offset,
        group: &mut Group<'a, P::Key>,
    ) {
        group.keys.clear();
        group.end = self.decode_group(chunk, start, until, group);
        for hash in group.own_hashes() {
            self.table.prefetch_index(hash);
        }
    }

    #[inline]
    fn decode_group<'a>(
        &self,
        chunk: &'a Chunk,
        start: usize,
        until: Offset,
        group: &mut Group<'a, P::Key>,
    ) -> GroupEnd {
        for (at, place) in group.events.iter_mut().enumerate() {
            let Some(record) = chunk.get(start + at) else {
                return GroupEnd::ChunkEnd;
            };
            if record.offset >= until {
                return GroupEnd::Limit;
            }
            match self.prepare(&record, place) {
                Ok(key) => group.keys.push(key),
                Err(reason) => {
                    let offset = record.offset;
                    return GroupEnd::Halt(Halt { offset, reason });
                }
            }
        }
        GroupEnd::Full
    }

    /// Folds a group's events in order.
    fn apply_group(
        &mut self,
        group: &Group<'_, P::Key>,
        report: &mut FoldReport,
    ) -> Result<(), Halt> {
        for (key, prepared) in group.keys.iter().zip(&group.events) {
            let offset = prepared.offset;
            self.apply(key, prepared, report)
                .map_err(|reason| Halt { offset, reason })?;
            report.index += 1;
            report.next = offset.next();
        }
        Ok(())
    }

    #[inline]
    fn apply(
        &mut self,
        key: &P::Key,
        prepared: &Prepared<'_>,
        report: &mut FoldReport,
    ) -> Result<(), String> {
        let Prepared {
            offset,
            hash,
            own,
            incoming,
        } = prepared;
        if !own {
            return self.check_foreign(incoming);
        }
        let (Entry { slot, .. }, fresh) = self.table.find_or_insert(key, *hash);
        let heap_before = slot.heap_bytes();
        let (outcome, gap) = match step(&*self.projection, slot, incoming, key, *offset) {
            Ok(step) => step,
            Err(reason) => {
                // An aggregate that no event was folded of has no row, not even a deleted one.
                if fresh {
                    self.table.take_back(*hash);
                }
                return Err(reason);
            }
        };
        self.heap_bytes = self.heap_bytes + slot.heap_bytes() - heap_before;
        if fresh {
            self.heap_bytes += key.heap_bytes();
        }
        if *offset < self.class.counted_below() {
            return Ok(());
        }
        match outcome {
            Step::Applied => report.applied += 1,
            Step::Duplicate => report.duplicates += 1,
            Step::Unhandled => report.unhandled += 1,
        }
        if let Some(expected) = gap
            && self.options.complete_log
        {
            report.gaps.push(EventGap {
                key: key.borrow().to_string(),
                offset: *offset,
                expected,
                found: incoming.envelope.version,
            });
        }
        Ok(())
    }

    /// An event of another fold's key: only whether it can be decoded at all
    /// matters, because the history of all keys ends in front of one that cannot.
    fn check_foreign(&self, incoming: &Incoming<'_>) -> Result<(), String> {
        if !self.first {
            return Ok(());
        }
        if P::HANDLES.contains(&&*incoming.envelope.kind) {
            return incoming.try_decode::<P>();
        }
        incoming.check()
    }
}

impl<P: Projection> BulkFold for Bulk<P> {
    fn fold(&mut self, chunk: &Chunk, start: usize, until: Offset) -> FoldReport {
        let mut report = FoldReport::before(chunk, start);
        let mut group = Group::new();
        let mut ahead = Group::new();
        self.prepare_group(chunk, start, until, &mut group);
        loop {
            let start = report.index + group.len();
            // Behind a group that ended the chunk or the range there is none.
            let goes_on = matches!(group.end, GroupEnd::Full);
            if goes_on {
                self.prepare_group(chunk, start, until, &mut ahead);
            }
            if let Err(halt) = self.apply_group(&group, &mut report) {
                report.halt = Some(halt);
                return report.close(chunk);
            }
            if !goes_on {
                break;
            }
            for hash in ahead.own_hashes() {
                self.table.prefetch_entry(hash);
            }
            std::mem::swap(&mut group, &mut ahead);
        }
        match group.end {
            GroupEnd::Full | GroupEnd::ChunkEnd => {}
            // Nothing lies between the last record and the next one, so the mark
            // may stand on the limit even when no record ends there.
            GroupEnd::Limit => report.next = report.next.max(until),
            GroupEnd::Halt(halt) => report.halt = Some(halt),
        }
        report.close(chunk)
    }

    fn memory_bytes(&self) -> usize {
        let order = SortedPlaces::bytes_for(self.table.len());
        let table = self.table.bytes().saturating_add(order);
        table.saturating_add(self.heap_bytes)
    }

    fn keys(&self) -> usize {
        self.table.len()
    }

    fn give_up_half(&mut self, next: Offset) -> bool {
        let Some((kept, given_up)) = self.class.halves(next) else {
            return false;
        };
        self.class = kept;
        self.given_up.push(given_up);
        let mut freed = 0;
        self.table.retain(
            |hash| kept.has(hash),
            |entry| freed += entry.slot.heap_bytes() + entry.key.heap_bytes(),
        );
        self.heap_bytes -= freed;
        true
    }

    fn is_whole(&self) -> bool {
        self.first && self.given_up.is_empty()
    }

    fn load(&mut self, rows: &[Vec<u8>]) -> Result<(), String> {
        for cells in rows {
            let (key, loaded): (P::Key, _) = load_cells(cells)
                .map_err(|e| format!("a stored row is not what was declared: {e}"))?;
            let hash = self.table.hash(&key);
            if !self.class.has(hash) {
                continue;
            }
            let (entry, fresh) = self.table.find_or_insert(&key, hash);
            self.heap_bytes += loaded.heap_bytes();
            self.heap_bytes -= entry.slot.heap_bytes();
            entry.slot = loaded;
            if fresh {
                self.heap_bytes += key.heap_bytes();
            }
        }
        Ok(())
    }

    fn next_snapshot_tuples(&self, bytes: usize, run: &mut super::SnapshotRun) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(bytes + 1024);
        for entry in self.table.entries_from(run.rows as usize) {
            write_tuple(entry, &run.layout, &mut run.sums, &mut out);
            run.rows += 1;
            if out.len() >= bytes {
                break;
            }
        }
        (!out.is_empty()).then_some(out)
    }

    fn into_tuples(self: Box<Self>) -> Box<dyn TupleRun> {
        let layout = SumLayout::new(P::Row::COLUMNS.iter().map(|c| c.name));
        Box::new(SortedRun::<P> {
            places: self.table.sorted(),
            layout,
            fold: *self,
        })
    }
}

/// Appends a row as a tuple and adds it to the sums.
fn write_tuple<K: Key, R: Row>(
    entry: &Entry<K, R>,
    layout: &SumLayout,
    sums: &mut Sums,
    out: &mut Vec<u8>,
) {
    let Entry { key, slot } = entry;
    out.extend_from_slice(&Slot::<R>::FIELDS.to_be_bytes());
    let start = out.len();
    let columns = slot.write_cells(key, out);
    if slot.row.is_some() {
        let key_cell = &out[start..columns.start];
        sums.add_row(layout, key_cell, &out[columns], slot.version);
    }
}

struct SortedRun<P: Projection> {
    places: SortedPlaces,
    layout: SumLayout,
    fold: Bulk<P>,
}

impl<P: Projection> TupleRun for SortedRun<P> {
    fn next_tuples(&mut self, bytes: usize) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(bytes + 1024);
        let (rows, sums) = &mut self.fold.handed_out;
        while out.len() < bytes
            && let Some(entry) = self.places.next_of(&self.fold.table)
        {
            write_tuple(entry, &self.layout, sums, &mut out);
            *rows += 1;
        }
        (!out.is_empty()).then_some(out)
    }

    fn rows(&self) -> u64 {
        self.fold.handed_out.0
    }

    fn sums(&self) -> &Sums {
        &self.fold.handed_out.1
    }

    fn rest(self: Box<Self>) -> Option<Box<dyn BulkFold>> {
        let mut fold = self.fold;
        let class = fold.given_up.pop()?;
        let hasher = fold.table.hasher().clone();
        // The old table goes before the new one comes.
        fold.table = Table::new(hasher);
        fold.heap_bytes = 0;
        fold.class = class;
        fold.first = false;
        Some(Box::new(fold))
    }
}
