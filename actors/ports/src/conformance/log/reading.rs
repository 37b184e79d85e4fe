//! Reads on the stage: a reader moved to a blocking thread for every read.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_domain::position::Partition;

use crate::conformance::log::NewRecord;
use crate::conformance::log::StagedTopic;
use crate::source::ChunkReader;
use crate::source::ReadLimit;
use crate::source::ReadMode;
use crate::source::SourceError;

/// A case that waits longer than this has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// One read's wait; reads are repeated until the case has what it wants.
const WAIT: Duration = Duration::from_millis(500);

/// A limit that no case reaches by accident.
pub(super) const ROOMY: ReadLimit = ReadLimit {
    records: 10_000,
    bytes: 16 << 20,
};

/// A record as it was delivered.
pub(super) type Delivered = (i64, NewRecord);

/// A reader on the stage. Checks with every chunk what holds for all of them:
/// chunks join, and stay inside their limits.
pub(super) struct Reading {
    /// Moved out only while a read runs.
    reader: Option<Box<dyn ChunkReader>>,
    partition: Partition,
    position: Offset,
}

impl Reading {
    pub(super) async fn open(
        topic: &Arc<dyn StagedTopic>,
        partition: Partition,
        from: Offset,
        mode: ReadMode,
    ) -> Self {
        match topic.source().open(partition, from, mode).await {
            Ok(reader) => Self {
                reader: Some(reader),
                partition,
                position: from,
            },
            Err(error) => panic!("{partition} cannot be opened at {from}: {error}"),
        }
    }

    /// One read with its outcome.
    pub(super) async fn try_read(
        &mut self,
        limit: ReadLimit,
        wait: Duration,
    ) -> Result<Chunk, SourceError> {
        let mut reader = self.reader.take().expect("reads of a case do not overlap");
        // A reader recycles its chunk: what is in it must not matter.
        let mut chunk = Chunk::new(Partition(77), Offset(77));
        let (reader, chunk, outcome) = tokio::task::spawn_blocking(move || {
            let outcome = reader.read(&mut chunk, limit, wait);
            (reader, chunk, outcome)
        })
        .await
        .expect("a reader does not panic");
        self.reader = Some(reader);
        outcome?;
        self.check(&chunk, limit);
        self.position = chunk.to();
        Ok(chunk)
    }

    fn check(&self, chunk: &Chunk, limit: ReadLimit) {
        assert_eq!(chunk.partition(), self.partition);
        assert_eq!(chunk.from(), self.position, "chunks join");
        let last = chunk.records().last();
        assert_eq!(
            chunk.to(),
            last.map_or(chunk.from(), |r| r.offset.next()),
            "a chunk ends behind its last record"
        );
        assert!(chunk.len() <= limit.records);
        assert!(chunk.len() <= 1 || chunk.bytes() <= limit.bytes);
    }

    pub(super) async fn read(&mut self, limit: ReadLimit, wait: Duration) -> Chunk {
        match self.try_read(limit, wait).await {
            Ok(chunk) => chunk,
            Err(error) => panic!("the read at {} failed: {error}", self.position),
        }
    }

    /// Reads until the end of the log, in chunks of `limit`.
    pub(super) async fn until_end(&mut self, limit: ReadLimit) -> Vec<Delivered> {
        self.until(limit, |_, at_end| at_end).await
    }

    /// Reads until `count` records have come.
    pub(super) async fn records(&mut self, count: usize) -> Vec<Delivered> {
        self.until(ROOMY, |got, _| got.len() >= count).await
    }

    async fn until(
        &mut self,
        limit: ReadLimit,
        enough: impl Fn(&[Delivered], bool) -> bool,
    ) -> Vec<Delivered> {
        let begun = Instant::now();
        let mut got = Vec::new();
        loop {
            let chunk = self.read(limit, WAIT).await;
            got.extend(delivered(&chunk));
            if enough(&got, chunk.end_of_log()) {
                return got;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "after {PATIENCE:?} only {} records have come, up to {}",
                got.len(),
                self.position
            );
        }
    }

    /// Where the next chunk begins.
    pub(super) fn position(&self) -> Offset {
        self.position
    }
}

/// A chunk's records, owned.
pub(super) fn delivered(chunk: &Chunk) -> Vec<Delivered> {
    chunk
        .records()
        .map(|record| {
            let owned = NewRecord {
                key: record.key.to_vec(),
                value: record.value.map(<[u8]>::to_vec),
                ts_millis: record.ts_millis,
            };
            (record.offset.0, owned)
        })
        .collect()
}

/// `count` records that differ in everything, numbered from `first`.
pub(super) fn numbered(first: usize, count: usize) -> Vec<NewRecord> {
    (first..first + count)
        .map(|n| {
            let key = format!("key-{}", n % 7);
            let value = format!("value {n} {}", "x".repeat(n % 50));
            NewRecord::new(key, value).at(1_700_000_000_000 + n as i64)
        })
        .collect()
}

/// Records as they should be delivered, at consecutive offsets from `first`.
pub(super) fn at(first: i64, records: &[NewRecord]) -> Vec<Delivered> {
    (first..).zip(records.iter().cloned()).collect()
}

/// Compares deliveries, and shows the first difference only: a case may have
/// thousands of records, or megabytes in one.
#[track_caller]
pub(super) fn assert_same(got: &[Delivered], expected: &[Delivered]) {
    let differs = got.iter().zip(expected).position(|(a, b)| a != b);
    if let Some(at) = differs {
        let (got, expected) = (brief(&got[at]), brief(&expected[at]));
        panic!("record {at} is {got}, not {expected}");
    }
    let offsets = |records: &[Delivered]| records.last().map(|(offset, _)| *offset);
    assert!(
        got.len() == expected.len(),
        "{} records up to {:?} have come, not {} up to {:?}",
        got.len(),
        offsets(got),
        expected.len(),
        offsets(expected),
    );
}

fn brief((offset, record): &Delivered) -> String {
    let shown = |bytes: &[u8]| {
        let head = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        format!("{head:?} of {} bytes", bytes.len())
    };
    format!(
        "[offset {offset}, time {}, key {}, value {}]",
        record.ts_millis,
        shown(&record.key),
        record.value.as_deref().map_or("none".to_owned(), shown),
    )
}
