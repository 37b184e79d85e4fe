//! The apply engine: batches on top of rows that the table holds.

#[cfg(test)]
mod heap_tests;

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::HashSet;
use refold_projection::Key;
use refold_projection::Projection;
use refold_projection::Row;
use refold_projection::cell::CellError;
use refold_projection::cell::CellReader;

use super::ApplyFold;
use super::FoldOptions;
use super::FoldReport;
use super::slot::Incoming;
use super::slot::Slot;
use super::slot::load_cells;
use super::slot::read_key;
use super::slot::step;
use super::slot::walk;
use crate::batch::EventGap;
use crate::decode;
use crate::log::Chunk;
use crate::position::Offset;
use crate::rows::EncodedRows;
use crate::sums::SumLayout;
use crate::sums::Sums;

pub(super) struct Apply<P: Projection> {
    projection: Arc<P>,
    options: FoldOptions,
    /// What the table holds, as far as it was fetched, with the batch's changes on top.
    /// An absent slot is a row that is known not to exist.
    cache: HashMap<P::Key, Slot<P::Row>, RandomState>,
    /// Each aggregate that the batch changed, as it was before.
    undo: HashMap<P::Key, Slot<P::Row>, RandomState>,
    layout: SumLayout,
    /// Sums at the last accept.
    sums: Sums,
    /// Sums with the batch, once `writes` computed them.
    pending: Option<Sums>,
    heap_bytes: usize,
    cache_bytes: usize,
}

impl<P: Projection> Apply<P> {
    pub(super) fn new(
        projection: Arc<P>,
        options: FoldOptions,
        sums: Sums,
        cache_bytes: usize,
    ) -> Self {
        Self {
            projection,
            options,
            cache: HashMap::default(),
            undo: HashMap::default(),
            layout: SumLayout::new(P::Row::COLUMNS.iter().map(|c| c.name)),
            sums,
            pending: None,
            heap_bytes: 0,
            cache_bytes,
        }
    }

    fn load_row(&mut self, cells: &[u8]) -> Result<(), CellError> {
        let (key, slot): (P::Key, _) = load_cells(cells)?;
        self.heap_bytes += slot.heap_bytes();
        let key_bytes = Key::heap_bytes(&key);
        if self.cache.insert(key, slot).is_none() {
            self.heap_bytes += key_bytes;
        }
        Ok(())
    }
}

impl<P: Projection> ApplyFold for Apply<P> {
    fn missing(&mut self, chunk: &Chunk, start: usize, until: Offset) -> Vec<Vec<u8>> {
        let mut asked: HashSet<P::Key, RandomState> = HashSet::default();
        let records = (start..chunk.len()).filter_map(|i| chunk.get(i));
        let mut out = Vec::new();
        for record in records.take_while(|record| record.offset < until) {
            // What cannot be decoded halts the fold later, with its reason.
            let Ok(envelope) = decode::envelope(self.options.wire, &record) else {
                break;
            };
            let Ok(key) = decode::key::<P::Key>(&envelope.id) else {
                break;
            };
            if !self.cache.contains_key(&key) && !asked.contains(&key) {
                let mut cell = Vec::with_capacity(20);
                key.borrow().write_cell(&mut cell);
                out.push(cell);
                asked.insert(key);
            }
        }
        out
    }

    fn load(&mut self, asked: &[Vec<u8>], rows: &[Vec<u8>]) -> Result<(), String> {
        let wrong = |error: CellError| format!("a stored row is not what was declared: {error}");
        for cell in asked {
            let key: P::Key = read_key(&mut CellReader::new(cell)).map_err(wrong)?;
            self.heap_bytes += Key::heap_bytes(&key);
            self.cache.entry(key).or_insert(Slot::ABSENT);
        }
        for row in rows {
            self.load_row(row).map_err(wrong)?;
        }
        Ok(())
    }

    fn fold(&mut self, chunk: &Chunk, start: usize, events: usize, until: Offset) -> FoldReport {
        let options = self.options;
        self.pending = None;
        walk(chunk, start, events, until, options, |record| {
            let incoming = Incoming::read(decode::envelope(options.wire, record)?);
            let key: P::Key = decode::key(&incoming.envelope.id)?;
            let Some(slot) = self.cache.get_mut(&key) else {
                return Err("the row was not fetched before it was folded".to_owned());
            };
            // A copy of a text may own less than the text does.
            let (before, heap_before) = (slot.clone(), slot.heap_bytes());
            let (outcome, gap) = step(&*self.projection, slot, &incoming, &key, record.offset)?;
            self.heap_bytes = self.heap_bytes + slot.heap_bytes() - heap_before;
            if slot.offset != before.offset {
                self.undo.entry(key.clone()).or_insert(before);
            }
            let gap = gap.map(|expected| EventGap {
                key: key.borrow().to_string(),
                offset: record.offset,
                expected,
                found: incoming.envelope.version,
            });
            Ok((outcome, gap))
        })
    }

    fn dirty(&self) -> usize {
        self.undo.len()
    }

    fn writes(&mut self) -> (EncodedRows, Sums) {
        let mut keys: Vec<&P::Key> = self.undo.keys().collect();
        keys.sort_unstable();
        let mut rows = EncodedRows::new();
        let mut sums = self.sums.clone();
        for key in keys {
            let (Some(before), Some(after)) = (self.undo.get(key), self.cache.get(key)) else {
                continue;
            };
            before.sum(&self.layout, key, &mut sums, true);
            after.sum(&self.layout, key, &mut sums, false);
            rows.push_with(Slot::<P::Row>::FIELDS, |out| {
                after.write_cells(key, out);
            });
        }
        self.pending = Some(sums.clone());
        (rows, sums)
    }

    fn accept(&mut self) {
        if let Some(sums) = self.pending.take() {
            self.sums = sums;
        }
        self.undo.clear();
        if self.memory_bytes() > self.cache_bytes {
            // The hot keys come back with the next batch; an order of use per
            // key would cost more than the one fetch that it saves.
            self.cache = HashMap::default();
            self.heap_bytes = 0;
        }
    }

    fn rollback(&mut self) {
        self.pending = None;
        for (key, before) in self.undo.drain() {
            if let Some(slot) = self.cache.get_mut(&key) {
                self.heap_bytes = self.heap_bytes + before.heap_bytes() - slot.heap_bytes();
                *slot = before;
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        self.cache.allocation_size() + self.undo.allocation_size() + self.heap_bytes
    }
}
