//! The topic as a `LogSource`.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use refold_domain::log::TopicIdentity;
use refold_domain::log::Watermarks;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::source::ChunkReader;
use refold_ports::source::LogSource;
use refold_ports::source::ReadMode;
use refold_ports::source::SourceError;
use refold_ports::source::inside;

use crate::client::Client;
use crate::config::BulkClient;
use crate::config::ConfigError;
use crate::config::KafkaConfig;
use crate::question;
use crate::raw;
use crate::raw::RawReader;
use crate::reader;
use crate::reader::KafkaReader;
use crate::reader::Stand;
use crate::settings;
use crate::settings::Purpose;
use crate::tail::TailClients;

/// Longest name that Kafka allows for a topic.
const TOPIC_NAME_BYTES: usize = 249;

/// A Kafka topic as Refold's log. Cheap to clone; clones share their clients.
#[derive(Clone)]
pub struct KafkaSource {
    inner: Arc<Inner>,
}

struct Inner {
    config: KafkaConfig,
    topic: Arc<str>,
    /// How the raw reader reaches the cluster; `None` leaves history to librdkafka.
    raw: Option<Arc<raw::Options>>,
    /// The client for watermarks; started by the first question.
    questions: Mutex<Option<Arc<Client>>>,
    tails: TailClients,
    /// Partitions by the last metadata; 0 before the first. The number of a
    /// topic only grows, so that what is below it exists.
    partitions: AtomicI32,
}

impl KafkaSource {
    /// A source of `topic`. Connects to nothing yet.
    ///
    /// # Errors
    /// [`ConfigError`] when a client refuses the configuration or a file that
    /// it names, no broker is named, or `topic` is not a topic's name.
    pub fn new(config: KafkaConfig, topic: impl Into<String>) -> Result<Self, ConfigError> {
        let topic = topic.into();
        let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        if topic.is_empty() || topic.len() > TOPIC_NAME_BYTES || !topic.bytes().all(legal) {
            return Err(ConfigError::TopicName(topic));
        }
        for purpose in [Purpose::Questions, Purpose::Bulk, Purpose::Tail] {
            settings::client_config(&config, purpose)?;
        }
        let raw = match config.bulk_client() {
            BulkClient::Raw => raw_options(&config)?,
            BulkClient::Librdkafka => None,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                raw,
                topic: topic.into(),
                questions: Mutex::new(None),
                tails: TailClients::default(),
                partitions: AtomicI32::new(0),
            }),
        })
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.inner.topic
    }

    /// Asks on a thread that may block, as librdkafka's questions do.
    async fn ask<T, F>(&self, question: F) -> Result<T, SourceError>
    where
        T: Send + 'static,
        F: FnOnce(&Inner) -> Result<T, SourceError> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || question(&inner))
            .await
            .unwrap_or_else(|error| {
                Err(SourceError::Fatal(format!(
                    "the thread that asks kafka ended early: {error}"
                )))
            })
    }
}

fn raw_options(config: &KafkaConfig) -> Result<Option<Arc<raw::Options>>, ConfigError> {
    match raw::Options::choose(config)? {
        raw::Choice::Raw(options) => Ok(Some(options)),
        raw::Choice::Librdkafka { property } => {
            tracing::info!(
                property,
                "history is read by librdkafka: the raw client cannot honour this property"
            );
            Ok(None)
        }
    }
}

impl Inner {
    fn question_slot(&self) -> MutexGuard<'_, Option<Arc<Client>>> {
        self.questions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn questions(&self) -> Result<Arc<Client>, SourceError> {
        let mut slot = self.question_slot();
        match &*slot {
            Some(client) if client.check_log().is_ok() => Ok(Arc::clone(client)),
            // None yet, or one that has known another log.
            _ => {
                let client = Arc::new(Client::start(&self.config, Purpose::Questions)?);
                *slot = Some(Arc::clone(&client));
                Ok(client)
            }
        }
    }

    fn identity(&self) -> Result<TopicIdentity, SourceError> {
        let client = Client::start(&self.config, Purpose::Questions)?;
        let identity = question::identity(&client, &self.topic)?;
        self.partitions
            .fetch_max(identity.partitions, Ordering::Relaxed);
        Ok(identity)
    }

