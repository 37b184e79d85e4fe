//! What a reader says when the log changes under it, on a real broker.

use std::time::Duration;
use std::time::Instant;

use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_local::KafkaCluster;
use refold_local::testing;
use refold_local::testing::ScratchDir;
use refold_ports::conformance::log::NewRecord;
use refold_ports::conformance::log::StagedTopic;
use refold_ports::source::ChunkReader;
use refold_ports::source::LogSource;
use refold_ports::source::ReadLimit;
use refold_ports::source::SourceError;
use refold_source_kafka::BulkClient;
use refold_source_kafka::KafkaConfig;
use refold_source_kafka::KafkaSource;

use crate::stage;
use crate::stage::Broker;
use crate::stage::Topic;
use crate::stage::WAYS;

pub(crate) const P0: Partition = Partition(0);
const PATIENCE: Duration = Duration::from_secs(30);
const FEW: ReadLimit = ReadLimit {
    records: 10,
    bytes: 1 << 20,
};

pub(crate) fn records(first: usize, count: usize, value_bytes: usize) -> Vec<NewRecord> {
    (first..first + count)
        .map(|n| NewRecord::new(format!("{n}"), vec![b'v'; value_bytes]).at(1 + n as i64))
        .collect()
}

/// A reader on a thread that may block, for as long as a test reads.
pub(crate) async fn with_reader<T: Send + 'static>(
    mut reader: Box<dyn ChunkReader>,
    work: impl FnOnce(&mut dyn ChunkReader) -> T + Send + 'static,
) -> (Box<dyn ChunkReader>, T) {
    tokio::task::spawn_blocking(move || {
        let answer = work(&mut *reader);
        (reader, answer)
    })
    .await
    .expect("a reader does not panic")
}

/// Reads until an error comes; answers the offsets before it, and it.
pub(crate) fn read_to_error(reader: &mut dyn ChunkReader) -> (Vec<i64>, SourceError) {
    let begun = Instant::now();
    let mut chunk = Chunk::new(P0, Offset(0));
    let mut offsets = Vec::new();
    while begun.elapsed() < PATIENCE {
        let outcome = reader.read(&mut chunk, FEW, Duration::from_millis(100));
        offsets.extend(chunk.records().map(|record| record.offset.0));
        if let Err(error) = outcome {
            return (offsets, error);
        }
    }
    panic!("{} records and no error in {PATIENCE:?}", offsets.len());
}

/// Reads until `end` is passed, over errors that pass.
pub(crate) fn read_through(reader: &mut dyn ChunkReader, end: Offset) -> Vec<i64> {
    let begun = Instant::now();
    let mut chunk = Chunk::new(P0, Offset(0));
    let mut offsets = Vec::new();
    while chunk.to() < end {
        match reader.read(&mut chunk, FEW, Duration::from_millis(100)) {
            Err(error) if !error.is_transient() => panic!("{error}"),
            _ => offsets.extend(chunk.records().map(|record| record.offset.0)),
        }
        assert!(begun.elapsed() < PATIENCE, "only {offsets:?} came");
    }
    offsets
}

async fn staged(prefix: &str, partitions: i32) -> (Broker, Topic) {
    let broker = Broker::new(&testing::stack().kafka);
    let name = testing::unique_topic(prefix);
    broker.create_topic(&name, partitions).await;
    let topic = Topic::new(&broker, &name);
    (broker, topic)
}

