//! How much CPU a record costs the bulk reader.
//!
//! ```text
//! cargo run --release -p refold-source-kafka --example read_rate -- \
//!     BROKERS [EVENTS [PARTITIONS [PROPERTY=VALUE ...]]]
//! ```
//!
//! Per codec it fills a topic of its own with events of about 250 bytes that
//! compress like real ones, reads it back with one bulk reader per partition
//! on a thread of its own, and prints events per second and the CPU time of
//! this process (reader thread and librdkafka's threads) per event.

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::time::Duration;
use std::time::Instant;

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::admin::AdminOptions;
use rdkafka::admin::NewTopic;
use rdkafka::admin::TopicReplication;
use rdkafka::client::DefaultClientContext;
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
use refold_source_kafka::KafkaConfig;
use refold_source_kafka::KafkaSource;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const CODECS: [&str; 2] = ["lz4", "zstd"];
const PATIENCE: Duration = Duration::from_secs(30);
const LIMIT: ReadLimit = ReadLimit {
    records: 16_384,
    bytes: 4 << 20,
};

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let brokers = args.next().ok_or("name the brokers as host:port")?;
    let events = args.next().map_or(Ok(4_000_000), |n| n.parse::<u64>())?;
    let partitions = args.next().map_or(Ok(1), |n| n.parse::<i32>())?;
    let mut config = KafkaConfig::new(&brokers);
    for property in args {
        let (name, value) = property.split_once('=').ok_or("PROPERTY=VALUE")?;
        config = config.with_property(name, value)?;
    }
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .create()?;
    for codec in CODECS {
        let topic = format!("read-rate-{codec}-{}", std::process::id());
        let bytes = {
            let new = NewTopic::new(&topic, partitions, TopicReplication::Fixed(1));
            for created in admin.create_topics([&new], &AdminOptions::new()).await? {
                created.map_err(|(name, code)| format!("{name}: {code}"))?;
            }
            produce(&brokers, &topic, codec, events, partitions)?
        };
        let source = KafkaSource::new(config.clone(), &topic)?;
        let mut readers = Vec::new();
        for partition in 0..partitions {
            let partition = Partition(partition);
            let end = source.watermarks(partition).await?.high;
            let reader = source.open(partition, Offset(0), ReadMode::Bulk).await?;
            readers.push((reader, partition, end));
        }
        let measured = measure(readers)?;
        println!(
            "{codec}: {} events of {} B in {:.2} s = {:.2}M/s, {:.0} ns of CPU an event, {} per chunk, {} MB resident",
            measured.events,
            bytes / events,
            measured.seconds,
            measured.events as f64 / measured.seconds / 1e6,
            measured.cpu_seconds * 1e9 / measured.events as f64,
            measured.events / measured.chunks.max(1),
            resident_megabytes()?,
        );
        admin.delete_topics(&[&topic], &AdminOptions::new()).await?;
    }
    Ok(())
}

/// Fills the topic; answers the bytes of keys and values.
fn produce(brokers: &str, topic: &str, codec: &str, events: u64, partitions: i32) -> Outcome<u64> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("compression.type", codec)
        .set("linger.ms", "50")
        .set("batch.size", "131072")
        .set("queue.buffering.max.messages", "200000")
        .create()?;
    let mut bytes = 0;
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
        bytes += (key.len() + value.len()) as u64;
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
    Ok(bytes)
}

struct Measured {
    events: u64,
    chunks: u64,
    seconds: f64,
    cpu_seconds: f64,
}

fn measure(readers: Vec<(Box<dyn ChunkReader>, Partition, Offset)>) -> Outcome<Measured> {
    let (begun, cpu_before) = (Instant::now(), cpu_seconds()?);
    let threads: Vec<_> = readers
        .into_iter()
        .map(|(reader, partition, end)| {
            std::thread::spawn(move || read_all(reader, partition, end))
        })
        .collect();
    let (mut events, mut chunks) = (0, 0);
    for thread in threads {
        let (e, c) = thread.join().map_err(|_| "a reader panicked")??;
        events += e;
        chunks += c;
    }
    Ok(Measured {
        events,
        chunks,
        seconds: begun.elapsed().as_secs_f64(),
        cpu_seconds: cpu_seconds()? - cpu_before,
    })
}

/// Reads up to `end`; answers events and chunks.
fn read_all(
    mut reader: Box<dyn ChunkReader>,
    partition: Partition,
    end: Offset,
) -> Outcome<(u64, u64)> {
    let mut chunk = Chunk::new(partition, Offset(0));
    let (mut events, mut chunks) = (0, 0);
    while chunk.to() < end {
        reader.read(&mut chunk, LIMIT, PATIENCE)?;
        events += chunk.len() as u64;
        chunks += 1;
    }
    Ok((events, chunks))
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
