//! The bulk engine: one partition's whole history in one table.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use refold_projection::Projection;
use refold_projection::Row;

use super::BulkFold;
use super::FoldOptions;
use super::FoldReport;
use super::TupleRun;
use super::slot::Slot;
use super::slot::step;
use super::slot::walk;
use crate::batch::EventGap;
use crate::decode;
use crate::log::Chunk;
use crate::position::Offset;
use crate::sums::SumLayout;
use crate::sums::Sums;

pub(super) struct Bulk<P: Projection> {
    projection: Arc<P>,
    options: FoldOptions,
    table: HashMap<P::Key, Slot<P::Row>, RandomState>,
    heap_bytes: usize,
}

impl<P: Projection> Bulk<P> {
    pub(super) fn new(projection: Arc<P>, options: FoldOptions) -> Self {
        Self {
            projection,
            options,
            table: HashMap::default(),
            heap_bytes: 0,
        }
    }
}

impl<P: Projection> BulkFold for Bulk<P> {
    fn fold(&mut self, chunk: &Chunk, until: Offset) -> FoldReport {
        let options = self.options;
        walk(chunk, 0, usize::MAX, until, options, |record| {
            let envelope = decode::envelope(options.wire, record)?;
            let key: P::Key = decode::key(&envelope.id)?;
            let entry = self.table.entry(key);
            let key = entry.key().clone();
            let slot = entry.or_insert(Slot::ABSENT);
            let heap_before = slot.heap_bytes();
            let fresh = slot.version == 0;
            let (outcome, gap) = step(&*self.projection, slot, &envelope, &key, record.offset)?;
            self.heap_bytes += slot.heap_bytes();
            self.heap_bytes -= heap_before;
            if fresh {
                self.heap_bytes += refold_projection::Key::heap_bytes(&key);
            }
            let gap = gap.map(|expected| EventGap {
                key: refold_projection::Key::borrow(&key).to_string(),
                offset: record.offset,
                expected,
                found: envelope.version,
            });
            Ok((outcome, gap))
        })
    }

    fn memory_bytes(&self) -> usize {
        let entry = size_of::<(P::Key, Slot<P::Row>)>();
        // One control byte a slot, and the sorted run that is made of the table at the end.
        // An eighth of the slots always stays free, hence 8/7.
        let slots = self.table.capacity() * 8 / 7;
        slots * (entry + 1) + self.table.len() * entry + self.heap_bytes
    }

    fn keys(&self) -> usize {
        self.table.len()
    }

    fn into_tuples(self: Box<Self>) -> Box<dyn TupleRun> {
        let mut rows: Vec<_> = self.table.into_iter().collect();
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let layout = SumLayout::new(P::Row::COLUMNS.iter().map(|c| c.name));
        Box::new(SortedRun::<P> {
            sums: Sums::zero(&layout),
            layout,
            rows: rows.into_iter(),
            encoded: 0,
        })
    }
}

struct SortedRun<P: Projection> {
    rows: std::vec::IntoIter<(P::Key, Slot<P::Row>)>,
    layout: SumLayout,
    sums: Sums,
    encoded: u64,
}

impl<P: Projection> TupleRun for SortedRun<P> {
    fn next_tuples(&mut self, bytes: usize) -> Option<Vec<u8>> {
        if self.rows.len() == 0 {
            return None;
        }
        let mut out = Vec::with_capacity(bytes + 1024);
        while out.len() < bytes
            && let Some((key, slot)) = self.rows.next()
        {
            out.extend_from_slice(&Slot::<P::Row>::FIELDS.to_be_bytes());
            let start = out.len();
            let columns = slot.write_cells(&key, &mut out);
            if slot.row.is_some() {
                let key_cell = &out[start..columns.start];
                let cells = &out[columns];
                self.sums
                    .add_row(&self.layout, key_cell, cells, slot.version);
            }
            self.encoded += 1;
        }
        Some(out)
    }

    fn rows(&self) -> u64 {
        self.encoded
    }

    fn sums(&self) -> &Sums {
        &self.sums
    }
}