    /// The ends of a partition. A client that was not answered is not asked again: it may have
    /// lost the brokers for good (see `KafkaReader::unanswered`), and the next one is cheap.
    fn watermarks(&self, partition: Partition) -> Result<Watermarks, SourceError> {
        let client = self.questions()?;
        let ends = self.watermarks_by(&client, partition);
        if ends.as_ref().is_err_and(SourceError::is_transient) {
            let mut slot = self.question_slot();
            if slot.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, &client)) {
                *slot = None;
            }
        }
        ends
    }

    fn watermarks_by(
        &self,
        client: &Client,
        partition: Partition,
    ) -> Result<Watermarks, SourceError> {
        // librdkafka waits its whole deadline for the leader of a partition
        // that does not exist; the partition count answers at once.
        if partition.0 < 0 || partition.0 >= self.partitions.load(Ordering::Relaxed) {
            let count = question::partition_count(client, &self.topic)?;
            self.partitions.fetch_max(count, Ordering::Relaxed);
            if partition.0 < 0 || partition.0 >= count {
                return Err(question::no_partition(&self.topic, partition, count));
            }
        }
        let ends = question::watermarks(client, &self.topic, partition);
        client.serve();
        ends
    }

    fn open(
        &self,
        partition: Partition,
        from: Offset,
        mode: ReadMode,
    ) -> Result<Box<dyn ChunkReader>, SourceError> {
        if let (ReadMode::Bulk, Some(options)) = (mode, &self.raw) {
            let (options, topic) = (Arc::clone(options), Arc::clone(&self.topic));
            let reader = RawReader::open(options, topic, partition, from)?;
            return Ok(Box::new(reader));
        }
        inside(self.watermarks(partition)?, partition, from)?;
        let stand = Stand {
            topic: Arc::clone(&self.topic),
            partition,
            from,
            mode,
        };
        let (client, slot) = match mode {
            // A client decodes on one thread per broker: a client per bulk
            // reader is what lets two of them use two cores.
            ReadMode::Bulk => (Arc::new(Client::start(&self.config, Purpose::Bulk)?), None),
            ReadMode::Tail => {
                let slot = self.tails.slot(&self.config, partition)?;
                (Arc::clone(slot.client()), Some(slot))
            }
        };
        let reader = KafkaReader::open(client, slot, stand).map_err(reader::fatal)?;
        Ok(Box::new(reader))
    }
}

#[async_trait]
impl LogSource for KafkaSource {
    async fn identity(&self) -> Result<TopicIdentity, SourceError> {
        self.ask(Inner::identity).await
    }

    async fn watermarks(&self, partition: Partition) -> Result<Watermarks, SourceError> {
        self.ask(move |inner| inner.watermarks(partition)).await
    }

    async fn open(
        &self,
        partition: Partition,
        from: Offset,
        mode: ReadMode,
    ) -> Result<Box<dyn ChunkReader>, SourceError> {
        self.ask(move |inner| inner.open(partition, from, mode))
            .await
    }
}

impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSource")
            .field("config", &self.inner.config)
            .field("topic", &self.inner.topic)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::created_topic;

    #[test]
    fn a_name_that_kafka_does_not_allow_is_refused_before_it_is_sent() {
        for name in ["", "a b", "événements", &"x".repeat(250)] {
            let refused = KafkaSource::new(KafkaConfig::new("127.0.0.1:1"), name);
            assert!(matches!(refused, Err(ConfigError::TopicName(_))), "{name}");
        }
    }

    #[tokio::test]
    async fn a_client_that_was_not_answered_is_not_asked_again() {
        let (brokers, topic) = created_topic("asked").await;
        let config = KafkaConfig::new(brokers).with_deadline(std::time::Duration::from_secs(2));
        let lost = Client::lost(&config, Purpose::Questions);
        let source = KafkaSource::new(config, topic).expect("a legal topic");
        *source.inner.question_slot() = Some(Arc::new(lost));
        let answer = source.watermarks(Partition(0)).await;
        assert!(
            matches!(&answer, Err(SourceError::Unreachable(_))),
            "{answer:?}"
        );
        let answer = source.watermarks(Partition(0)).await;
        assert_eq!(answer.map(|ends| ends.high), Ok(Offset(0)));
    }

    #[tokio::test]
    async fn a_broker_that_is_not_there_is_unreachable_within_the_deadline() {
        let config =
            KafkaConfig::new("127.0.0.1:1").with_deadline(std::time::Duration::from_millis(300));
        let source = KafkaSource::new(config, "events").expect("a legal topic");
        let asked = std::time::Instant::now();
        let answer = source.identity().await;
        assert!(
            matches!(&answer, Err(SourceError::Unreachable(_))),
            "{answer:?}"
        );
        assert!(asked.elapsed() < std::time::Duration::from_secs(5));
    }
}