#[tokio::test(flavor = "multi_thread")]
async fn records_deleted_under_a_slow_reader_are_an_error_and_never_a_jump() {
    let (_, topic) = staged("deleted-under", 1).await;
    topic.produce(P0, records(0, 2_000, 1_000)).await;
    // A queue of a few records, so that most of the log is not fetched yet.
    let mut config = KafkaConfig::new(&testing::stack().kafka);
    for (name, value) in [
        ("queued.max.messages.kbytes", "16"),
        ("fetch.message.max.bytes", "16384"),
        ("fetch.max.bytes", "1048576"),
    ] {
        config = config.with_property(name, value).expect("queues are free");
    }
    for ((client, mode), (from, low)) in
        WAYS.into_iter()
            .zip([(0, 700), (700, 1_300), (1_300, 1_900)])
    {
        let config = config.clone().with_bulk_client(client);
        let source = KafkaSource::new(config, topic.name()).expect("a legal configuration");
        let reader = source.open(P0, Offset(from), mode).await.expect("opens");
        let (reader, first) =
            with_reader(reader, move |reader| read_through(reader, Offset(from + 1))).await;
        topic.delete_below(P0, Offset(low)).await;
        let (_, (rest, error)) = with_reader(reader, read_to_error).await;

        let got: Vec<i64> = first.into_iter().chain(rest).collect();
        let until = from + got.len() as i64;
        assert_eq!(
            got,
            (from..until).collect::<Vec<_>>(),
            "no record was left out"
        );
        assert_eq!(
            error,
            SourceError::Truncated {
                partition: P0,
                wanted: Offset(until),
                low: Offset(low)
            }
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_is_missing_for_its_readers() {
    let (broker, topic) = staged("deleted-topic", 1).await;
    topic.produce(P0, records(0, 10, 10)).await;
    let mut readers = Vec::new();
    for (client, mode) in WAYS {
        let source = stage::source_by(client, &testing::stack().kafka, &topic.name());
        let reader = source.open(P0, Offset(0), mode).await;
        let reading = with_reader(reader.expect("opens"), |reader| {
            read_through(reader, Offset(10))
        });
        readers.push(reading.await.0);
    }
    broker.delete_topic(&topic.name()).await;
    for reader in readers {
        let (_, (offsets, error)) = with_reader(reader, read_to_error).await;
        assert_eq!(offsets, Vec::<i64>::new());
        assert_eq!(error, SourceError::TopicMissing(topic.name()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_longer_topic_under_the_same_name_is_never_read_on() {
    const OLD_BYTES: usize = 10;
    const NEW_BYTES: usize = 20;
    for (client, mode) in WAYS {
        let (broker, topic) = staged("recreated", 1).await;
        let name = topic.name();
        topic.produce(P0, records(0, 150, OLD_BYTES)).await;
        let before = topic.source().identity().await.expect("is there");
        assert!(before.topic_id.is_some());
        let source = stage::source_by(client, &testing::stack().kafka, &name);
        let reader = source.open(P0, Offset(0), mode).await;
        let (reader, _) = with_reader(reader.expect("opens"), |reader| {
            read_through(reader, Offset(100))
        })
        .await;
        broker.delete_topic(&name).await;
        stage::eventually("the name to be free", || async {
            let asked = stage::source(&testing::stack().kafka, &name)
                .identity()
                .await;
            matches!(asked, Err(SourceError::TopicMissing(_))).then_some(())
        })
        .await;
        broker.create_topic(&name, 1).await;
        // A staging client of its own: the old one knows the old topic.
        let successor = Topic::new(&Broker::new(&testing::stack().kafka), &name);
        successor.produce(P0, records(0, 300, NEW_BYTES)).await;

        let (_, (delivered, error)) = with_reader(reader, read_to_the_end_of_this_log).await;
        // What was fetched before may come: it is of the log that was opened.
        assert!(
            delivered
                .iter()
                .all(|(offset, bytes)| (100..150).contains(offset) && *bytes == OLD_BYTES),
            "nothing of the new topic: {delivered:?}"
        );
        assert!(
            matches!(error, SourceError::Fatal(_) | SourceError::TopicMissing(_)),
            "{error:?}"
        );
        println!(
            "{client:?} {mode:?} reader of a topic that was created again: {error}; before it, {} \
             records that it had fetched",
            delivered.len()
        );
        let after = topic.source().identity().await.expect("is there again");
        assert_ne!(before, after);
        let reopened = source.open(P0, Offset(0), mode).await;
        let (_, offsets) = with_reader(reopened.expect("opens"), |reader| {
            read_through(reader, Offset(300))
        })
        .await;
        assert_eq!(offsets.len(), 300, "a new reader reads the new topic");
    }
}

/// Reads over errors that pass; offsets and bytes of value of what came, and the error that stays.
fn read_to_the_end_of_this_log(reader: &mut dyn ChunkReader) -> (Vec<(i64, usize)>, SourceError) {
    let begun = Instant::now();
    let mut chunk = Chunk::new(P0, Offset(0));
    let mut delivered = Vec::new();
    while begun.elapsed() < PATIENCE {
        let outcome = reader.read(&mut chunk, FEW, Duration::from_millis(100));
        delivered.extend(chunk.records().map(|record| {
            let value = record.value.expect("no tombstone was written");
            (record.offset.0, value.len())
        }));
        match outcome {
            Err(error) if !error.is_transient() => return (delivered, error),
            _ => {}
        }
    }
    panic!("{} records and no error in {PATIENCE:?}", delivered.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_is_unreachable_and_its_readers_go_on_when_it_is_back() {
    let dir = ScratchDir::new("source-kafka-outage").expect("a directory");
    let mut cluster = KafkaCluster::start(dir.path(), 1).expect("a broker");
    let brokers = cluster.bootstrap().to_owned();
    let broker = Broker::new(&brokers);
    broker.create_topic("outage", WAYS.len() as i32).await;
    let topic = Topic::new(&broker, "outage");
    let config = KafkaConfig::new(&brokers).with_deadline(Duration::from_secs(1));
    let source_by = |client| {
        let config = config.clone().with_bulk_client(client);
        KafkaSource::new(config, "outage").expect("a legal configuration")
    };
    let source = source_by(BulkClient::Raw);
    let mut readers = Vec::new();
    for (partition, (client, mode)) in (0..).map(Partition).zip(WAYS) {
        let source = source_by(client);
        topic.produce(partition, records(0, 50, 10)).await;
        let reader = source.open(partition, Offset(0), mode).await;
        let (reader, offsets) = with_reader(reader.expect("opens"), |reader| {
            read_through(reader, Offset(50))
        })
        .await;
        assert_eq!(offsets.len(), 50);
        readers.push((partition, reader));
    }

    cluster.kill_node(0).expect("the broker is killed");
    let mut cut_off = Vec::new();
    for (partition, reader) in readers {
        let (reader, (offsets, error)) = with_reader(reader, read_to_error).await;
        assert_eq!(offsets, Vec::<i64>::new());
        assert!(matches!(error, SourceError::Unreachable(_)), "{error:?}");
        cut_off.push((partition, reader));
    }
    let asked = source.watermarks(P0).await;
    assert!(
        matches!(asked, Err(SourceError::Unreachable(_))),
        "{asked:?}"
    );

    cluster.ensure().expect("the broker starts again");
    for (partition, reader) in cut_off {
        topic.produce(partition, records(50, 50, 10)).await;
        let (_, offsets) = with_reader(reader, |reader| read_through(reader, Offset(100))).await;
        assert_eq!(offsets, (50..100).collect::<Vec<_>>());
    }
}
