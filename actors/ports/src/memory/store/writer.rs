//! The writer of a partition.

use async_trait::async_trait;
use bytes::Bytes;
use refold_domain::batch::BulkSeal;
use refold_domain::batch::WriteBatch;
use refold_domain::position::Offset;
use refold_domain::position::OffsetRange;
use refold_projection::cell::CellError;
use refold_projection::cell::CellReader;

use crate::sink::BulkTarget;
use crate::sink::Committed;
use crate::sink::Lease;
use crate::sink::PartitionWriter;
use crate::sink::StoreError;

use super::CommitFault;
use super::MemoryStore;
use super::Omission;
use super::state::Advance;
use super::state::State;
use super::state::StoredRow;

/// A writer under one epoch.
#[derive(Debug)]
pub(super) struct MemoryWriter {
    store: MemoryStore,
    lease: Lease,
    load: Option<Load>,
    /// How many rows of the checkpoint were fetched.
    fetched: usize,
    /// Nothing works any more: as after a broken connection.
    over: bool,
}

/// A bulk load that nobody sees yet.
#[derive(Debug)]
struct Load {
    to: Offset,
    target: BulkTarget,
    tuples: Vec<u8>,
    rows: Option<Vec<(Vec<u8>, StoredRow)>>,
}

impl MemoryWriter {
    pub(super) fn new(store: MemoryStore, lease: Lease) -> Self {
        Self {
            store,
            lease,
            load: None,
            fetched: 0,
            over: false,
        }
    }

    fn alive(&self) -> Result<(), StoreError> {
        if self.over {
            let reason = "this writer is over, take the partition over again";
            return Err(StoreError::Disconnected(reason.to_owned()));
        }
        self.store.lock().reach()
    }

    fn require_leaf(&self, wanted: bool) -> Result<(), StoreError> {
        let reason = match (self.load.is_some(), self.lease.has_leaf, wanted) {
            (true, ..) => "a bulk load is in progress",
            (false, true, false) => "the table exists, only batches may write it",
            (false, false, true) => "the table does not exist, only a bulk load may write it",
            (false, ..) => return Ok(()),
        };
        Err(StoreError::Refused(reason.to_owned()))
    }

    fn settle<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result {
            self.load = None;
            self.over |= !matches!(
                error,
                StoreError::Retry(_) | StoreError::CutAt { .. } | StoreError::DiskFull(_)
            );
        }
        result
    }

    fn apply(&mut self, batch: &WriteBatch) -> Result<Committed, StoreError> {
        self.alive()?;
        self.require_leaf(true)?;
        let mut state = self.store.lock();
        state.fence(&self.lease, batch.range)?;
        let rows: Result<Vec<_>, _> = batch.rows.cells().map(stored_row).collect();
        let rows = rows.map_err(|e| StoreError::Refused(format!("encode the batch: {e}")))?;
        let leaf = &state.mark(self.lease.version, self.lease.partition)?.leaf;
        let refused = rows
            .iter()
            .filter(|(key, row)| leaf.get(key).is_some_and(|old| row.off <= old.off));
        let refused = refused.count();
        if refused > 0 {
            return Err(StoreError::Refused(format!(
                "the row guard refused {refused} of {} rows: the table is ahead of this writer",
                rows.len()
            )));
        }
        let step = Advance {
            range: batch.range,
            sums: &batch.sums,
            last_record: batch.last_record,
            gaps: &batch.gaps,
            parked: &batch.parked,
            at_log_end: batch.at_log_end,
        };
        let committed = finish(&mut state, &self.lease, (BulkTarget::Leaf, rows), &step);
        drop(state);
        self.follow(committed?, &step, BulkTarget::Leaf)
    }

    fn seal_load(&mut self, seal: &BulkSeal) -> Result<Committed, StoreError> {
        self.alive()?;
        let load = self.load.take().ok_or_else(not_begun)?;
        let rows = load.rows.ok_or_else(|| {
            StoreError::Refused("the seal does not fit: the copy is still open".to_owned())
        })?;
        if seal.range.to != load.to || seal.rows != rows.len() as u64 {
            return Err(StoreError::Refused(format!(
                "the seal does not fit: it counts {} rows up to {}",
                seal.rows, seal.range.to
            )));
        }
        let mut state = self.store.lock();
        if !state.lacks(Omission::LoadFence) {
            state.fence(&self.lease, seal.range)?;
        }
        let step = Advance {
            range: seal.range,
            sums: &seal.sums,
            last_record: seal.last_record,
            gaps: &seal.gaps,
            parked: &seal.parked,
            at_log_end: seal.at_log_end,
        };
        let committed = finish(&mut state, &self.lease, (load.target, rows), &step);
        drop(state);
        self.follow(committed?, &step, load.target)
    }

    /// Moves the lease behind a commit.
    fn follow(
        &mut self,
        switch: Option<Offset>,
        step: &Advance<'_>,
        target: BulkTarget,
    ) -> Result<Committed, StoreError> {
        let next = step.range.to;
        self.lease.next = next;
        self.lease.sums = step.sums.clone();
        self.lease.last_record = step.last_record.or(self.lease.last_record);
        self.lease.reached_log_end |= step.at_log_end;
        self.lease.has_leaf |= target == BulkTarget::Leaf;
        self.lease.has_checkpoint = target == BulkTarget::Checkpoint;
        self.lease.switch = switch;
        self.lease.parking.note(step.parked);
        Ok(Committed { next, switch })
    }
}

