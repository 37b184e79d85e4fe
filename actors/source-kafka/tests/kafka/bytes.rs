//! What happens to a record's bytes on the way: codecs, and rot.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::Consumer;
use refold_domain::position::Offset;
use refold_local::KafkaCluster;
use refold_local::testing;
use refold_local::testing::ScratchDir;
use refold_ports::conformance::log::NewRecord;
use refold_ports::conformance::log::StagedTopic;
use refold_ports::source::LogSource;
use refold_ports::source::SourceError;

use crate::broker::P0;
use crate::broker::read_through;
use crate::broker::read_to_error;
use crate::broker::records;
use crate::broker::with_reader;
use crate::stage;
use crate::stage::Broker;
use crate::stage::Topic;
use crate::stage::WAYS;

#[tokio::test(flavor = "multi_thread")]
async fn records_of_every_codec_in_one_log_are_read() {
    let brokers = &testing::stack().kafka;
    let broker = Broker::new(brokers);
    let name = testing::unique_topic("codecs");
    broker.create_topic(&name, 1).await;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let producer = stage::producer(brokers, &[("compression.type", codec)]);
        stage::send(&producer, &name, P0, records(0, 200, 300)).await;
    }
    for (client, mode) in WAYS {
        let source = stage::source_by(client, brokers, &name);
        let reader = source.open(P0, Offset(0), mode).await.expect("opens");
        let (_, offsets) = with_reader(reader, |reader| read_through(reader, Offset(1_000))).await;
        assert_eq!(offsets, (0..1_000).collect::<Vec<_>>());
    }
}

/// The first segment of a partition, somewhere below `dir`.
fn segment(dir: &Path, partition: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(dir).ok()?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let found = match path.file_name()?.to_str() {
            Some(name) if name == partition => Some(path.join(format!("{:020}.log", 0))),
            _ if path.is_dir() => segment(&path, partition),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Changes one byte of the file, in the first place where `text` stands.
fn rot(file: &Path, text: &[u8]) {
    let content = fs::read(file).expect("the segment can be read");
    let at = content
        .windows(text.len())
        .position(|window| window == text)
        .unwrap_or_else(|| {
            panic!(
                "{} has no such text in {} bytes",
                file.display(),
                content.len()
            )
        });
    let handle = fs::File::options().write(true).open(file);
    handle
        .expect("the segment can be written")
        .write_all_at(b"!", at as u64)
        .expect("a byte is written");
}

/// The value at `offset` as a client sees it that does not look at checksums.
fn unchecked_value(brokers: &str, topic: &str, offset: i64) -> Vec<u8> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "unchecked")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "false")
        .create()
        .expect("a consumer");
    let mut place = rdkafka::TopicPartitionList::new();
    place
        .add_partition_offset(topic, 0, rdkafka::Offset::Offset(offset))
        .expect("a legal offset");
    consumer.assign(&place).expect("the partition is assigned");
    let message = consumer
        .poll(Duration::from_secs(30))
        .expect("a record comes")
        .expect("it is no error");
    assert_eq!(message.offset(), offset);
    message.payload().expect("it has a value").to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_rotted_stops_the_reader_and_is_never_delivered() {
    let dir = ScratchDir::new("source-kafka-rot").expect("a directory");
    let cluster = KafkaCluster::start(dir.path(), 1).expect("a broker");
    let broker = Broker::new(&cluster.bootstrap());
    broker.create_topic("rot", 1).await;
    let topic = Topic::new(&broker, "rot");
    // Three batches, the second of which rots.
    topic.produce(P0, records(0, 10, 20)).await;
    let second = vec![
        NewRecord::new("k", "fine").at(11),
        NewRecord::new("k", "rots later").at(12),
    ];
    topic.produce(P0, second).await;
    topic.produce(P0, records(12, 10, 20)).await;
    let file = segment(dir.path(), "rot-0").expect("the partition has a segment");
    rot(&file, b"rots later");

    for (client, mode) in WAYS {
        let source = stage::source_by(client, &cluster.bootstrap(), "rot");
        let reader = source.open(P0, Offset(0), mode).await;
        let (reader, (offsets, error)) = with_reader(reader.expect("opens"), read_to_error).await;
        assert_eq!(
            offsets,
            (0..10).collect::<Vec<_>>(),
            "what came before counts"
        );
        let SourceError::Corrupt {
            partition, offset, ..
        } = &error
        else {
            panic!("{error:?}");
        };
        assert_eq!(
            (*partition, *offset),
            (P0, Offset(10)),
            "the batch is named"
        );
        let (_, again) = with_reader(reader, read_to_error).await;
        assert_eq!(again, (Vec::new(), error), "nothing behind it is delivered");
    }
    // The setting is what stands between the byte and a table.
    let brokers = cluster.bootstrap();
    let seen = tokio::task::spawn_blocking(move || unchecked_value(&brokers, "rot", 11)).await;
    assert_eq!(seen.expect("the record is read"), b"!ots later");
}
