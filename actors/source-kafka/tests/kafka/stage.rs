//! Stages topics on a real broker: creates them, writes to them with and
//! without transactions, deletes the head of their log.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::TopicPartitionList;
use rdkafka::admin::AdminClient;
use rdkafka::admin::AdminOptions;
use rdkafka::admin::NewTopic;
use rdkafka::admin::TopicReplication;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::Consumer;
use rdkafka::producer::FutureProducer;
use rdkafka::producer::FutureRecord;
use rdkafka::producer::Producer;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::conformance::log::LogHarness;
use refold_ports::conformance::log::NewRecord;
use refold_ports::conformance::log::StagedTopic;
use refold_ports::conformance::log::StagedTransaction;
use refold_ports::source::LogSource;
use refold_ports::source::ReadMode;
use refold_source_kafka::BulkClient;
use refold_source_kafka::KafkaConfig;
use refold_source_kafka::KafkaSource;

/// The ways in which a partition is read.
pub(crate) const WAYS: [(BulkClient, ReadMode); 3] = [
    (BulkClient::Raw, ReadMode::Bulk),
    (BulkClient::Librdkafka, ReadMode::Bulk),
    (BulkClient::Raw, ReadMode::Tail),
];

/// Longest wait for anything that the broker does on request.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` answers something.
pub(crate) async fn eventually<T, F>(what: &str, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(answer) = condition().await {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited for {what} in vain");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .expect("the blocking work does not panic")
}

/// A broker's clients for staging; they share nothing with the adapter.
#[derive(Clone)]
pub(crate) struct Broker {
    brokers: String,
    bulk_client: BulkClient,
    admin: Arc<AdminClient<DefaultClientContext>>,
    producer: FutureProducer,
    committed: Arc<BaseConsumer>,
    uncommitted: Arc<BaseConsumer>,
}

impl Broker {
    pub(crate) fn new(brokers: &str) -> Self {
        let client = |settings: &[(&str, &str)]| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", brokers);
            for (name, value) in settings {
                config.set(*name, *value);
            }
            config
        };
        let watcher = |level| {
            let consumer = client(&[("isolation.level", level)]).create();
            Arc::new(consumer.expect("a consumer that only asks"))
        };
        Self {
            brokers: brokers.to_owned(),
            bulk_client: BulkClient::default(),
            admin: Arc::new(client(&[]).create().expect("an admin client")),
            producer: producer(brokers, &[("enable.idempotence", "true")]),
            committed: watcher("read_committed"),
            uncommitted: watcher("read_uncommitted"),
        }
    }

    /// The same stage, whose topics are read by `client`.
    pub(crate) fn read_by(mut self, client: BulkClient) -> Self {
        self.bulk_client = client;
        self
    }

    /// Creates a topic and waits until every partition has a leader.
    pub(crate) async fn create_topic(&self, name: &str, partitions: i32) {
        self.create_topic_with(name, partitions, 1, &[]).await;
    }

    /// Creates a topic with `replicas` copies and settings of its own.
    pub(crate) async fn create_topic_with(
        &self,
        name: &str,
        partitions: i32,
        replicas: i32,
        settings: &[(&str, &str)],
    ) {
        let replicas = TopicReplication::Fixed(replicas);
        let topic = settings.iter().fold(
            NewTopic::new(name, partitions, replicas),
            |topic, (setting, value)| topic.set(setting, value),
        );
        let created = self.admin.create_topics([&topic], &options()).await;
        created.expect("the request is answered")[0]
            .as_ref()
            .expect("the topic is created");
        eventually("leaders of all partitions", || async {
            let (asker, name) = (Arc::clone(&self.committed), name.to_owned());
            let metadata = blocking(move || asker.fetch_metadata(Some(&name), PATIENCE)).await;
            let metadata = metadata.ok()?;
            let described = metadata.topics().first()?.partitions();
            let led = described.iter().filter(|p| p.leader() >= 0).count();
            (led == partitions as usize).then_some(())
        })
        .await;
    }

    pub(crate) async fn delete_topic(&self, name: &str) {
        let deleted = self.admin.delete_topics(&[name], &options()).await;
        deleted.expect("the request is answered")[0]
            .as_ref()
            .expect("the topic is deleted");
    }

    /// The broker that leads a partition.
    pub(crate) async fn leader(&self, topic: &str, partition: Partition) -> i32 {
        let (asker, topic) = (Arc::clone(&self.committed), topic.to_owned());
        let metadata = blocking(move || asker.fetch_metadata(Some(&topic), PATIENCE)).await;
        let metadata = metadata.expect("the brokers answer");
        let mut partitions = metadata.topics()[0].partitions().iter();
        let led = partitions.find(|led| led.id() == partition.0);
        led.expect("the partition is known").leader()
    }

    /// The end of a partition: of everything, or of what is committed.
    async fn end(&self, topic: &str, partition: Partition, committed: bool) -> i64 {
        let asker = match committed {
            true => Arc::clone(&self.committed),
            false => Arc::clone(&self.uncommitted),
        };
        let topic = topic.to_owned();
        let ends = blocking(move || asker.fetch_watermarks(&topic, partition.0, PATIENCE)).await;
        ends.expect("the broker knows its watermarks").1
    }
}