/// The commit itself, with whatever fault waits for it.
fn finish(
    state: &mut State,
    lease: &Lease,
    (target, rows): (BulkTarget, Vec<(Vec<u8>, StoredRow)>),
    step: &Advance<'_>,
) -> Result<Option<Offset>, StoreError> {
    state.commits += 1;
    let number = state.commits;
    let fault = state.faults.remove(&number);
    if state.lacks(Omission::DurableAck) {
        state.record_acks((lease.version, lease.partition), step);
    }
    if state.lacks(Omission::OneTransaction) && target == BulkTarget::Leaf {
        let mark = state.mark(lease.version, lease.partition)?;
        mark.leaf.extend(rows.iter().cloned());
    }
    match fault {
        Some(CommitFault::LostBefore) => return Err(lost()),
        Some(CommitFault::Retry) => {
            return Err(StoreError::Retry("scripted deadlock".to_owned()));
        }
        Some(CommitFault::DiskFull) => {
            return Err(StoreError::DiskFull("scripted full disk".to_owned()));
        }
        Some(CommitFault::LostAfter) | None => {}
    }
    let mark = state.mark(lease.version, lease.partition)?;
    match target {
        BulkTarget::Leaf => {
            mark.leaf.extend(rows);
            mark.has_leaf = true;
            mark.checkpoint = None;
        }
        BulkTarget::Checkpoint => {
            mark.checkpoint = Some(rows.into_iter().map(|(_, row)| row).collect());
        }
    }
    let switch = state.advance(lease, step)?;
    match fault {
        Some(_) => Err(lost()),
        None => Ok(switch),
    }
}

#[async_trait]
impl PartitionWriter for MemoryWriter {
    fn lease(&self) -> &Lease {
        &self.lease
    }

    async fn fetch(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, StoreError> {
        self.alive()?;
        let mut state = self.store.lock();
        let leaf = &state.mark(self.lease.version, self.lease.partition)?.leaf;
        let found = keys.iter().filter_map(|key| leaf.get(key));
        Ok(found.map(|row| row.cells.clone()).collect())
    }

    async fn commit(&mut self, batch: &WriteBatch) -> Result<Committed, StoreError> {
        let result = self.apply(batch);
        self.settle(result)
    }

    async fn checkpoint_rows(&mut self) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        let result = self.fetch_checkpoint();
        self.settle(result)
    }

    async fn begin_bulk(&mut self, to: Offset, target: BulkTarget) -> Result<(), StoreError> {
        let result = self.begin_load(to, target);
        self.settle(result)
    }

    async fn copy(&mut self, tuples: Bytes) -> Result<(), StoreError> {
        let result = self.alive().and_then(|()| {
            let load = self.load.as_mut().ok_or_else(not_begun)?;
            load.tuples.extend_from_slice(&tuples);
            Ok(())
        });
        self.settle(result)
    }

    async fn index(&mut self, rows: u64) -> Result<(), StoreError> {
        let result = self.index_load(rows);
        self.settle(result)
    }

