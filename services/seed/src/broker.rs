//! The few questions that seeding asks a broker.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::util::Timeout;
use rdkafka::{Offset, Timestamp, TopicPartitionList};

use crate::error::SeedError;

/// How long one question to the broker may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// How long the first answer may take, connecting included.
const CONNECTED_WITHIN: Duration = Duration::from_secs(8);

/// A topic on a cluster.
#[derive(Debug, Clone)]
pub struct Target {
    /// Bootstrap servers, `host:port` with commas between.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// Further client settings (names as librdkafka has them), for clusters
    /// that ask for credentials. They cannot override what seeding relies on.
    pub client: Vec<(String, String)>,
}

impl Target {
    /// A topic on a cluster that needs no further settings.
    pub fn new(brokers: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic: topic.into(),
            client: Vec::new(),
        }
    }

    /// The topic beside it that holds the seed parameters.
    pub(crate) fn companion(&self) -> Target {
        Target {
            topic: format!("{}.seed", self.topic),
            ..self.clone()
        }
    }

    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        // A broker that comes back is found soon, however long it was away.
        config.set("reconnect.backoff.max.ms", "1000");
        for (name, value) in &self.client {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.brokers);
        config
    }

    pub(crate) fn error(&self, doing: &'static str) -> impl Fn(KafkaError) -> SeedError + '_ {
        move |source| SeedError::Broker {
            doing,
            brokers: self.brokers.clone(),
            source,
        }
    }

    /// Creates the topic; `false` if it exists already, whatever it looks like.
    pub(crate) fn create(&self, partitions: u32, replication: i32) -> Result<bool, SeedError> {
        let failed = self.error("create the topic");
        let admin: AdminClient<DefaultClientContext> = self.config().create().map_err(&failed)?;
        // Record times are event times and reach over years. By default a
        // segment ends after seven days of them, which would cut a log into a
        // hundred files a partition.
        let topic = NewTopic::new(
            &self.topic,
            partitions as i32,
            TopicReplication::Fixed(replication),
        )
        .set("cleanup.policy", "delete")
        .set("retention.ms", "-1")
        .set("retention.bytes", "-1")
        .set("compression.type", "producer")
        .set("message.timestamp.type", "CreateTime")
        .set("segment.ms", "9223372036854775");
        let options = AdminOptions::new().request_timeout(Some(ANSWER_WITHIN));
        let answers = futures::executor::block_on(admin.create_topics([&topic], &options))
            .map_err(&failed)?;
        match answers.into_iter().next() {
            None | Some(Ok(_)) => {
                self.wait_until_visible(partitions)?;
                Ok(true)
            }
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, code))) => Err(failed(KafkaError::AdminOp(code))),
        }
    }

    /// A created topic has leaders only a little later.
    fn wait_until_visible(&self, partitions: u32) -> Result<(), SeedError> {
        let deadline = std::time::Instant::now() + ANSWER_WITHIN;
        let asker = self.asker()?;
        loop {
            let answer = (0..partitions).try_for_each(|partition| {
                asker
                    .fetch_watermarks(&self.topic, partition as i32, ANSWER_WITHIN)
                    .map(|_| ())
            });
            match answer {
                Ok(()) => return Ok(()),
                Err(error) if std::time::Instant::now() > deadline => {
                    return Err(self.error("see the new topic")(error));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Number of partitions, or `None` if there is no such topic.
    pub(crate) fn partitions(&self) -> Result<Option<u32>, SeedError> {
        // The first question of every command: a broker that is not there
        // should be noticed soon.
        let metadata = self
            .asker()?
            .fetch_metadata(Some(&self.topic), CONNECTED_WITHIN)
            .map_err(self.error("read the topic's metadata"))?;
        let topic = metadata
            .topics()
            .iter()
            .find(|topic| topic.name() == self.topic);
        Ok(match topic {
            Some(topic) if topic.error().is_none() && !topic.partitions().is_empty() => {
                Some(topic.partitions().len() as u32)
            }
            _ => None,
        })
    }

    /// Host and port of the partition's leader.
    pub(crate) fn leader(
        &self,
        asker: &BaseConsumer,
        partition: u32,
    ) -> Result<(String, u16), SeedError> {
        let failed = self.error("find a partition's leader");
        let metadata = asker
            .fetch_metadata(Some(&self.topic), CONNECTED_WITHIN)
            .map_err(&failed)?;
        let mut partitions = metadata.topics().iter().flat_map(|t| t.partitions());
        let leader = partitions
            .find(|p| p.id() == partition.cast_signed())
            .map(|p| p.leader());
        metadata
            .brokers()
            .iter()
            .find(|broker| Some(broker.id()) == leader)
            .and_then(|broker| Some((broker.host().to_owned(), broker.port().try_into().ok()?)))
            .ok_or_else(|| {
                failed(KafkaError::MetadataFetch(
                    RDKafkaErrorCode::LeaderNotAvailable,
                ))
            })
    }

    /// A client for questions about the topic. Without a group, so that
    /// nothing has to be left when it is dropped.
    pub(crate) fn asker(&self) -> Result<BaseConsumer, SeedError> {
        self.config()
            .set("allow.auto.create.topics", "false")
            .create()
            .map_err(self.error("connect"))
    }

    /// A client that reads single records. Assigning partitions takes a group
    /// id; nothing is committed to it.
    pub(crate) fn reader(&self) -> Result<BaseConsumer, SeedError> {
        self.config()
            .set("group.id", "refold-seed")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            // Single records are read, so nothing is fetched ahead.
            .set("queued.min.messages", "1")
            .set("fetch.message.max.bytes", "65536")
            .set("fetch.wait.max.ms", "10")
            .set("allow.auto.create.topics", "false")
            .create()
            .map_err(self.error("connect"))
    }

    /// First and next offset of every partition.
    pub(crate) fn watermarks(
        &self,
        asker: &BaseConsumer,
        partitions: u32,
    ) -> Result<Vec<(u64, u64)>, SeedError> {
        (0..partitions)
            .map(|partition| self.watermark(asker, partition))
            .collect()
    }

    /// First and next offset of one partition.
    pub(crate) fn watermark(
        &self,
        asker: &BaseConsumer,
        partition: u32,
    ) -> Result<(u64, u64), SeedError> {
        asker
            .fetch_watermarks(&self.topic, partition as i32, ANSWER_WITHIN)
            .map(|(low, high)| (low.max(0) as u64, high.max(0) as u64))
            .map_err(self.error("read the end of the log"))
    }

    /// The record at `offset`, which must exist.
    pub(crate) fn record(
        &self,
        reader: &BaseConsumer,
        partition: u32,
        offset: u64,
    ) -> Result<StoredRecord, SeedError> {
        let failed = self.error("read a record");
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(&self.topic, partition as i32, Offset::Offset(offset as i64))
            .map_err(&failed)?;
        reader.assign(&assignment).map_err(&failed)?;
        let message = reader
            .poll(Timeout::After(ANSWER_WITHIN))
            .unwrap_or(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::OperationTimedOut,
            )))
            .map_err(&failed)?;
        Ok(StoredRecord {
            offset: message.offset(),
            key: message.key().unwrap_or_default().to_vec(),
            value: message.payload().unwrap_or_default().to_vec(),
            timestamp_ms: match message.timestamp() {
                Timestamp::CreateTime(ms) => Some(ms),
                Timestamp::NotAvailable | Timestamp::LogAppendTime(_) => None,
            },
        })
    }
}

/// A record as it was read back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StoredRecord {
    pub(crate) offset: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) timestamp_ms: Option<i64>,
}

/// Next offset of every partition of a topic, from the broker.
///
/// # Errors
/// When there is no such topic, or the broker does not answer.
pub fn end_offsets(target: &Target) -> Result<Vec<u64>, SeedError> {
    let partitions = target
        .partitions()?
        .ok_or_else(|| SeedError::NoTopic(target.topic.clone()))?;
    let watermarks = target.watermarks(&target.asker()?, partitions)?;
    Ok(watermarks.into_iter().map(|(_, next)| next).collect())
}
