//! The memory log passes the suite, and does what scripts ask of it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_domain::position::Partition;

use super::MemoryLog;
use super::NewRecord;
use super::TransactionId;
use crate::conformance::log;
use crate::conformance::log::LogHarness;
use crate::conformance::log::StagedTopic;
use crate::conformance::log::StagedTransaction;
use crate::source::ChunkReader;
use crate::source::LogSource;
use crate::source::ReadLimit;
use crate::source::ReadMode;
use crate::source::SourceError;

const P0: Partition = Partition(0);
const ROOMY: ReadLimit = ReadLimit {
    records: 100,
    bytes: 1 << 20,
};

#[derive(Default)]
struct Memory {
    created: AtomicU64,
}

#[async_trait]
impl LogHarness for Memory {
    async fn create(&self, partitions: i32) -> Arc<dyn StagedTopic> {
        let number = self.created.fetch_add(1, Ordering::Relaxed);
        Arc::new(MemoryLog::new(format!("topic-{number}"), partitions))
    }

    fn missing(&self) -> Arc<dyn LogSource> {
        Arc::new(MemoryLog::missing("never-created"))
    }
}

#[async_trait]
impl StagedTopic for MemoryLog {
    fn source(&self) -> Arc<dyn LogSource> {
        Arc::new(self.clone())
    }

    fn name(&self) -> String {
        self.shared.topic.clone()
    }

    async fn produce(&self, partition: Partition, records: Vec<NewRecord>) {
        for record in records {
            self.append(partition, record);
        }
    }

    async fn begin(
        &self,
        partition: Partition,
        records: Vec<NewRecord>,
    ) -> Box<dyn StagedTransaction> {
        let id = MemoryLog::begin(self, partition);
        for record in records {
            self.append_in(partition, id, record);
        }
        Box::new(Transaction {
            log: self.clone(),
            partition,
            id,
        })
    }

    async fn delete_below(&self, partition: Partition, low: Offset) {
        MemoryLog::delete_below(self, partition, low);
    }
}

struct Transaction {
    log: MemoryLog,
    partition: Partition,
    id: TransactionId,
}

#[async_trait]
impl StagedTransaction for Transaction {
    async fn commit(self: Box<Self>) {
        self.log.end(self.partition, self.id, true);
    }

    async fn abort(self: Box<Self>) {
        self.log.end(self.partition, self.id, false);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_keeps_the_promises_of_a_log() {
    let passed = log::run("memory", Arc::new(Memory::default())).await;
    assert_eq!(passed, log::case_count());
}

async fn reader_of(log: &MemoryLog, from: i64) -> Box<dyn ChunkReader> {
    log.open(P0, Offset(from), ReadMode::Bulk)
        .await
        .expect("the offset is in the log")
}

fn read(reader: &mut dyn ChunkReader) -> Result<Vec<i64>, SourceError> {
    let mut chunk = Chunk::new(P0, Offset(0));
    reader.read(&mut chunk, ROOMY, Duration::ZERO)?;
    Ok(chunk.records().map(|record| record.offset.0).collect())
}

fn log_of(records: usize) -> MemoryLog {
    let log = MemoryLog::new("events", 1);
    for n in 0..records {
        log.append(P0, NewRecord::new(format!("{n}"), "value"));
    }
    log
}

#[tokio::test]
async fn holes_of_every_kind_are_passed_over() {
    let log = log_of(3);
    log.append_hole(P0, 5);
    log.append(P0, NewRecord::tombstone("8"));
    log.append_marker(P0);
    log.compact_away(P0, Offset(1));
    let mut reader = reader_of(&log, 0).await;
    assert_eq!(read(&mut *reader), Ok(vec![0, 2, 8]));
    assert_eq!(read(&mut *reader), Ok(vec![]));
}

#[tokio::test]
async fn a_scripted_failure_happens_as_often_as_told_and_loses_nothing() {
    let log = log_of(2);
    let away = SourceError::Unreachable("scripted".into());
    let mut reader = reader_of(&log, 0).await;
    log.fail_reads(P0, 2, &away);
    assert_eq!(read(&mut *reader), Err(away.clone()));
    assert_eq!(read(&mut *reader), Err(away.clone()));
    assert_eq!(read(&mut *reader), Ok(vec![0, 1]));

    log.fail_calls(1, &away);
    assert_eq!(log.watermarks(P0).await.err(), Some(away));
    assert!(log.watermarks(P0).await.is_ok());
}

#[tokio::test]
async fn a_corrupt_record_stops_the_reader_for_good_behind_what_came_before() {
    let log = log_of(5);
    log.corrupt(P0, Offset(3), "scripted");
    let mut reader = reader_of(&log, 0).await;
    assert_eq!(read(&mut *reader), Ok(vec![0, 1, 2]));
    let corrupt = Err(SourceError::Corrupt {
        partition: P0,
        offset: Offset(3),
        reason: "scripted".into(),
    });
    assert_eq!(read(&mut *reader), corrupt);
    assert_eq!(read(&mut *reader), corrupt);
}

#[tokio::test]
async fn a_log_that_loses_an_end_stops_its_readers() {
    let log = log_of(5);
    let mut slow = reader_of(&log, 1).await;
    let mut fast = reader_of(&log, 5).await;
    log.delete_below(P0, Offset(2));
    assert!(matches!(
        read(&mut *slow),
        Err(SourceError::Truncated {
            wanted: Offset(1),
            low: Offset(2),
            ..
        })
    ));
    log.lose_from(P0, Offset(4));
    assert!(matches!(
        read(&mut *fast),
        Err(SourceError::BeyondEnd {
            wanted: Offset(5),
            high: Offset(4),
            ..
        })
    ));
}

#[tokio::test]
async fn another_topic_under_the_same_name_has_another_identity() {
    let log = log_of(3);
    let before = log.identity().await.expect("the topic is there");
    let mut reader = reader_of(&log, 3).await;
    log.remove();
    assert!(matches!(
        read(&mut *reader),
        Err(SourceError::TopicMissing(_))
    ));
    log.recreate(1);
    let after = log.identity().await.expect("the topic is there again");
    assert_ne!(before.topic_id, after.topic_id);
    log.add_partitions(2);
    log.move_to_cluster("elsewhere");
    let moved = log.identity().await.expect("the topic is still there");
    assert_eq!((moved.partitions, &*moved.cluster_id), (3, "elsewhere"));
}
