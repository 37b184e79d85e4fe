//! What a harness looks at behind the ports' back.

use std::collections::BTreeMap;

use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::sums::Sums;
use refold_domain::version::VersionId;

use super::MemoryStore;

/// A partition of a version, as it is durable now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenPlace {
    /// The epoch of its owner.
    pub epoch: i64,
    /// Where its history begins, inclusive.
    pub start: Offset,
    /// The mark, exclusive.
    pub next: Offset,
    /// The sums beside the mark.
    pub sums: Sums,
    /// Whether its leaf exists.
    pub has_leaf: bool,
    /// Whether rows of a history that is still being folded are kept.
    pub has_checkpoint: bool,
    /// Gaps that were found in it.
    pub gaps: usize,
    /// Offsets of the events of it that were put aside.
    pub parked: Vec<Offset>,
    /// The cells of its rows, of the checkpoint while there is no leaf.
    pub rows: Vec<Vec<u8>>,
    /// Rows of the leaf, whether it exists or not.
    pub leaf_rows: usize,
}

impl MemoryStore {
    /// A partition of a version; `None` before its first take-over.
    pub fn place(&self, version: VersionId, partition: Partition) -> Option<SeenPlace> {
        let state = self.lock();
        let mark = state.marks.get(&(version, partition))?;
        let checkpoint = mark.checkpoint.as_ref().filter(|_| !mark.has_leaf);
        let rows = match checkpoint {
            Some(rows) => rows.iter().map(|row| row.cells.clone()).collect(),
            None => mark.leaf.values().map(|row| row.cells.clone()).collect(),
        };
        Some(SeenPlace {
            epoch: mark.epoch,
            start: mark.start,
            next: mark.next,
            sums: mark.sums.clone(),
            has_leaf: mark.has_leaf,
            has_checkpoint: mark.checkpoint.is_some(),
            gaps: mark.gaps.len(),
            parked: mark.parked.keys().copied().collect(),
            rows,
            leaf_rows: mark.leaf.len(),
        })
    }

    /// The sums that were recorded at a barrier.
    pub fn acks(&self, barrier: i64) -> BTreeMap<(VersionId, Partition), Sums> {
        let state = self.lock();
        let found = state.barriers.get(&barrier);
        found.map(|b| b.acks.clone()).unwrap_or_default()
    }

    /// Takes back the faults of commits that did not come.
    pub fn forgive_commits(&self) {
        self.lock().faults.clear();
    }
}
