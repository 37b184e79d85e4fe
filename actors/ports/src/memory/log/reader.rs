//! The reader of the log in memory.

use std::sync::Arc;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_domain::position::Partition;

use crate::memory::log::Shared;
use crate::memory::log::State;
use crate::source::ChunkReader;
use crate::source::ReadLimit;
use crate::source::SourceError;
use crate::source::inside;

/// Reads one partition.
#[derive(Debug)]
pub(super) struct MemoryReader {
    shared: Arc<Shared>,
    partition: Partition,
    /// One past the last record that was delivered.
    position: Offset,
    /// One past what was passed: `position`, or the end behind trailing markers.
    reached: Offset,
    /// Whether the caller was told that the log ends at `reached`.
    told: bool,
    broken: Option<SourceError>,
}

/// What ended a look through the log.
enum Taken {
    /// The chunk is full, or what cannot be read lies behind its records.
    Enough,
    /// Everything up to the end is in the chunk.
    All,
}

impl MemoryReader {
    pub(super) fn new(shared: Arc<Shared>, partition: Partition, from: Offset) -> Self {
        Self {
            shared,
            partition,
            position: from,
            reached: from,
            told: false,
            broken: None,
        }
    }

    /// Moves what there is into the chunk.
    fn take(
        &mut self,
        state: &State,
        chunk: &mut Chunk,
        limit: ReadLimit,
    ) -> Result<Taken, SourceError> {
        let log = state.partition(self.partition)?;
        let ends = log.watermarks();
        inside(ends, self.partition, self.reached)?;
        for (offset, record) in log.readable(self.reached) {
            let value = record.value.as_deref();
            let size = record.key.len() + value.map_or(0, <[u8]>::len);
            let full = chunk.len() >= limit.records || chunk.bytes() + size > limit.bytes;
            let corruption = log.corruption(offset);
            if (full || corruption.is_some()) && !chunk.is_empty() {
                return Ok(Taken::Enough);
            }
            if let Some(reason) = corruption {
                return Err(SourceError::Corrupt {
                    partition: self.partition,
                    offset,
                    reason: reason.to_owned(),
                });
            }
            chunk.push(offset, record.ts_millis, &record.key, value);
            self.reached = offset.next();
        }
        self.reached = ends.high;
        Ok(Taken::All)
    }

    fn fill(
        &mut self,
        chunk: &mut Chunk,
        limit: ReadLimit,
        wait: Duration,
    ) -> Result<(), SourceError> {
        let deadline = Instant::now() + wait;
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        loop {
            if let Some(error) = state.next_failure(self.partition) {
                return Err(error);
            }
            if let Taken::Enough = self.take(&state, chunk, limit)? {
                self.told = false;
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if !chunk.is_empty() || !self.told || left.is_zero() {
                self.told = true;
                chunk.set_end_of_log(self.reached);
                return Ok(());
            }
            state = shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl ChunkReader for MemoryReader {
    fn read(
        &mut self,
        chunk: &mut Chunk,
        limit: ReadLimit,
        wait: Duration,
    ) -> Result<(), SourceError> {
        chunk.recycle(self.partition, self.position);
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let outcome = self.fill(chunk, limit, wait);
        self.position = chunk.to();
        if let Err(error) = &outcome {
            self.told = false;
            if !error.is_transient() {
                self.broken = Some(error.clone());
            }
        }
        outcome
    }
}