    async fn seal(&mut self, seal: &BulkSeal) -> Result<Committed, StoreError> {
        let result = self.seal_load(seal);
        self.settle(result)
    }
}

/// Rows of a checkpoint that are fetched at once: few, so that tests fetch often.
const CHECKPOINT_ROWS: usize = 3;

impl MemoryWriter {
    fn fetch_checkpoint(&mut self) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        self.alive()?;
        self.require_leaf(false)?;
        let mut state = self.store.lock();
        let mark = state.mark(self.lease.version, self.lease.partition)?;
        let rows = mark.checkpoint.as_ref().ok_or_else(|| {
            StoreError::Refused(format!("{} has no checkpoint", self.lease.partition))
        })?;
        let next = rows.iter().skip(self.fetched).take(CHECKPOINT_ROWS);
        let next: Vec<_> = next.map(|row| row.cells.clone()).collect();
        self.fetched += next.len();
        if next.is_empty() {
            self.fetched = 0;
            return Ok(None);
        }
        Ok(Some(next))
    }

    fn begin_load(&mut self, to: Offset, target: BulkTarget) -> Result<(), StoreError> {
        self.alive()?;
        self.require_leaf(false)?;
        let range = OffsetRange::new(self.lease.next, to)
            .ok_or_else(|| StoreError::Fenced(format!("{to} lies below the mark")))?;
        let state = self.store.lock();
        if !state.lacks(Omission::LoadFence) {
            state.fence(&self.lease, range)?;
        }
        drop(state);
        self.load = Some(Load {
            to,
            target,
            tuples: Vec::new(),
            rows: None,
        });
        Ok(())
    }

    fn index_load(&mut self, rows: u64) -> Result<(), StoreError> {
        self.alive()?;
        let load = self.load.as_mut().ok_or_else(not_begun)?;
        let bad = |reason: String| StoreError::Refused(format!("end the copy: {reason}"));
        let loaded = split_tuples(&load.tuples).map_err(|e| bad(e.to_string()))?;
        if loaded.len() as u64 != rows {
            return Err(bad(format!("{} rows, {rows} were announced", loaded.len())));
        }
        let mut keys: Vec<_> = loaded.iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        let is_keyed = load.target == BulkTarget::Leaf;
        if is_keyed && keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(bad("a key came twice".to_owned()));
        }
        let mut state = self.store.lock();
        if is_keyed && state.lacks(Omission::HiddenLoad) {
            let mark = state.mark(self.lease.version, self.lease.partition)?;
            mark.leaf.extend(loaded.iter().cloned());
        }
        load.rows = Some(loaded);
        Ok(())
    }
}

/// Cuts a copy stream into rows.
fn split_tuples(mut tuples: &[u8]) -> Result<Vec<(Vec<u8>, StoredRow)>, CellError> {
    let mut rows = Vec::new();
    while let Some((fields, cells)) = tuples.split_first_chunk::<2>() {
        let mut reader = CellReader::new(cells);
        for _ in 0..i16::from_be_bytes(*fields) {
            reader.next_cell()?;
        }
        let (row, rest) = cells.split_at(cells.len() - reader.rest().len());
        rows.push(stored_row(row)?);
        tuples = rest;
    }
    Ok(rows)
}

/// A row by its key cell; the last cell but one is its offset.
fn stored_row(cells: &[u8]) -> Result<(Vec<u8>, StoredRow), CellError> {
    let mut reader = CellReader::new(cells);
    let key = reader.next_raw()?.to_vec();
    let mut last_two: [Option<&[u8]>; 2] = [None, None];
    while !reader.rest().is_empty() {
        last_two = [last_two[1], reader.next_cell()?];
    }
    let off = last_two[0].and_then(|bytes| bytes.try_into().ok());
    let off = off.ok_or_else(|| reader.error("no offset in front of the last cell"))?;
    let row = StoredRow {
        cells: cells.to_vec(),
        off: i64::from_be_bytes(off),
    };
    Ok((key, row))
}

fn lost() -> StoreError {
    StoreError::Disconnected("scripted loss of the connection in a commit".to_owned())
}

fn not_begun() -> StoreError {
    StoreError::Refused("no bulk load was begun".to_owned())
}
