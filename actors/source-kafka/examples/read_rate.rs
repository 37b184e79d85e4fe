//! How much CPU a record costs each client that can read history.
//!
//! ```text
//! cargo run --release -p refold-source-kafka --example read_rate -- BROKERS
//!     [--events=N] [--partitions=N] [--codecs=lz4,zstd] [--topic=NAME]
//!     [--clients=raw,librdkafka_batch,librdkafka_poll] [--property=NAME=VALUE ...] [--json]
//! ```
//!
//! Per codec it fills a topic of its own with events of about 250 bytes that
//! compress like real ones, or takes a topic that is there. Each client reads
//! it back, with one reader per partition on a thread of its own:
//!
//! * `raw`: the fetch loop of this crate, into chunks;
//! * `librdkafka_batch`: batches of librdkafka, copied into chunks;
//! * `librdkafka_poll`: one message per call, looked at and dropped.
//!
//! It prints events per second and the CPU time of this process (reader
//! threads and librdkafka's own) per event; with `--json` as one line.

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::time::Duration;
use std::time::Instant;

use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::TopicPartitionList;
use rdkafka::admin::AdminClient;
use rdkafka::admin::AdminOptions;
use rdkafka::admin::NewTopic;
use rdkafka::admin::TopicReplication;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::BaseRecord;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::producer::Producer as _;
use rdkafka::producer::ThreadedProducer;
use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::source::ChunkReader;
use refold_ports::source::LogSource as _;
use refold_ports::source::ReadLimit;
use refold_ports::source::ReadMode;
use refold_source_kafka::BulkClient;
use refold_source_kafka::KafkaConfig;
use refold_source_kafka::KafkaSource;
use serde_json::Value;
use serde_json::json;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PATIENCE: Duration = Duration::from_secs(30);

/// What the fold asks for in bulk.
const LIMIT: ReadLimit = ReadLimit {
    records: 2_048,
    bytes: 2 << 20,
};

struct Options {
    brokers: String,
    events: u64,
    partitions: i32,
    codecs: Vec<String>,
    topic: Option<String>,
    clients: Vec<String>,
    properties: Vec<(String, String)>,
    json: bool,
}

impl Options {
    fn parse(args: impl Iterator<Item = String>) -> Outcome<Self> {
        let list = |text: &str| text.split(',').map(str::to_owned).collect();
        let mut options = Self {
            brokers: String::new(),
            events: 4_000_000,
            partitions: 1,
            codecs: list("lz4,zstd"),
            topic: None,
            clients: list("raw,librdkafka_batch,librdkafka_poll"),
            properties: Vec::new(),
            json: false,
        };
        for arg in args {
            let (name, value) = arg.split_once('=').unwrap_or((&arg, ""));
            match name {
                "--events" => options.events = value.parse()?,
                "--partitions" => options.partitions = value.parse()?,
                "--codecs" => options.codecs = list(value),
                "--topic" => options.topic = Some(value.to_owned()),
                "--clients" => options.clients = list(value),
                "--property" => {
                    let (name, value) = value.split_once('=').ok_or("--property=NAME=VALUE")?;
                    options.properties.push((name.to_owned(), value.to_owned()));
                }
                "--json" => options.json = true,
                brokers if !brokers.starts_with('-') => options.brokers = arg,
                other => return Err(format!("{other} is not a flag of this example").into()),
            }
        }
        if options.brokers.is_empty() {
            return Err("name the brokers as host:port".into());
        }
        Ok(options)
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let mut all = Vec::new();
    match &options.topic {
        Some(topic) => all.push(measure_topic(&options, topic, "as it is").await?),
        None => {
            for codec in &options.codecs {
                all.push(measure_codec(&options, codec).await?);
            }
        }
    }
    if options.json {
        println!("{}", json!({ "schema": "refold.read-rate/1", "logs": all }));
    }
    Ok(())
}

/// Fills a topic, measures it, and deletes it.
async fn measure_codec(options: &Options, codec: &str) -> Outcome<Value> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &options.brokers)
        .create()?;
    let topic = format!("read-rate-{codec}-{}", std::process::id());
    let new = NewTopic::new(&topic, options.partitions, TopicReplication::Fixed(1));
    for created in admin.create_topics([&new], &AdminOptions::new()).await? {
        created.map_err(|(name, code)| format!("{name}: {code}"))?;
    }
    produce(
        &options.brokers,
        &topic,
        codec,
        (options.events, options.partitions),
    )?;
    let measured = measure_topic(options, &topic, codec).await;
    admin.delete_topics(&[&topic], &AdminOptions::new()).await?;
    measured
}

