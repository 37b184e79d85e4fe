//! Point reads: version and row are resolved under one lock, as one statement
//! resolves them in one snapshot.

use std::time::Duration;

use async_trait::async_trait;
use refold_domain::partitioner::partition_of;
use refold_domain::position::Offset;
use refold_domain::position::Partition;

use crate::registry::MarkedAnswer;
use crate::registry::ReadAnswer;
use crate::registry::ReadError;
use crate::registry::ReadModel;

use super::MemoryStore;
use super::render::render_row;

/// Between two looks at a mark that somebody waits for.
const LOOK: Duration = Duration::from_millis(2);

#[async_trait]
impl ReadModel for MemoryStore {
    async fn read(&self, name: &str, key: &str) -> Result<ReadAnswer, ReadError> {
        Ok(self.read_marked(name, key).await?.answer)
    }

    async fn read_marked(&self, name: &str, key: &str) -> Result<MarkedAnswer, ReadError> {
        let state = self.lock();
        let away = |e: String| ReadError::Unavailable(e);
        state.reach().map_err(|e| away(e.to_string()))?;
        let nobody = || ReadError::NoActiveVersion(name.to_owned());
        let active = state.active.get(name).ok_or_else(nobody)?;
        let version = state.versions.get(&active.version).ok_or_else(nobody)?;
        let key = version.spec.key_type.parse(key);
        let key = key.map_err(|e| ReadError::BadKey(e.to_string()))?;
        let text = key.to_string();
        let partition = partition_of(text.as_bytes(), version.row.log.partitions);
        let mut cell = Vec::new();
        key.write_cell(&mut cell);
        let mark = state.marks.get(&(active.version, partition));
        let row = match mark.and_then(|mark| mark.leaf.get(&cell)) {
            None => None,
            Some(row) => render_row(&version.spec, &row.cells).map_err(|e| away(e.to_string()))?,
        };
        let answer = ReadAnswer {
            version: active.version,
            generation: active.generation,
            partition,
            row,
        };
        Ok(MarkedAnswer {
            answer,
            next: mark.map_or(Offset(0), |mark| mark.next),
        })
    }

    async fn mark_passes(&self, name: &str, partition: Partition, offset: Offset) {
        let passed = || {
            let state = self.lock();
            let active = state.active.get(name)?;
            let mark = state.marks.get(&(active.version, partition))?;
            (mark.next > offset).then_some(())
        };
        while passed().is_none() {
            tokio::time::sleep(LOOK).await;
        }
    }
}