/// A producer of small batches, so that a log of a few records has several.
pub(crate) fn producer(brokers: &str, settings: &[(&str, &str)]) -> FutureProducer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("linger.ms", "1")
        .set("batch.size", "32768");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config.create().expect("a producer")
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .operation_timeout(Some(PATIENCE))
}

/// Sends records in order and waits until all are in the log.
pub(crate) async fn send(
    producer: &FutureProducer,
    topic: &str,
    partition: Partition,
    records: Vec<NewRecord>,
) {
    let mut deliveries = Vec::new();
    for record in &records {
        let mut message: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic)
            .partition(partition.0)
            .timestamp(record.ts_millis);
        if !record.key.is_empty() {
            message = message.key(&record.key);
        }
        if let Some(value) = &record.value {
            message = message.payload(value);
        }
        let sent = producer.send_result(message).map_err(|(error, _)| error);
        deliveries.push(sent.expect("the producer takes the record"));
    }
    for delivery in deliveries {
        delivery
            .await
            .expect("the producer is alive")
            .map_err(|(error, _)| error)
            .expect("the record is in the log");
    }
}

#[async_trait]
impl LogHarness for Broker {
    async fn create(&self, partitions: i32) -> Arc<dyn StagedTopic> {
        let name = refold_local::testing::unique_topic("log-conformance");
        self.create_topic(&name, partitions).await;
        Arc::new(Topic::new(self, &name))
    }

    fn missing(&self) -> Arc<dyn LogSource> {
        let name = refold_local::testing::unique_topic("never-created");
        Arc::new(source_by(self.bulk_client, &self.brokers, &name))
    }
}

/// The adapter under test.
pub(crate) fn source(brokers: &str, topic: &str) -> KafkaSource {
    source_by(BulkClient::default(), brokers, topic)
}

/// The adapter under test, whose history is read by `client`.
pub(crate) fn source_by(client: BulkClient, brokers: &str, topic: &str) -> KafkaSource {
    let config = KafkaConfig::new(brokers).with_bulk_client(client);
    KafkaSource::new(config, topic).expect("a legal configuration")
}

pub(crate) struct Topic {
    broker: Broker,
    name: String,
    source: KafkaSource,
}

impl Topic {
    pub(crate) fn new(broker: &Broker, name: &str) -> Self {
        Self {
            broker: broker.clone(),
            name: name.to_owned(),
            source: source_by(broker.bulk_client, &broker.brokers, name),
        }
    }
}

#[async_trait]
impl StagedTopic for Topic {
    fn source(&self) -> Arc<dyn LogSource> {
        Arc::new(self.source.clone())
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    async fn produce(&self, partition: Partition, records: Vec<NewRecord>) {
        send(&self.broker.producer, &self.name, partition, records).await;
    }

    async fn begin(
        &self,
        partition: Partition,
        records: Vec<NewRecord>,
    ) -> Box<dyn StagedTransaction> {
        let id = refold_local::testing::unique_topic("log-conformance");
        let producer = producer(&self.broker.brokers, &[("transactional.id", &id)]);
        let beginner = producer.clone();
        blocking(move || {
            beginner
                .init_transactions(PATIENCE)
                .and_then(|()| beginner.begin_transaction())
        })
        .await
        .expect("a transaction begins");
        send(&producer, &self.name, partition, records).await;
        Box::new(Transaction {
            producer,
            broker: self.broker.clone(),
            topic: self.name.clone(),
            partition,
        })
    }

    async fn delete_below(&self, partition: Partition, low: Offset) {
        let mut below = TopicPartitionList::new();
        below
            .add_partition_offset(&self.name, partition.0, rdkafka::Offset::Offset(low.0))
            .expect("a legal offset");
        let deleted = self.broker.admin.delete_records(&below, &options()).await;
        for partition in deleted.expect("the request is answered").elements() {
            partition.error().expect("the records are deleted");
        }
    }
}

struct Transaction {
    producer: FutureProducer,
    broker: Broker,
    topic: String,
    partition: Partition,
}

impl Transaction {
    /// Ends it, and waits for the marker: the coordinator answers before it
    /// has written one to every partition.
    async fn end(self, commit: bool) {
        let marker = self.broker.end(&self.topic, self.partition, false).await;
        let producer = self.producer.clone();
        blocking(move || match commit {
            true => producer.commit_transaction(PATIENCE),
            false => producer.abort_transaction(PATIENCE),
        })
        .await
        .expect("the transaction ends");
        eventually("the transaction's marker", || async {
            let stable = self.broker.end(&self.topic, self.partition, true).await;
            (stable > marker).then_some(())
        })
        .await;
    }
}

#[async_trait]
impl StagedTransaction for Transaction {
    async fn commit(self: Box<Self>) {
        self.end(true).await;
    }

    async fn abort(self: Box<Self>) {
        self.end(false).await;
    }
}