async fn measure_topic(options: &Options, topic: &str, codec: &str) -> Outcome<Value> {
    let mut clients = serde_json::Map::new();
    for client in &options.clients {
        let readers = open(options, topic, client).await?;
        let measured = measure(readers)?;
        let (events, bytes) = (measured.events.max(1), measured.bytes);
        let (per_second, cpu_ns) = (
            events as f64 / measured.seconds,
            measured.cpu_seconds * 1e9 / events as f64,
        );
        let resident = resident_megabytes()?;
        if !options.json {
            println!(
                "{codec}, {client}: {events} events of {} B in {:.2} s = {:.2}M/s, \
                 {cpu_ns:.0} ns of CPU an event, {} per chunk, {resident} MB resident",
                bytes / events,
                measured.seconds,
                per_second / 1e6,
                events / measured.chunks.max(1),
            );
        }
        let figures = json!({
            "events": measured.events,
            "bytes_per_event": bytes / events,
            "seconds": measured.seconds,
            "events_per_second": per_second,
            "client_cpu_seconds": measured.cpu_seconds,
            "client_cpu_ns_per_event": cpu_ns,
            "resident_megabytes": resident,
        });
        clients.insert(client.clone(), figures);
    }
    Ok(json!({ "topic": topic, "codec": codec, "clients": clients }))
}

/// Reads one partition to an offset.
enum Way {
    Chunks(Box<dyn ChunkReader>),
    Poll(BaseConsumer),
}

/// A reader of every partition, with where it ends.
async fn open(
    options: &Options,
    topic: &str,
    client: &str,
) -> Outcome<Vec<(Way, Partition, Offset)>> {
    let bulk = match client {
        "raw" => BulkClient::Raw,
        "librdkafka_batch" | "librdkafka_poll" => BulkClient::Librdkafka,
        other => return Err(format!("{other} is not a client").into()),
    };
    let mut config = KafkaConfig::new(&options.brokers).with_bulk_client(bulk);
    for (name, value) in &options.properties {
        config = config.with_property(name, value)?;
    }
    let source = KafkaSource::new(config, topic)?;
    let mut readers = Vec::new();
    for partition in 0..source.identity().await?.partitions {
        let partition = Partition(partition);
        let end = source.watermarks(partition).await?.high;
        let way = match client {
            "librdkafka_poll" => Way::Poll(poller(options, topic, partition)?),
            _ => Way::Chunks(source.open(partition, Offset(0), ReadMode::Bulk).await?),
        };
        readers.push((way, partition, end));
    }
    Ok(readers)
}

/// A consumer with the queue settings that the bulk reader uses.
fn poller(options: &Options, topic: &str, partition: Partition) -> Outcome<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &options.brokers)
        .set("group.id", "read-rate")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set("queued.min.messages", "1000000")
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.message.max.bytes", "1048576")
        .set("fetch.queue.backoff.ms", "2")
        .create()?;
    let mut place = TopicPartitionList::new();
    place.add_partition_offset(topic, partition.0, rdkafka::Offset::Beginning)?;
    consumer.assign(&place)?;
    Ok(consumer)
}

