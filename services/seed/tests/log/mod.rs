//! What a topic holds, and what it should hold.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use refold_seed::{
    Encoder, Layout, PartitionStream, Progress, SeedOptions, SeedParams, Target, end_offsets,
    key_of,
};

/// Key, value, timestamp in milliseconds.
pub(crate) type Record = (Vec<u8>, Vec<u8>, Option<i64>);

pub(crate) fn params(events: u64, aggregates: u64) -> SeedParams {
    SeedParams {
        events,
        aggregates,
        partitions: 4,
        ..SeedParams::default()
    }
}

pub(crate) fn options(target: &Target, params: &SeedParams) -> SeedOptions {
    SeedOptions {
        progress: Progress::Silent,
        ..SeedOptions::new(target.clone(), params.clone())
    }
}

/// What the stream of `params` says the log holds below `ends`.
pub(crate) fn generated(params: &SeedParams, ends: &[u64]) -> Vec<Vec<Record>> {
    let layout = Layout::new(params).expect("a log");
    let mut encoder = Encoder::new(params);
    (0..)
        .zip(ends)
        .map(|(partition, &end)| {
            let Some(mut stream) = PartitionStream::new(&layout, partition) else {
                return Vec::new();
            };
            (0..end)
                .map(|_| {
                    let event = stream.next_event();
                    let mut value = Vec::new();
                    encoder.encode(&event, &mut value);
                    let key = key_of(i64::from(event.id)).into_bytes();
                    (key, value, Some(event.ts_micros / 1000))
                })
                .collect()
        })
        .collect()
}

/// What the log really holds; every offset from 0 must be there.
pub(crate) fn read_back(target: &Target) -> Vec<Vec<Record>> {
    let ends = end_offsets(target).expect("the topic exists");
    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &target.brokers)
        .set("group.id", "refold-seed-test")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .create()
        .expect("a consumer");
    let mut all = TopicPartitionList::new();
    for partition in 0..ends.len() {
        all.add_partition_offset(&target.topic, partition as i32, Offset::Beginning)
            .expect("a valid offset");
    }
    reader.assign(&all).expect("assigned");
    let mut log: Vec<Vec<Record>> = ends.iter().map(|_| Vec::new()).collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    while log
        .iter()
        .zip(&ends)
        .any(|(part, &end)| (part.len() as u64) < end)
    {
        assert!(
            Instant::now() < deadline,
            "the log could not be read in time"
        );
        let Some(message) = reader.poll(Duration::from_secs(1)) else {
            continue;
        };
        let message = message.expect("a record");
        let part = &mut log[message.partition() as usize];
        assert_eq!(message.offset(), part.len() as i64, "no hole in the log");
        part.push((
            message.key().expect("a key").to_vec(),
            message.payload().expect("a value").to_vec(),
            message.timestamp().to_millis(),
        ));
    }
    log
}

pub(crate) fn assert_same(left: &[Vec<Record>], right: &[Vec<Record>]) {
    assert_eq!(left.len(), right.len());
    for (partition, (left, right)) in left.iter().zip(right).enumerate() {
        assert_eq!(left.len(), right.len(), "partition {partition}");
        for (offset, (left, right)) in left.iter().zip(right).enumerate() {
            assert!(left == right, "partition {partition}, offset {offset}");
        }
    }
}

/// Looks at how many records a topic holds, with one connection.
pub(crate) struct Watch {
    reader: BaseConsumer,
    topic: String,
}

impl Watch {
    pub(crate) fn new(target: &Target) -> Self {
        let reader = ClientConfig::new()
            .set("bootstrap.servers", &target.brokers)
            .set("allow.auto.create.topics", "false")
            .create()
            .expect("a client");
        let topic = target.topic.clone();
        Self { reader, topic }
    }

    /// 0 while there is no such topic.
    pub(crate) fn written(&self) -> u64 {
        let end = |partition| {
            let marks =
                self.reader
                    .fetch_watermarks(&self.topic, partition, Duration::from_secs(10));
            marks.map_or(0, |(_, end)| end as u64)
        };
        (0..4).map(end).sum()
    }
}
