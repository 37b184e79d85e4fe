//! Both clients deliver the same records: whatever the log has been through.

use std::time::Duration;
use std::time::Instant;

use rdkafka::message::Header;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::FutureRecord;
use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_local::testing;
use refold_ports::conformance::log::NewRecord;
use refold_ports::conformance::log::StagedTopic as _;
use refold_ports::source::ChunkReader;
use refold_ports::source::LogSource as _;
use refold_ports::source::ReadLimit;
use refold_ports::source::ReadMode;
use refold_source_kafka::BulkClient;

use crate::broker::P0;
use crate::broker::records;
use crate::broker::with_reader;
use crate::stage;
use crate::stage::Broker;
use crate::stage::Topic;

/// The cleaner looks at a topic every 15 seconds.
const PATIENCE: Duration = Duration::from_secs(90);

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// A record as it was delivered.
type Delivered = (i64, i64, Vec<u8>, Option<Vec<u8>>);

/// Chunk sizes that cut batches in many places.
const LIMITS: [ReadLimit; 3] = [
    ReadLimit {
        records: 8_192,
        bytes: 2 << 20,
    },
    ReadLimit {
        records: 7,
        bytes: 1 << 20,
    },
    ReadLimit {
        records: 1_000,
        bytes: 2_500,
    },
];

fn read_all(reader: &mut dyn ChunkReader, limit: ReadLimit) -> Vec<Delivered> {
    let begun = Instant::now();
    let mut chunk = Chunk::new(P0, Offset(0));
    let mut all = Vec::new();
    loop {
        let outcome = reader.read(&mut chunk, limit, Duration::from_millis(500));
        outcome.expect("the log can be read");
        all.extend(chunk.records().map(|record| {
            let value = record.value.map(<[u8]>::to_vec);
            (
                record.offset.0,
                record.ts_millis,
                record.key.to_vec(),
                value,
            )
        }));
        if chunk.end_of_log() {
            return all;
        }
        assert!(begun.elapsed() < PATIENCE, "{} came", all.len());
    }
}

async fn read_by(
    client: BulkClient,
    topic: &str,
    (partition, from): (Partition, i64),
    limit: ReadLimit,
) -> Vec<Delivered> {
    let source = stage::source_by(client, &testing::stack().kafka, topic);
    let reader = source.open(partition, Offset(from), ReadMode::Bulk).await;
    with_reader(reader.expect("opens"), move |reader| {
        read_all(reader, limit)
    })
    .await
    .1
}

/// Reads the partition by both clients from several places; answers what
/// librdkafka delivers from the start.
async fn assert_same(topic: &str, partition: Partition) -> Vec<Delivered> {
    let place = |from| (partition, from);
    let all = read_by(BulkClient::Librdkafka, topic, place(0), LIMITS[0]).await;
    for limit in LIMITS {
        let raw = read_by(BulkClient::Raw, topic, place(0), limit).await;
        assert_equal(&raw, &all);
    }
    // Places inside batches, holes and aborted transactions.
    let last = all.last().map_or(0, |record| record.0);
    for from in (1..=last).step_by(1 + last as usize / 13) {
        let raw = read_by(BulkClient::Raw, topic, place(from), LIMITS[0]).await;
        let rest = all.partition_point(|record| record.0 < from);
        assert_equal(&raw, &all[rest..]);
    }
    all
}

#[track_caller]
fn assert_equal(raw: &[Delivered], other: &[Delivered]) {
    let differs = raw.iter().zip(other).position(|(one, two)| one != two);
    if let Some(at) = differs {
        panic!("record {at}: {:?} is not {:?}", raw[at], other[at]);
    }
    assert_eq!(raw.len(), other.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn both_clients_deliver_the_same_from_every_codec_transaction_and_hole() {
    let brokers = &testing::stack().kafka;
    let broker = Broker::new(brokers);
    let name = testing::unique_topic("same");
    broker.create_topic(&name, 2).await;
    let topic = Topic::new(&broker, &name);
    for codec in CODECS {
        let producer = stage::producer(brokers, &[("compression.type", codec)]);
        let mut some = records(1, 300, 300);
        some.push(NewRecord::tombstone("gone").at(5));
        some.push(NewRecord::new("", "no key").at(6));
        some.push(NewRecord::new("empty", "").at(7));
        stage::send(&producer, &name, P0, some).await;
        let headers = OwnedHeaders::new()
            .insert(Header {
                key: "trace",
                value: Some("abc"),
            })
            .insert(Header::<&[u8]> {
                key: "null",
                value: None,
            });
        let record = FutureRecord::to(&name)
            .partition(0)
            .key("with headers")
            .payload("value")
            .headers(headers);
        producer.send(record, PATIENCE).await.expect("it is sent");
        topic.begin(P0, records(1, 30, 50)).await.abort().await;
        topic.begin(P0, records(40, 30, 50)).await.commit().await;
    }
    // Two transactions in one stretch of log, one of which aborts. Neither end
    // can be read before the other transaction has ended, too.
    let first = topic.begin(P0, records(1, 20, 50)).await;
    let second = topic.begin(P0, records(30, 20, 50)).await;
    topic.produce(P0, records(60, 20, 50)).await;
    tokio::join!(second.commit(), first.abort());

    let all = assert_same(&name, P0).await;
    assert_eq!(all.len(), CODECS.len() * (300 + 3 + 1 + 30) + 20 + 20);
    assert!(assert_same(&name, Partition(1)).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn both_clients_deliver_the_same_from_a_compacted_log() {
    let brokers = &testing::stack().kafka;
    let broker = Broker::new(brokers);
    let name = testing::unique_topic("compacted");
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("min.compaction.lag.ms", "0"),
        ("max.compaction.lag.ms", "100"),
    ];
    broker.create_topic_with(&name, 1, 1, &settings).await;
    let topic = Topic::new(&broker, &name);
    let mut produced = 0;
    // Few keys again and again, and one each that stays.
    for round in 0..5_usize {
        let mut some = vec![NewRecord::new(format!("stays {round}"), "here").at(1)];
        some.extend((0..200).map(|n| NewRecord::new(format!("key {}", n % 9), "x").at(2)));
        produced += some.len();
        topic.produce(P0, some).await;
        topic.begin(P0, records(0, 9, 20)).await.abort().await;
    }
    let (mut next, mut left) = (0, produced);
    let begun = Instant::now();
    while left > produced / 2 {
        assert!(begun.elapsed() < PATIENCE, "the log is not compacted");
        // A segment that is written to is never compacted: only a later record closes it.
        let closing = NewRecord::new(format!("later {next}"), "z").at(3);
        next += 1;
        topic.produce(P0, vec![closing]).await;
        // sleep: the pause between two looks; each of them appends a record.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let all = read_by(BulkClient::Librdkafka, &name, (P0, 0), LIMITS[0]).await;
        left = all.len();
    }
    let all = assert_same(&name, P0).await;
    assert!(all.len() <= left);
    let holes = all.windows(2).filter(|pair| pair[1].0 - pair[0].0 > 1);
    assert!(holes.count() >= 5, "the log has holes");
}