/// Fills the topic.
fn produce(
    brokers: &str,
    topic: &str,
    codec: &str,
    (events, partitions): (u64, i32),
) -> Outcome<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("compression.type", codec)
        .set("linger.ms", "50")
        .set("batch.size", "131072")
        .set("queue.buffering.max.messages", "200000")
        .create()?;
    let mut value = Vec::with_capacity(300);
    for number in 0..events {
        let key = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40).to_be_bytes();
        value.clear();
        write!(
            value,
            "{{\"account\":\"{:016x}\",\"version\":{},\"type\":\"deposited\",\"at\":\"2026-03-01T10:{:02}:{:02}.{:06}Z\",\
             \"amount\":\"{}.{:02}\",\"currency\":\"EUR\",\"channel\":\"card\",\"status\":\"settled\",\"balance\":\"{}.{:02}\",\
             \"reference\":\"{:08x}\",\"note\":\"monthly standing order\"}}",
            number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            number % 97,
            number / 60_000 % 60,
            number / 1_000 % 60,
            number % 1_000_000,
            number % 911,
            number % 100,
            number % 100_003,
            number % 100,
            number.wrapping_mul(2_654_435_761) & 0xffff_ffff,
        )?;
        let partition = (number % partitions as u64) as i32;
        let mut record = BaseRecord::to(topic)
            .partition(partition)
            .key(&key)
            .payload(&value);
        while let Err((error, unsent)) = producer.send(record) {
            match error {
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => record = unsent,
                other => return Err(other.into()),
            }
            producer.poll(Duration::from_millis(10));
        }
    }
    producer.flush(PATIENCE)?;
    Ok(())
}

#[derive(Default)]
struct Measured {
    events: u64,
    /// Of keys and values.
    bytes: u64,
    chunks: u64,
    seconds: f64,
    cpu_seconds: f64,
}

fn measure(readers: Vec<(Way, Partition, Offset)>) -> Outcome<Measured> {
    let (begun, cpu_before) = (Instant::now(), cpu_seconds()?);
    let threads: Vec<_> = readers
        .into_iter()
        .map(|(way, partition, end)| {
            std::thread::spawn(move || match way {
                Way::Chunks(reader) => read_chunks(reader, partition, end),
                Way::Poll(consumer) => poll_all(&consumer, end),
            })
        })
        .collect();
    let mut all = Measured::default();
    for thread in threads {
        let one = thread.join().map_err(|_| "a reader panicked")??;
        all.events += one.events;
        all.bytes += one.bytes;
        all.chunks += one.chunks;
    }
    all.seconds = begun.elapsed().as_secs_f64();
    all.cpu_seconds = cpu_seconds()? - cpu_before;
    Ok(all)
}

fn read_chunks(
    mut reader: Box<dyn ChunkReader>,
    partition: Partition,
    end: Offset,
) -> Outcome<Measured> {
    let mut chunk = Chunk::new(partition, Offset(0));
    let mut one = Measured::default();
    while chunk.to() < end && !chunk.end_of_log() {
        reader.read(&mut chunk, LIMIT, PATIENCE)?;
        one.events += chunk.len() as u64;
        one.bytes += chunk.bytes() as u64;
        one.chunks += 1;
    }
    Ok(one)
}

fn poll_all(consumer: &BaseConsumer, end: Offset) -> Outcome<Measured> {
    let mut one = Measured::default();
    let mut next = 0;
    while next < end.0 {
        let message = consumer.poll(PATIENCE).ok_or("no message came")??;
        next = message.offset() + 1;
        let value = message.payload().map_or(0, <[u8]>::len);
        one.events += 1;
        one.bytes += (value + message.key().map_or(0, <[u8]>::len)) as u64;
    }
    Ok(one)
}

/// CPU time of all threads of this process so far, from the kernel's ticks of 10 ms.
fn cpu_seconds() -> Outcome<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // Behind the name in parentheses: user and system ticks are fields 14 and 15 of the line.
    let (_, fields) = stat.rsplit_once(')').ok_or("no process name")?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<f64>);
    let user = ticks.next().ok_or("no user time")??;
    let system = ticks.next().ok_or("no system time")??;
    Ok((user + system) / 100.0)
}

fn resident_megabytes() -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .ok_or("no resident size")?;
    let kibibytes: u64 = line
        .split_whitespace()
        .nth(1)
        .ok_or("no resident size")?
        .parse()?;
    Ok(kibibytes / 1024)
}
